// Reads the operator's files again while the server runs: certificates and tokens. What changes,
// and what cannot be used, is logged once and exported. Thread-compatible.
#ifndef ADAMOE_SERVER_RELOADS_H_
#define ADAMOE_SERVER_RELOADS_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "server/metrics/server_metrics.h"
#include "server/security/authenticator.h"
#include "server/security/tls_files.h"

namespace adamoe {

class Reloads {
 public:
  // Null where the server has none. All of them must outlive this.
  Reloads(TlsFiles* tls, Authenticator* authenticator, ServerMetrics* metrics);

  // Looks at every file, and brings the metrics up to date.
  void Run();

 private:
  struct Watched {
    std::string what;     // label of the metric
    std::string problem;  // of the last Run; empty: none
  };

  // True when the files changed.
  bool Reload(absl::StatusOr<bool> result, Watched& watched);

  TlsFiles* const tls_;
  Authenticator* const authenticator_;
  ServerMetrics* const metrics_;
  Watched watched_tls_{"tls", ""};
  Watched watched_tokens_{"auth_tokens", ""};
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RELOADS_H_
