// A queue, an executor and a fake model, put together for a test; and requests to send through
// them.
#ifndef ADAMOE_TESTS_UNIT_EXECUTOR_SERVING_H_
#define ADAMOE_TESTS_UNIT_EXECUTOR_SERVING_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/base/clock.h"
#include "server/executor/executor.h"
#include "server/queue/request_queue.h"
#include "tests/fakes/fake_model.h"
#include "tests/fakes/recording_observer.h"
#include "tests/fakes/recording_sink.h"

namespace adamoe {

// Members are in the order that lets the executor stop before what it uses goes away.
struct Serving {
  explicit Serving(const ModelDimensions& dimensions = FakeModel::SmallDimensions(),
                   const Executor::Options& options = Executor::Options(),
                   const Clock* clock = nullptr)
      : model(dimensions),
        queue(clock != nullptr ? clock : &real_clock, 100000),
        executor(std::make_unique<Executor>(options, &model, &queue, &observer,
                                            clock != nullptr ? clock : &real_clock)) {}

  // Submits a request and returns its sink. `ticket` may be null.
  std::shared_ptr<RecordingSink> Submit(Request request, RequestTicket* ticket = nullptr) {
    auto sink = std::make_shared<RecordingSink>();
    request.sink = sink;
    const auto submitted = queue.Submit(std::make_unique<Request>(std::move(request)));
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    if (ticket != nullptr && submitted.ok()) *ticket = *submitted;
    return sink;
  }

  // Ends the executor, after which counters and reports stand still.
  void Drain() { executor->Drain(absl::Seconds(30)); }

  RealClock real_clock;
  FakeModel model;
  RequestQueue queue;
  RecordingObserver observer;
  std::unique_ptr<Executor> executor;
};

// `length` token ids that depend on `seed`.
inline std::vector<int32_t> MakePrompt(int32_t length, uint64_t seed, int32_t vocab_size = 97) {
  std::vector<int32_t> prompt;
  uint64_t state = seed * 2 + 1;
  for (int32_t i = 0; i < length; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    prompt.push_back(static_cast<int32_t>((state >> 33) % vocab_size));
  }
  return prompt;
}

inline Request MakeRequest(std::vector<int32_t> prompt, uint32_t max_tokens,
                           float temperature = 0) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.max_tokens = max_tokens;
  request.sampling.temperature = temperature;
  request.sampling.seed = 17;
  return request;
}

// What the request gets when nothing else runs, from a server with memory to spare and no prefix
// cache.
inline std::vector<int32_t> RunAlone(Request request) {
  ModelDimensions dimensions = FakeModel::SmallDimensions();
  dimensions.num_kv_blocks = 2048;
  Executor::Options options;
  options.prefix_caching = false;
  options.max_batch_tokens = 4096;
  Serving serving(dimensions, options);
  request.priority = 0;
  const auto sink = serving.Submit(std::move(request));
  serving.executor->Start();
  EXPECT_TRUE(sink->AwaitFinish());
  serving.Drain();
  return sink->ids();
}

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_EXECUTOR_SERVING_H_
