#include "server/rpc/rpc_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "tests/unit/rpc/rpc_serving.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

// grpc.health.v1: request { string service = 1 }, response { enum status = 1 }, 1 SERVING, 2
// NOT_SERVING.
std::string AskHealth(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  std::string request;
  if (!service.empty()) request = std::string{'\x0a', static_cast<char>(service.size())} + service;
  const RawAnswer answer = CallRaw(channel, "/grpc.health.v1.Health/Check", request);
  if (!answer.status.ok()) return absl::StrCat("code ", answer.status.error_code());
  return answer.bytes == "\x08\x01" ? "SERVING" : answer.bytes == "\x08\x02" ? "NOT_SERVING" : "?";
}

// A server without an executor behind it.
class RpcServerTest : public testing::Test {
 protected:
  RpcServerTest() : metrics_({.num_layers = 1, .num_experts = 1}, &clock_), queue_(&clock_, 4) {
    auto tokenizer = Tokenizer::Parse(ByteFallbackTokenizer(300), "tokenizer.json");
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
    info_.vocab_size = 300;
    info_.max_context_tokens = 100;
  }

  absl::StatusOr<std::unique_ptr<RpcServer>> Start(const std::string& address) {
    return RpcServer::Start(
        {.address = address,
         .last_progress = [this] { return stalled_ ? absl::UnixEpoch() : absl::Now(); },
         .health_period = absl::Milliseconds(5)},
        {.model = &info_, .tokenizer = tokenizer_.get(), .queue = &queue_, .metrics = &metrics_});
  }
  static std::shared_ptr<grpc::Channel> ChannelTo(const RpcServer& server) {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", server.port()),
                               grpc::InsecureChannelCredentials());
  }

  const RealClock clock_;
  ServedModel info_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ServerMetrics metrics_;
  RequestQueue queue_;
  std::atomic<bool> stalled_{false};
};

TEST_F(RpcServerTest, HealthFollowsTheExecutor) {
  auto server = Start("127.0.0.1:0");
  ASSERT_TRUE(server.ok()) << server.status();
  const auto channel = ChannelTo(**server);
  EXPECT_EQ(AskHealth(channel, ""), "SERVING");
  EXPECT_EQ(AskHealth(channel, "adamoe.v1.Inference"), "SERVING");
  EXPECT_EQ(AskHealth(channel, "another.Service"), "code 5");
  stalled_ = true;
  EXPECT_TRUE(Eventually([&] { return AskHealth(channel, "") == "NOT_SERVING"; }));
  EXPECT_EQ(AskHealth(channel, "adamoe.v1.Inference"), "NOT_SERVING");
  stalled_ = false;
  EXPECT_TRUE(Eventually([&] { return AskHealth(channel, "") == "SERVING"; }));
  (*server)->StopServing();
  EXPECT_EQ(AskHealth(channel, ""), "NOT_SERVING");
  EXPECT_EQ(AskHealth(channel, "adamoe.v1.Inference"), "NOT_SERVING");
}

TEST_F(RpcServerTest, TwoDoNotShareAPort) {
  auto first = Start("127.0.0.1:0");
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = absl::StrCat("127.0.0.1:", (*first)->port());
  const auto second = Start(address);
  ASSERT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
}

TEST_F(RpcServerTest, StopAcceptingTurnsNewCallsAwayAndLeavesTheOthers) {
  auto server = Start("127.0.0.1:0");
  ASSERT_TRUE(server.ok()) << server.status();
  const auto stub = v1::Inference::NewStub(ChannelTo(**server));
  grpc::ClientContext context;
  SetPatience(context);
  const auto reader =
      stub->Generate(&context, FromText<v1::GenerateRequest>("prompt_tokens { ids: 5 }"));
  ASSERT_TRUE(Eventually([&] { return queue_.num_waiting() == 1; }));
  (*server)->StopAccepting();
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext late;
    v1::GetLoadResponse load;
    return stub->GetLoad(&late, {}, &load).error_code() == grpc::StatusCode::UNAVAILABLE;
  }));
  auto arrivals = queue_.Take();
  ASSERT_EQ(arrivals.requests.size(), 1);
  EXPECT_TRUE(arrivals.cancelled.empty());
  arrivals.requests[0].second->sink->OnFinish({absl::OkStatus(), FinishReason::kLength, {}});
  const Generated generated = ReadAll(*reader);
  EXPECT_TRUE(generated.status.ok()) << generated.status.error_message();
  (*server)->Shutdown(kPatience);
}

TEST_F(RpcServerTest, ShutdownCutsOffCallsThatDoNotEnd) {
  auto server = Start("127.0.0.1:0");
  ASSERT_TRUE(server.ok()) << server.status();
  const auto stub = v1::Inference::NewStub(ChannelTo(**server));
  grpc::ClientContext context;
  SetPatience(context);
  // Nobody takes it from the queue but this test, which ends it as an executor does.
  const auto reader =
      stub->Generate(&context, FromText<v1::GenerateRequest>("prompt_tokens { ids: 5 }"));
  ASSERT_TRUE(Eventually([&] { return queue_.num_waiting() == 1; }));
  std::thread executor([&] {
    auto arrivals = queue_.Take();
    ASSERT_EQ(arrivals.requests.size(), 1);
    while (arrivals.cancelled.empty()) {
      queue_.Await(absl::Now() + kPatience);
      arrivals.cancelled = queue_.Take().cancelled;
    }
    arrivals.requests[0].second->sink->OnFinish(
        {absl::CancelledError("cancelled"), FinishReason::kNone, {}});
  });
  (*server)->Shutdown(absl::Milliseconds(50));
  executor.join();
  EXPECT_FALSE(reader->Finish().ok());
}

}  // namespace
}  // namespace adamoe
