#include "server/security/tls_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <fstream>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "tests/fakes/temp_folder.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

constexpr int kLifetimeSeconds = 3600;

struct KeyPair {
  std::string certificate;
  std::string key;
};

template <typename Write>
std::string ToPem(Write write) {
  BIO* bio = BIO_new(BIO_s_mem());
  EXPECT_EQ(write(bio), 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  const std::string pem(data, static_cast<size_t>(size));
  BIO_free(bio);
  return pem;
}

// A self-signed certificate and its key; frees `key`.
KeyPair MakeKeyPair(EVP_PKEY* key, const char* passphrase = nullptr) {
  X509* certificate = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate), kLifetimeSeconds);
  X509_set_pubkey(certificate, key);
  EXPECT_GT(X509_sign(certificate, key, EVP_sha256()), 0);
  KeyPair pair;
  pair.certificate = ToPem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
  pair.key = ToPem([&](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key, passphrase == nullptr ? nullptr : EVP_aes_128_cbc(),
                                    nullptr, 0, nullptr, const_cast<char*>(passphrase));
  });
  X509_free(certificate);
  EVP_PKEY_free(key);
  return pair;
}

KeyPair MakeKeyPair(const char* passphrase = nullptr) {
  return MakeKeyPair(EVP_EC_gen("P-256"), passphrase);
}

class TlsFilesTest : public testing::Test {
 protected:
  TlsFilesTest() { Write(MakeKeyPair()); }

  void Write(const KeyPair& pair) {
    std::ofstream(paths_.certificate_file) << pair.certificate;
    std::ofstream(paths_.key_file) << pair.key;
  }

  // Reading must fail with all of `words`.
  void ExpectError(std::initializer_list<std::string> words) {
    const absl::Status status = ReadTlsFiles(paths_).status();
    EXPECT_FALSE(status.ok());
    for (const std::string& word : words) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(word));
    }
  }

  const TempFolder folder_;
  TlsPaths paths_ = {folder_ / "cert.pem", folder_ / "key.pem", ""};
};

TEST_F(TlsFilesTest, TakesACertificateAndItsKey) {
  const auto material = ReadTlsFiles(paths_);
  ASSERT_TRUE(material.ok()) << material.status();
  EXPECT_THAT(material->certificates, HasSubstr("BEGIN CERTIFICATE"));
  EXPECT_THAT(material->private_key, HasSubstr("PRIVATE KEY"));
  EXPECT_EQ(material->client_ca, "");
  const absl::Duration left = material->expiry - absl::Now();
  EXPECT_GT(left, absl::Seconds(kLifetimeSeconds - 60));
  EXPECT_LE(left, absl::Seconds(kLifetimeSeconds + 1));
}

TEST_F(TlsFilesTest, TakesAChainAndSeveralClientCas) {
  KeyPair pair = MakeKeyPair();
  pair.certificate += "\nof the one that signed it:\n" + MakeKeyPair().certificate;
  Write(pair);
  paths_.client_ca_file = folder_ / "ca.pem";
  std::ofstream(paths_.client_ca_file) << MakeKeyPair().certificate << MakeKeyPair().certificate;
  const auto material = ReadTlsFiles(paths_);
  ASSERT_TRUE(material.ok()) << material.status();
  EXPECT_THAT(material->client_ca, HasSubstr("BEGIN CERTIFICATE"));
}

TEST_F(TlsFilesTest, ErrorsNameFlagAndFile) {
  const KeyPair good = MakeKeyPair();
  std::remove(paths_.certificate_file.c_str());
  ExpectError({"--tls_cert_file: ", paths_.certificate_file, "cannot be opened"});
  Write({good.certificate, ""});
  ExpectError({"--tls_key_file: ", paths_.key_file, "no private key in PEM format"});
  Write({"not PEM", good.key});
  ExpectError({"--tls_cert_file: ", paths_.certificate_file, "no certificate in PEM format"});
  Write({good.key, good.key});
  ExpectError({"--tls_cert_file: ", "no certificate in PEM format"});
  Write({good.certificate, good.certificate});
  ExpectError({"--tls_key_file: ", "no private key in PEM format"});
  Write({good.certificate + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
         good.key});
  ExpectError({"--tls_cert_file: ", "does not parse"});
  Write({good.certificate.substr(0, good.certificate.size() / 2), good.key});
  ExpectError({"--tls_cert_file: "});
  Write({good.certificate, MakeKeyPair().key});
  ExpectError(
      {"--tls_key_file: ", "is not the key of the certificate in", paths_.certificate_file});
  Write({good.certificate, MakeKeyPair(EVP_RSA_gen(2048)).key});
  ExpectError({"--tls_key_file: ", "is not the key of the certificate in"});
  const KeyPair locked = MakeKeyPair("a passphrase");
  Write(locked);
  ExpectError({"--tls_key_file: ", "needs no passphrase"});
  Write(good);
  paths_.client_ca_file = folder_ / "ca.pem";
  ExpectError({"--tls_client_ca_file: ", paths_.client_ca_file, "cannot be opened"});
  std::ofstream(paths_.client_ca_file) << good.key;
  ExpectError({"--tls_client_ca_file: ", paths_.client_ca_file, "no certificate"});
}

TEST_F(TlsFilesTest, WeakKeysAreRefusedAtTheDoor) {
  Write(MakeKeyPair(EVP_RSA_gen(512)));
  ExpectError({"--tls_cert_file: ", "cannot be used", "small"});
}

TEST_F(TlsFilesTest, NewFilesAreCurrentFromTheirReloadOn) {
  auto files = TlsFiles::Open(paths_);
  ASSERT_TRUE(files.ok()) << files.status();
  const auto before = (*files)->current();
  EXPECT_EQ(*(*files)->Reload(), false);
  EXPECT_EQ((*files)->current(), before);
  const KeyPair next = MakeKeyPair();
  Write(next);
  EXPECT_EQ((*files)->current(), before);
  EXPECT_EQ(*(*files)->Reload(), true);
  EXPECT_EQ((*files)->current()->certificates, next.certificate);
  EXPECT_EQ((*files)->current()->private_key, next.key);
}

TEST_F(TlsFilesTest, FilesThatDoNotGoTogetherLeaveWhatWasCurrent) {
  auto files = TlsFiles::Open(paths_);
  ASSERT_TRUE(files.ok()) << files.status();
  const auto before = (*files)->current();
  const KeyPair next = MakeKeyPair();
  // Half way through a rotation.
  std::ofstream(paths_.certificate_file) << next.certificate;
  EXPECT_FALSE((*files)->Reload().ok());
  EXPECT_EQ((*files)->current(), before);
  std::ofstream(paths_.key_file) << next.key;
  EXPECT_EQ(*(*files)->Reload(), true);
  EXPECT_NE((*files)->current(), before);
}

}  // namespace
}  // namespace adamoe
