// A whole server on loopback, on a model without weights: for tests of the service through real
// gRPC.
#ifndef ADAMOE_TESTS_UNIT_RPC_RPC_SERVING_H_
#define ADAMOE_TESTS_UNIT_RPC_RPC_SERVING_H_

#include <adamoe/v1/inference.grpc.pb.h>
#include <google/protobuf/text_format.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "server/base/clock.h"
#include "server/executor/executor.h"
#include "server/metrics/server_metrics.h"
#include "server/queue/request_queue.h"
#include "server/rpc/rpc_server.h"
#include "server/tokenizer/tokenizer.h"
#include "tests/fakes/fake_model.h"
#include "tests/fakes/tokenizer_file.h"

namespace adamoe {

// What every test waits for at most; none comes near it.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

// Holds the executor at the start of a step while closed.
class Gate {
 public:
  void Close() {
    absl::MutexLock lock(&mu_);
    open_ = false;
  }
  void Open() {
    absl::MutexLock lock(&mu_);
    open_ = true;
  }
  void Pass() {
    absl::MutexLock lock(&mu_);
    held_ = !open_;
    mu_.Await(absl::Condition(&open_));
    held_ = false;
  }
  // Waits until a step is held.
  bool AwaitHeld() {
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(&held_), kPatience);
  }

 private:
  absl::Mutex mu_;
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  bool open_ ABSL_GUARDED_BY(mu_) = true;
};

struct ServingOptions {
  size_t max_queued = 64;
  Executor::Options executor;
  FakeModel::Faults faults;
  std::string folder;  // the model's, for what reads its files
};

class Serving {
 public:
  static ModelDimensions Dimensions() {
    ModelDimensions dimensions = FakeModel::SmallDimensions();
    dimensions.vocab_size = 400;
    dimensions.num_kv_blocks = 4096;
    return dimensions;
  }

  explicit Serving(const ServingOptions& options = {})
      : model_(Dimensions()),
        metrics_(MetricsOptions(), &clock_),
        queue_(&clock_, options.max_queued) {
    auto tokenizer = Tokenizer::Parse(ByteFallbackTokenizer(400), "tokenizer.json");
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
    const ModelDimensions& dimensions = model_.dimensions();
    info_.name = "fake";
    info_.folder = options.folder;
    info_.architecture = "Fake";
    info_.vocab_size = dimensions.vocab_size;
    info_.num_layers = dimensions.num_layers;
    info_.max_context_tokens = dimensions.max_context_tokens;
    info_.experts_per_token = dimensions.experts_per_token;
    info_.kv_block_size = dimensions.kv_block_size;
    info_.prefix_cache_block_size = dimensions.kv_block_size;
    info_.flops = MetricsOptions().flops;
    model_.set_faults(options.faults);
    model_.set_before_step([this](int, const ForwardBatch&) { gate_.Pass(); });
    executor_ = std::make_unique<Executor>(options.executor, &model_, &queue_, &metrics_, &clock_);
    executor_->Start();
    auto rpc_server = RpcServer::Start(
        {.address = "127.0.0.1:0", .last_progress = [this] { return last_progress(); }}, context());
    EXPECT_TRUE(rpc_server.ok()) << rpc_server.status();
    rpc_server_ = std::move(*rpc_server);
    channel_ = MakeChannel();
    stub_ = v1::Inference::NewStub(channel_);
  }

  ~Serving() {
    gate_.Open();
    rpc_server_.reset();
  }

  // A connection of its own, which takes about 64 KiB of a stream before it is read.
  std::shared_ptr<grpc::Channel> MakeChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65536);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", rpc_server_->port()),
                                     grpc::InsecureChannelCredentials(), arguments);
  }

  // What a front end of its own works with.
  CallContext context() {
    return {.model = &info_, .tokenizer = tokenizer_.get(), .queue = &queue_, .metrics = &metrics_};
  }
  absl::Time last_progress() const { return executor_->last_progress(); }

  v1::Inference::Stub& stub() { return *stub_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  Gate& gate() { return gate_; }
  RequestQueue& queue() { return queue_; }
  ServerMetrics& metrics() { return metrics_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }

  // The value of requests_total.
  int Count(const std::string& outcome) const {
    for (const auto& family : metrics_.registry()->Collect()) {
      if (family.name != "adamoe_requests_total") continue;
      for (const auto& metric : family.metric) {
        if (metric.label.at(0).value == outcome) return static_cast<int>(metric.counter.value);
      }
    }
    return -1;
  }

  // Requests that ended, however.
  int CountAll() const {
    int sum = 0;
    for (const char* outcome : {"ok", "cancelled", "deadline", "rejected", "invalid", "error"}) {
      sum += Count(outcome);
    }
    return sum;
  }

 private:
  static ServerMetrics::Options MetricsOptions() {
    const ModelDimensions dimensions = Dimensions();
    return {.num_layers = dimensions.num_layers,
            .num_experts = dimensions.num_experts,
            .kv_block_size = dimensions.kv_block_size,
            .num_kv_blocks = dimensions.num_kv_blocks,
            .flops = {1000, static_cast<uint32_t>(dimensions.experts_per_token), 2}};
  }

  const RealClock clock_;
  Gate gate_;
  FakeModel model_;
  ServedModel info_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ServerMetrics metrics_;
  RequestQueue queue_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<RpcServer> rpc_server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

// Waits until `condition` holds; false when it never does.
template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time end = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

template <typename Proto>
Proto FromText(const std::string& text) {
  Proto proto;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &proto)) << text;
  return proto;
}

inline void SetPatience(grpc::ClientContext& context, absl::Duration patience = kPatience) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + patience));
}

// A stream read to its end: its messages as one.
struct Generated {
  v1::GenerateResponse all;
  std::string text;
  int num_messages = 0;
  grpc::Status status;
};

inline Generated ReadAll(grpc::ClientReader<v1::GenerateResponse>& reader) {
  Generated generated;
  v1::GenerateResponse message;
  while (reader.Read(&message)) {
    EXPECT_FALSE(generated.all.has_finish());  // only the last message has one
    generated.text += message.text();
    generated.all.MergeFrom(message);
    ++generated.num_messages;
  }
  generated.status = reader.Finish();
  return generated;
}

inline Generated Generate(v1::Inference::Stub& stub, const v1::GenerateRequest& request,
                          absl::Duration patience = kPatience) {
  grpc::ClientContext context;
  SetPatience(context, patience);
  return ReadAll(*stub.Generate(&context, request));
}

inline Generated Generate(v1::Inference::Stub& stub, const std::string& request) {
  return Generate(stub, FromText<v1::GenerateRequest>(request));
}

// Runs `call`, a call with a deadline of `patience`, while the executor is held until that deadline
// has surely passed for the server too.
template <typename Call>
void RunPastDeadline(Serving& serving, absl::Duration patience, Call call) {
  serving.gate().Close();
  std::thread client(call);
  EXPECT_TRUE(serving.gate().AwaitHeld());
  const absl::Time latest_start = absl::Now();
  client.join();
  // Timeouts are rounded up on the wire, by at most a hundredth.
  absl::SleepFor(latest_start + 1.05 * patience - absl::Now());
  serving.gate().Open();
}

// The first detail of a status, unpacked; false when it has none of this type.
template <typename Detail>
bool GetDetail(const grpc::Status& status, Detail* detail) {
  google::rpc::Status details;
  return details.ParseFromString(status.error_details()) && details.details_size() > 0 &&
         details.details(0).UnpackTo(detail);
}

struct RawAnswer {
  grpc::Status status;
  std::string bytes;
};

// Calls a method that answers once with bytes that need not be a message.
inline RawAnswer CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                         const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  SetPatience(context);
  const grpc::Slice slice(request);
  const grpc::ByteBuffer request_bytes(&slice, 1);
  grpc::ByteBuffer response;
  RawAnswer answer;
  absl::Mutex mu;
  bool done = false;
  stub.UnaryCall(&context, method, grpc::StubOptions(), &request_bytes, &response,
                 [&](grpc::Status status) {
                   absl::MutexLock lock(&mu);
                   answer.status = std::move(status);
                   done = true;
                 });
  {
    absl::MutexLock lock(&mu);
    mu.Await(absl::Condition(&done));
  }
  grpc::Slice bytes;
  if (answer.status.ok() && response.DumpToSingleSlice(&bytes).ok()) {
    answer.bytes.assign(bytes.begin(), bytes.end());
  }
  return answer;
}

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_RPC_RPC_SERVING_H_
