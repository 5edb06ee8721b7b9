// The HTTP endpoint that Prometheus scrapes: GET /metrics. Thread-safe; serves until destroyed.
#ifndef ADAMOE_SERVER_METRICS_EXPOSER_H_
#define ADAMOE_SERVER_METRICS_EXPOSER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace prometheus {
class Exposer;
class Registry;
}  // namespace prometheus

namespace adamoe {

class Exposer {
 public:
  // Serves `registry` on `address`, "HOST:PORT" with an IP address for host; port 0: any free one.
  // UNAVAILABLE when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<Exposer>> Start(
      const std::string& address, const std::shared_ptr<prometheus::Registry>& registry);
  ~Exposer();

  int port() const { return port_; }

 private:
  Exposer(std::unique_ptr<prometheus::Exposer> exposer, std::string host, int port);

  std::unique_ptr<prometheus::Exposer> exposer_;
  const std::string host_;
  const int port_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_METRICS_EXPOSER_H_
