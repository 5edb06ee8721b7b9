#include "client/connection.h"

#include <fstream>
#include <sstream>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/rpc.h"

ABSL_FLAG(std::string, target, "127.0.0.1:50051", "HOST:PORT of the server");
ABSL_FLAG(bool, tls, false,
          "Speaks TLS, and trusts the certificates that the system trusts unless --tls_ca_file is "
          "given");
ABSL_FLAG(std::string, tls_ca_file, "",
          "PEM file of certificates: speaks TLS, and trusts only servers whose certificate one of "
          "these has signed. Default: none");
ABSL_FLAG(std::string, tls_cert_file, "",
          "PEM file of the certificate to show to the server, with --tls_key_file (mutual TLS). "
          "Default: none");
ABSL_FLAG(std::string, tls_key_file, "", "PEM file of the key of --tls_cert_file. Default: none");
ABSL_FLAG(std::string, token_file, "",
          "File that holds the bearer token to send with every call; without TLS it can be read on "
          "the way. Default: none");

namespace adamoe {
namespace {

absl::StatusOr<std::string> ReadFile(const char* flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (file.is_open() && !content.str().empty()) return content.str();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, ": ", path, ": ", file.is_open() ? "is empty" : "cannot be read"));
}

// The files' contents; empty strings where a flag is.
absl::StatusOr<grpc::SslCredentialsOptions> ReadTlsFiles() {
  grpc::SslCredentialsOptions options;
  const struct {
    const char* flag;
    std::string path;
    std::string* content;
  } files[] = {
      {"tls_ca_file", absl::GetFlag(FLAGS_tls_ca_file), &options.pem_root_certs},
      {"tls_cert_file", absl::GetFlag(FLAGS_tls_cert_file), &options.pem_cert_chain},
      {"tls_key_file", absl::GetFlag(FLAGS_tls_key_file), &options.pem_private_key},
  };
  for (const auto& file : files) {
    if (file.path.empty()) continue;
    auto content = ReadFile(file.flag, file.path);
    if (!content.ok()) return content.status();
    *file.content = *std::move(content);
  }
  if (options.pem_cert_chain.empty() != options.pem_private_key.empty()) {
    return absl::InvalidArgumentError("--tls_cert_file and --tls_key_file go together");
  }
  return options;
}

absl::StatusOr<std::string> ReadToken() {
  const std::string path = absl::GetFlag(FLAGS_token_file);
  if (path.empty()) return std::string();
  auto content = ReadFile("token_file", path);
  if (!content.ok()) return content.status();
  const std::string token(absl::StripAsciiWhitespace(*content));
  for (const unsigned char c : token) {
    if (absl::ascii_isgraph(c)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--token_file: ", path, ": holds more than one token of visible characters"));
  }
  if (!token.empty()) return token;
  return absl::InvalidArgumentError(absl::StrCat("--token_file: ", path, ": is empty"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectByFlags() {
  const auto options = ReadTlsFiles();
  if (!options.ok()) return options.status();
  auto token = ReadToken();
  if (!token.ok()) return token.status();
  const bool tls = absl::GetFlag(FLAGS_tls) || !options->pem_root_certs.empty();
  if (!tls && !options->pem_cert_chain.empty()) {
    return absl::InvalidArgumentError("--tls_cert_file needs --tls or --tls_ca_file");
  }
  return Connect(absl::GetFlag(FLAGS_target),
                 tls ? grpc::SslCredentials(*options) : grpc::InsecureChannelCredentials(),
                 *std::move(token));
}

}  // namespace adamoe
