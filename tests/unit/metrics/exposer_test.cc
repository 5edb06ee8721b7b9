#include "server/metrics/exposer.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/metrics/server_metrics.h"
#include "tests/fakes/fake_clock.h"

namespace adamoe {
namespace {

// The answer to an HTTP request on loopback; "" when nobody listens.
std::string Ask(int port, const std::string& request) {
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
      write(connection, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    char bytes[4096];
    ssize_t size;
    while ((size = read(connection, bytes, sizeof(bytes))) > 0) {
      answer.append(bytes, static_cast<size_t>(size));
    }
  }
  close(connection);
  return answer;
}

TEST(ExposerTest, ServesTheRegistry) {
  FakeClock clock;
  ServerMetrics metrics({.num_layers = 1, .num_experts = 1}, &clock);
  metrics.CountRequest(RequestOutcome::kOk);
  auto exposer = Exposer::Start("127.0.0.1:0", metrics.registry());
  ASSERT_TRUE(exposer.ok()) << exposer.status();
  ASSERT_GT((*exposer)->port(), 0);
  const std::string answer =
      Ask((*exposer)->port(), "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(answer, testing::StartsWith("HTTP/1.1 200 OK"));
  EXPECT_THAT(answer, testing::HasSubstr("adamoe_requests_total{outcome=\"ok\"} 1\n"));
}

TEST(ExposerTest, SaysWhenTheAddressIsTaken) {
  FakeClock clock;
  const ServerMetrics metrics({.num_layers = 1, .num_experts = 1}, &clock);
  auto first = Exposer::Start("127.0.0.1:0", metrics.registry());
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = absl::StrCat("127.0.0.1:", (*first)->port());
  const auto second = Exposer::Start(address, metrics.registry());
  ASSERT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), testing::HasSubstr(address));
}

TEST(ExposerTest, EndsWithoutDelay) {
  FakeClock clock;
  const ServerMetrics metrics({.num_layers = 1, .num_experts = 1}, &clock);
  for (const char* address : {"127.0.0.1:0", "0.0.0.0:0"}) {
    auto exposer = Exposer::Start(address, metrics.registry());
    ASSERT_TRUE(exposer.ok()) << exposer.status();
    const int port = (*exposer)->port();
    absl::SleepFor(absl::Milliseconds(50));  // until its listening thread waits
    const absl::Time start = absl::Now();
    exposer->reset();
    EXPECT_LT(absl::Now() - start, absl::Seconds(1));
    EXPECT_EQ(Ask(port, "GET /metrics HTTP/1.0\r\n\r\n"), "");
  }
}

}  // namespace
}  // namespace adamoe
