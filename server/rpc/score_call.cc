#include "server/rpc/score_call.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/base/status_macros.h"
#include "server/rpc/grpc_codec.h"
#include "server/serving/call_record.h"
#include "server/serving/check_score.h"
#include "server/serving/generation_output.h"
#include "server/serving/logged_prompt.h"

namespace adamoe {
namespace {

// Continuations of one call that are with the executor at a time.
constexpr size_t kMaxInFlight = 32;

class ScoreCall final : public grpc::ServerUnaryReactor,
                        public std::enable_shared_from_this<ScoreCall> {
 public:
  ScoreCall(const CallContext& context, absl::Time deadline, CallOrigin origin,
            grpc::ByteBuffer* response)
      : context_(context),
        deadline_(deadline),
        response_(response),
        record_(context, "Score", deadline, std::move(origin)) {}

  void Start(const grpc::ByteBuffer& bytes) ABSL_LOCKS_EXCLUDED(mu_) {
    self_ = shared_from_this();
    absl::Status status = Read(bytes);
    {
      absl::MutexLock lock(&mu_);
      if (!status.ok()) Fail(std::move(status));
    }
    Proceed();
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    Fail(absl::CancelledError("cancelled"));
  }

  void OnDone() override { self_.reset(); }

 private:
  // Receives one continuation's result.
  class Sink final : public TokenSink {
   public:
    Sink(std::shared_ptr<ScoreCall> call, size_t index) : call_(std::move(call)), index_(index) {}
    void OnPromptTokens(std::vector<TokenInfo> tokens) override { tokens_ = std::move(tokens); }
    Next OnToken(TokenInfo) override { return Next::kStop; }
    void OnFinish(const Outcome& outcome) override { call_->Take(index_, tokens_, outcome); }

   private:
    const std::shared_ptr<ScoreCall> call_;
    const size_t index_;
    std::vector<TokenInfo> tokens_;
  };

  absl::Status Read(const grpc::ByteBuffer& bytes) ABSL_LOCKS_EXCLUDED(mu_) {
    v1::ScoreRequest proto;
    {
      absl::MutexLock lock(&mu_);
      RETURN_IF_ERROR(record_.Authenticate());
      RETURN_IF_ERROR(ParseRequest(bytes, &proto));
      record_.set_request_id(proto.request_id());
      if (record_.wants_prompt()) record_.set_prompt(LoggedPrompt(proto));
    }
    ASSIGN_OR_RETURN(CheckedScore checked, CheckScore(proto, *context_.tokenizer, *context_.model));
    absl::MutexLock lock(&mu_);
    record_.set_request_id(checked.id);
    scores_.resize(checked.continuations.size());
    work_ = std::move(checked);
    return absl::OkStatus();
  }

  std::unique_ptr<Request> MakeRequest(size_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    auto request = std::make_unique<Request>();
    request->id = work_.id;
    request->prompt = work_.context;
    const std::vector<int32_t>& continuation = work_.continuations[index];
    request->prompt.insert(request->prompt.end(), continuation.begin(), continuation.end() - 1);
    request->scored_next_token = continuation.back();
    request->sampling.max_tokens = 0;
    request->sampling.seed = 0;
    request->compute = work_.compute;
    request->deadline = deadline_;
    request->num_top_logprobs = 1;  // tells whether a token is the likeliest
    request->prompt_info_from = static_cast<uint32_t>(work_.context.size());
    request->sink = std::make_shared<Sink>(self_, index);
    return request;
  }

  size_t Window() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto block = static_cast<size_t>(context_.model->prefix_cache_block_size);
    const bool first_fills_cache = block > 0 && work_.context.size() >= block;
    return first_fills_cache && num_done_ == 0 ? 1 : kMaxInFlight;
  }

  // Submits what the window has room for. The queue calls nothing back, so mu_ may be held.
  void SubmitMore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    while (status_.ok() && next_ < scores_.size() && in_flight_.size() < Window()) {
      auto ticket = record_.Submit(MakeRequest(next_));
      // A full queue is no failure while a continuation of this call will come back and try again.
      if (absl::IsResourceExhausted(ticket.status()) && !in_flight_.empty()) return;
      if (!ticket.ok()) return Fail(ticket.status());
      in_flight_.emplace(next_++, *ticket);
    }
  }

  // The call ends with `status`, the first failure, once what is in flight has come back.
  void Fail(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!status_.ok()) return;
    status_ = record_.Refine(std::move(status));
    for (const auto& [index, ticket] : in_flight_) context_.queue->Cancel(ticket);
  }

  void Take(size_t index, const std::vector<TokenInfo>& tokens, const Outcome& outcome)
      ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      in_flight_.erase(index);
      ++num_done_;
      AddUsage(outcome.usage);
      if (!outcome.status.ok()) {
        Fail(outcome.status);
      } else if (!IsComplete(tokens, work_.continuations[index].size())) {
        Fail(absl::InternalError("a continuation came back without all its log-probabilities"));
      } else {
        FillScore(tokens, &scores_[index]);
      }
    }
    Proceed();
  }

  static bool IsComplete(const std::vector<TokenInfo>& tokens, size_t num_tokens) {
    return tokens.size() == num_tokens &&
           std::all_of(tokens.begin(), tokens.end(), [](auto& token) {
             return token.logprob.has_value() && !token.top_logprobs.empty();
           });
  }

  // REQUIRES: IsComplete.
  static void FillScore(const std::vector<TokenInfo>& tokens, v1::ContinuationScore* score) {
    double sum = 0;
    bool is_greedy = true;
    for (const TokenInfo& token : tokens) {
      sum += *token.logprob;
      is_greedy = is_greedy && token.top_logprobs[0].id == token.id;
      score->add_token_logprobs(*token.logprob);
    }
    score->set_logprob(sum);
    score->set_num_tokens(static_cast<uint32_t>(tokens.size()));
    score->set_is_greedy(is_greedy);
  }

  void AddUsage(const Usage& usage) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    usage_.prompt_tokens += usage.prompt_tokens;
    usage_.completion_tokens += usage.completion_tokens;
    usage_.cached_prompt_tokens += usage.cached_prompt_tokens;
    usage_.positions += usage.positions;
    usage_.slots += usage.slots;
    usage_.queue_time += usage.queue_time;
    usage_.prefill_time += usage.prefill_time;
    usage_.decode_time += usage.decode_time;
  }

  // Submits more, and ends the call when all is done.
  void Proceed() ABSL_LOCKS_EXCLUDED(mu_) {
    absl::Status status;
    {
      absl::MutexLock lock(&mu_);
      if (finishing_) return;
      SubmitMore();
      if (!in_flight_.empty()) return;
      finishing_ = true;
      status = status_;
      if (status.ok()) FillResponse();
      record_.Ended(status, usage_);
    }
    Finish(ToGrpcStatus(status));
  }

  void FillResponse() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    v1::ScoreResponse proto;
    proto.mutable_scores()->Assign(scores_.begin(), scores_.end());
    FillUsage(usage_, context_.model->flops, proto.mutable_usage());
    *response_ = ToByteBuffer(proto);
  }

  const CallContext context_;
  const absl::Time deadline_;
  grpc::ByteBuffer* const response_;  // written once, before Finish
  std::shared_ptr<ScoreCall> self_;   // until OnDone

  absl::Mutex mu_;
  CallRecord record_ ABSL_GUARDED_BY(mu_);
  CheckedScore work_ ABSL_GUARDED_BY(mu_);
  size_t next_ ABSL_GUARDED_BY(mu_) = 0;  // the first continuation not submitted yet
  size_t num_done_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<size_t, RequestTicket> in_flight_ ABSL_GUARDED_BY(mu_);
  std::vector<v1::ContinuationScore> scores_ ABSL_GUARDED_BY(mu_);
  Usage usage_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

grpc::ServerUnaryReactor* StartScore(const CallContext& context,
                                     grpc::CallbackServerContext* server_context,
                                     const grpc::ByteBuffer& request, grpc::ByteBuffer* response) {
  const auto call = std::make_shared<ScoreCall>(context, DeadlineOf(*server_context),
                                                OriginOf(*server_context), response);
  call->Start(request);
  return call.get();
}

}  // namespace adamoe
