#include "server/metrics/exposer.h"

#include <netdb.h>
#include <prometheus/exposer.h>
#include <prometheus/registry.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <exception>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace adamoe {
namespace {

// Connects to an IP address, and hangs up; whether that works is nobody's concern.
void Knock(const std::string& host, int port) {
  const bool bracketed = host.size() > 2 && host.front() == '[';
  const std::string ip = bracketed ? host.substr(1, host.size() - 2) : host;
  addrinfo hints = {};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* address = nullptr;
  if (getaddrinfo(ip.c_str(), std::to_string(port).c_str(), &hints, &address) != 0) return;
  const int connection = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (connection >= 0) {
    connect(connection, address->ai_addr, address->ai_addrlen);
    close(connection);
  }
  freeaddrinfo(address);
}

}  // namespace

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
    const std::string host = address.substr(0, address.rfind(':'));
    return std::unique_ptr<Exposer>(new Exposer(std::move(exposer), host, ports.front()));
  } catch (const std::exception& e) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics on ", address, " (is it in use?): ", e.what()));
  }
}

Exposer::Exposer(std::unique_ptr<prometheus::Exposer> exposer, std::string host, int port)
    : exposer_(std::move(exposer)), host_(std::move(host)), port_(port) {}

// civetweb's listening thread learns of its end when a connection comes, or else within two
// seconds: connections come until it has.
Exposer::~Exposer() {
  std::atomic<bool> ended{false};
  std::thread knocker([this, &ended] {
    while (!ended) {
      Knock(host_, port_);
      absl::SleepFor(absl::Milliseconds(5));
    }
  });
  exposer_.reset();
  ended = true;
  knocker.join();
}

}  // namespace adamoe
