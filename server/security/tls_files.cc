#include "server/security/tls_files.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ctime>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/security/small_file.h"

namespace adamoe {
namespace {

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;

// A file, and the flag that named it.
struct NamedFile {
  const char* flag;
  const std::string& path;

  absl::Status Error(absl::string_view problem) const {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", path, ": ", problem));
  }

  absl::StatusOr<std::string> Read() const {
    auto content = ReadSmallFile(path);
    if (content.ok()) return content;
    return absl::Status(content.status().code(),
                        absl::StrCat("--", flag, ": ", content.status().message()));
  }
};

Bio Reader(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// OpenSSL's own words for what went wrong last.
std::string Reason() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason == nullptr ? "unknown error" : reason;
}

// Instead of asking a person for it.
int NoPassphrase(char*, int, int, void*) { return -1; }

// The first certificate; every one is parsed.
absl::StatusOr<Certificate> ParseCertificates(const NamedFile& file, const std::string& pem) {
  const Bio reader = Reader(pem);
  Certificate first;
  while (true) {
    Certificate next(PEM_read_bio_X509(reader.get(), nullptr, NoPassphrase, nullptr));
    if (next == nullptr) break;
    if (first == nullptr) first = std::move(next);
  }
  const bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string reason = Reason();
  if (first == nullptr && ended) return file.Error("holds no certificate in PEM format");
  if (!ended) return file.Error(absl::StrCat("holds a certificate that does not parse: ", reason));
  return first;
}

absl::StatusOr<Key> ParseKey(const NamedFile& file, const std::string& pem) {
  const Bio reader = Reader(pem);
  Key key(PEM_read_bio_PrivateKey(reader.get(), nullptr, NoPassphrase, nullptr));
  if (key != nullptr) return key;
  ERR_clear_error();
  return file.Error("holds no private key in PEM format that needs no passphrase");
}

absl::StatusOr<absl::Time> ExpiryOf(const NamedFile& file, const X509& certificate) {
  std::tm time = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time) != 1) {
    ERR_clear_error();
    return file.Error("holds a certificate whose time of expiry does not parse");
  }
  return absl::FromTM(time, absl::UTCTimeZone());
}

// What a listener will do with them, done once.
absl::Status CheckPair(const NamedFile& certificate_file, X509* certificate,
                       const NamedFile& key_file, EVP_PKEY* key) {
  ERR_clear_error();
  const Context context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError(absl::StrCat("no TLS context: ", Reason()));
  if (SSL_CTX_use_certificate(context.get(), certificate) != 1) {
    return certificate_file.Error(absl::StrCat("cannot be used: ", Reason()));
  }
  if (X509_check_private_key(certificate, key) != 1) {
    ERR_clear_error();
    return key_file.Error(
        absl::StrCat("is not the key of the certificate in ", certificate_file.path));
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key) != 1) {
    return key_file.Error(absl::StrCat("cannot be used: ", Reason()));
  }
  return absl::OkStatus();
}

bool SameFiles(const TlsMaterial& a, const TlsMaterial& b) {
  return a.certificates == b.certificates && a.private_key == b.private_key &&
         a.client_ca == b.client_ca;
}

}  // namespace

absl::StatusOr<TlsMaterial> ReadTlsFiles(const TlsPaths& paths) {
  const NamedFile certificate_file{"tls_cert_file", paths.certificate_file};
  const NamedFile key_file{"tls_key_file", paths.key_file};
  const NamedFile client_ca_file{"tls_client_ca_file", paths.client_ca_file};
  TlsMaterial material;
  ASSIGN_OR_RETURN(material.certificates, certificate_file.Read());
  ASSIGN_OR_RETURN(material.private_key, key_file.Read());
  ASSIGN_OR_RETURN(const Certificate certificate,
                   ParseCertificates(certificate_file, material.certificates));
  ASSIGN_OR_RETURN(const Key key, ParseKey(key_file, material.private_key));
  RETURN_IF_ERROR(CheckPair(certificate_file, certificate.get(), key_file, key.get()));
  ASSIGN_OR_RETURN(material.expiry, ExpiryOf(certificate_file, *certificate));
  if (!paths.client_ca_file.empty()) {
    ASSIGN_OR_RETURN(material.client_ca, client_ca_file.Read());
    RETURN_IF_ERROR(ParseCertificates(client_ca_file, material.client_ca).status());
  }
  return material;
}

absl::StatusOr<std::unique_ptr<TlsFiles>> TlsFiles::Open(TlsPaths paths) {
  std::unique_ptr<TlsFiles> files(new TlsFiles(std::move(paths)));
  RETURN_IF_ERROR(files->Reload().status());
  return files;
}

std::shared_ptr<const TlsMaterial> TlsFiles::current() const {
  absl::MutexLock lock(&mu_);
  return current_;
}

absl::StatusOr<bool> TlsFiles::Reload() {
  ASSIGN_OR_RETURN(TlsMaterial material, ReadTlsFiles(paths_));
  absl::MutexLock lock(&mu_);
  if (SameFiles(material, *current_)) return false;
  current_ = std::make_shared<TlsMaterial>(std::move(material));
  return true;
}

}  // namespace adamoe
