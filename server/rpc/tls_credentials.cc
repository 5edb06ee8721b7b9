// gRPC's C++ interface has two kinds of TLS credentials: of fixed certificates, and of files that
// it watches itself, which serves nobody once a file is broken. Its C interface has a third, which
// asks for the certificates before each handshake. This is the C++ side of that one.
#include "server/rpc/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace adamoe {
namespace {

class FetchedCredentials final : public grpc::ServerCredentials {
 public:
  explicit FetchedCredentials(const TlsFiles* files)
      : files_(files), wants_client_certificates_(!files->current()->client_ca.empty()) {}

  // Tokens are checked where they can be answered: in the service.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    const auto request = wants_client_certificates_
                             ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                             : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    grpc_server_credentials* credentials = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, &Fetch, this));
    const int port = grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return port;
  }

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    return static_cast<FetchedCredentials*>(self)->Fetch(config);
  }

  grpc_ssl_certificate_config_reload_status Fetch(grpc_ssl_server_certificate_config** config)
      ABSL_LOCKS_EXCLUDED(mu_) {
    auto current = files_->current();
    absl::MutexLock lock(&mu_);
    if (current == fetched_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {current->private_key.c_str(),
                                             current->certificates.c_str()};
    // gRPC insists on authorities, also where no client is asked for a certificate.
    const std::string& authorities =
        wants_client_certificates_ ? current->client_ca : current->certificates;
    *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
    fetched_ = std::move(current);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const TlsFiles* const files_;
  const bool wants_client_certificates_;
  absl::Mutex mu_;
  std::shared_ptr<const TlsMaterial> fetched_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials(const TlsFiles* files) {
  return std::make_shared<FetchedCredentials>(files);
}

}  // namespace adamoe
