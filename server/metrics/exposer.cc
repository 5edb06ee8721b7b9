#include "server/metrics/exposer.h"

#include <prometheus/exposer.h>
#include <prometheus/registry.h>

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"

namespace adamoe {

absl::StatusOr<std::unique_ptr<Exposer>> Exposer::Start(
    const std::string& address, const std::shared_ptr<prometheus::Registry>& registry) {
  try {
    // Two threads, and a scraper that stops reading is dropped, so that it cannot keep others out.
    auto exposer = std::make_unique<prometheus::Exposer>(std::vector<std::string>{
        "listening_ports", address, "num_threads", "2", "request_timeout_ms", "10000"});
    exposer->RegisterCollectable(registry);
    const auto ports = exposer->GetListeningPorts();
    if (ports.empty()) {
      return absl::UnavailableError(absl::StrCat("no listener for metrics on ", address));
    }
    return std::unique_ptr<Exposer>(new Exposer(std::move(exposer), ports.front()));
  } catch (const std::exception& e) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics on ", address, " (is it in use?): ", e.what()));
  }
}

Exposer::Exposer(std::unique_ptr<prometheus::Exposer> exposer, int port)
    : exposer_(std::move(exposer)), port_(port) {}

Exposer::~Exposer() = default;

}  // namespace adamoe
