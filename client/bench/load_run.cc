#include "client/bench/load_run.h"

#include <utility>

#include "absl/time/clock.h"

namespace adamoe {

RequestMaker::RequestMaker(v1::GenerateRequest base, uint32_t vocab_size, uint64_t seed)
    : base_(std::move(base)), random_(seed), id_(vocab_size / 8, vocab_size - 1) {}

v1::GenerateRequest RequestMaker::Make(uint32_t prompt_tokens, uint32_t output_tokens) {
  v1::GenerateRequest request = base_;
  v1::TokenIds* prompt = request.mutable_prompt_tokens();
  for (uint32_t i = 0; i < prompt_tokens; ++i) prompt->add_ids(id_(random_));
  request.mutable_sampling()->set_max_tokens(output_tokens);
  request.mutable_sampling()->set_ignore_eos(true);
  return request;
}

LoadRun::LoadRun(v1::Inference::Stub* stub, RequestMaker maker, absl::Duration timeout)
    : stub_(stub), maker_(std::move(maker)), timeout_(timeout) {}

void LoadRun::Start(uint32_t prompt_tokens, uint32_t output_tokens) {
  {
    absl::MutexLock lock(&mu_);
    ++running_;
  }
  StartStream(stub_, maker_.Make(prompt_tokens, output_tokens), timeout_, nullptr,
              [this](StreamResult result) {
                absl::MutexLock lock(&mu_);
                streams_.push_back(std::move(result));
                --running_;
              });
}

bool LoadRun::AwaitFewerThan(size_t limit, absl::Time until) {
  absl::MutexLock lock(&mu_);
  auto fewer = [this, limit]() ABSL_SHARED_LOCKS_REQUIRED(mu_) { return running_ < limit; };
  return mu_.AwaitWithDeadline(absl::Condition(&fewer), until);
}

LoadResults LoadRun::Finish(absl::Time start) {
  AwaitFewerThan(1, absl::InfiniteFuture());
  absl::MutexLock lock(&mu_);
  return {absl::Now() - start, std::move(streams_)};
}

LoadResults LoadRun::RunClosed(size_t concurrency, size_t max_requests, absl::Duration duration,
                               uint32_t prompt_tokens, uint32_t output_tokens) {
  const absl::Time start = absl::Now();
  for (size_t started = 0; started < max_requests; ++started) {
    if (!AwaitFewerThan(concurrency, start + duration) || absl::Now() >= start + duration) break;
    Start(prompt_tokens, output_tokens);
  }
  return Finish(start);
}

LoadResults LoadRun::RunOpen(const std::vector<Arrival>& arrivals) {
  const absl::Time start = absl::Now();
  for (const Arrival& arrival : arrivals) {
    absl::SleepFor(start + arrival.at - absl::Now());
    Start(arrival.prompt_tokens, arrival.output_tokens);
  }
  return Finish(start);
}

}  // namespace adamoe
