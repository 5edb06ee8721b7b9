// What clients are greeted with over TLS: made of the newest files that were checked together.
#ifndef ADAMOE_SERVER_HTTP_TLS_CONTEXT_H_
#define ADAMOE_SERVER_HTTP_TLS_CONTEXT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/security/tls_files.h"

namespace boost::asio::ssl {
class context;
}  // namespace boost::asio::ssl

namespace adamoe {

using TlsContext = boost::asio::ssl::context;

// TLS 1.2 and later, no resumption; with a client CA clients must show a certificate it has signed.
absl::StatusOr<std::shared_ptr<TlsContext>> MakeTlsContext(const TlsMaterial& material);

// The context of the files as they are now. Thread-compatible.
class CurrentTlsContext {
 public:
  // `files` must outlive this.
  explicit CurrentTlsContext(const TlsFiles* files) : files_(*files) {}

  absl::StatusOr<std::shared_ptr<TlsContext>> Get();

 private:
  const TlsFiles& files_;
  std::shared_ptr<const TlsMaterial> material_;  // that context_ is made of
  std::shared_ptr<TlsContext> context_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_TLS_CONTEXT_H_
