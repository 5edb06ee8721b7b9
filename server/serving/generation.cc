#include "server/serving/generation.h"

#include <adamoe/v1/inference.pb.h>

#include <utility>
#include <vector>

#include "server/base/status_macros.h"
#include "server/serving/check_generate.h"
#include "server/serving/logged_prompt.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);

}  // namespace

std::shared_ptr<Generation> Generation::Make(const CallContext& context, const char* rpc,
                                             absl::Time deadline, CallOrigin origin,
                                             std::function<void()> wake) {
  return std::shared_ptr<Generation>(
      new Generation(context, rpc, deadline, std::move(origin), std::move(wake)));
}

Generation::Generation(const CallContext& context, const char* rpc, absl::Time deadline,
                       CallOrigin origin, std::function<void()> wake)
    : context_(context),
      deadline_(deadline),
      wake_(std::move(wake)),
      record_(context, rpc, deadline, std::move(origin)) {}

void Generation::Start(Reader read) {
  const absl::Status status = Submit(read);
  if (!status.ok()) OnFinish({status, FinishReason::kNone, {}});
}

absl::Status Generation::Submit(Reader read) {
  v1::GenerateRequest proto;
  RETURN_IF_ERROR(Read(read, &proto));
  ASSIGN_OR_RETURN(CheckedGenerate checked,
                   CheckGenerate(proto, *context_.tokenizer, *context_.model));
  Request& request = *checked.request;
  request.deadline = deadline_;
  request.sink = shared_from_this();
  {
    absl::MutexLock lock(&mu_);
    record_.set_request_id(request.id);
    num_prompt_tokens_ = static_cast<uint32_t>(request.prompt.size());
    output_.emplace(GenerationOutput::Options{request.id, std::move(checked.stops),
                                              request.sampling.stop_token_ids,
                                              request.sampling.min_tokens, context_.model->flops},
                    *context_.tokenizer);
    if (!request.structured.has_value()) {
      ASSIGN_OR_RETURN(ticket_, record_.Submit(std::move(checked.request)));
      return absl::OkStatus();
    }
    preparing_ = true;
  }
  return Prepare(std::move(checked.request));
}

// Lets in only who may call, and tells the record what the request says of itself.
absl::Status Generation::Read(Reader read, v1::GenerateRequest* proto) {
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(record_.Authenticate());
  RETURN_IF_ERROR(read(proto));
  record_.set_request_id(proto->request_id());
  if (record_.wants_prompt()) record_.set_prompt(LoggedPrompt(*proto));
  return absl::OkStatus();
}

// Has the request's grammar worked out, which then comes to OnPrepared.
absl::Status Generation::Prepare(std::unique_ptr<Request> owned) {
  if (context_.grammars == nullptr) {
    return absl::UnimplementedError("this server does no structured output");
  }
  const auto request = std::make_shared<std::unique_ptr<Request>>(std::move(owned));
  const absl::Status status = context_.grammars->Prepare(
      *(*request)->structured, (*request)->sampling.stop_token_ids,
      [self = shared_from_this(), request](absl::StatusOr<std::unique_ptr<TokenMatcher>> matcher) {
        self->OnPrepared(std::move(*request), std::move(matcher));
      });
  return absl::IsResourceExhausted(status) ? WithRetryAfter(status, kRetryAfter) : status;
}

void Generation::OnPrepared(std::unique_ptr<Request> request,
                            absl::StatusOr<std::unique_ptr<TokenMatcher>> matcher) {
  absl::Status status = matcher.status();
  {
    absl::MutexLock lock(&mu_);
    preparing_ = false;
    if (outcome_.has_value()) return;  // the client has gone meanwhile
    if (matcher.ok()) {
      request->matcher = *std::move(matcher);
      auto ticket = record_.Submit(std::move(request));
      status = ticket.status();
      if (ticket.ok()) ticket_ = *ticket;
    } else {
      status = FieldError(FieldOf(*request->structured), status);
    }
  }
  if (!status.ok()) OnFinish({status, FinishReason::kNone, {}});
}

void Generation::OnPromptTokens(std::vector<TokenInfo> tokens) {
  {
    absl::MutexLock lock(&mu_);
    output_->AddPrompt(tokens);
  }
  Wake();
}

TokenSink::Next Generation::OnToken(TokenInfo token) {
  bool stop;
  {
    absl::MutexLock lock(&mu_);
    stop = output_->AddToken(token);
  }
  Wake();
  return stop ? Next::kStop : Next::kContinue;
}

void Generation::OnFinish(const Outcome& outcome) {
  {
    absl::MutexLock lock(&mu_);
    if (output_.has_value()) output_->Finish(outcome);
    outcome_ = outcome;
  }
  Wake();
}

void Generation::Abandon() {
  {
    absl::MutexLock lock(&mu_);
    abandoned_ = true;
    if (!outcome_.has_value() && ticket_.has_value()) context_.queue->Cancel(*ticket_);
    if (!outcome_.has_value() && preparing_) {
      outcome_ = Outcome{absl::CancelledError("cancelled"), FinishReason::kNone, {}};
    }
  }
  Wake();
}

// REQUIRES: outcome_ is set.
absl::Status Generation::FinalStatus() const {
  if (abandoned_ && outcome_->status.ok()) {
    return record_.Refine(absl::CancelledError("cancelled"));
  }
  return record_.Refine(outcome_->status);
}

Generation::Taken Generation::Take(v1::GenerateResponse* message) {
  std::function<void()> last;  // what it holds goes when mu_ is free
  absl::MutexLock lock(&mu_);
  Taken taken;
  taken.num_prompt_tokens = num_prompt_tokens_;
  if (ended_) return taken;
  const bool sends = !abandoned_ && output_.has_value();
  if (sends && output_->has_message()) {
    output_->TakeMessage(message);
    taken.has_message = true;
  }
  if (outcome_.has_value() && !(sends && output_->has_message())) {
    ended_ = true;
    taken.end = FinalStatus();
    record_.Ended(*taken.end, outcome_->usage);
    last.swap(wake_);
  }
  return taken;
}

void Generation::Wake() {
  std::function<void()> wake;
  {
    absl::MutexLock lock(&mu_);
    wake = wake_;
  }
  if (wake) wake();
}

}  // namespace adamoe
