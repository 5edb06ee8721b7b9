#include "server/rpc/generate_call.h"

#include <adamoe/v1/inference.pb.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/base/status_macros.h"
#include "server/rpc/call_record.h"
#include "server/rpc/generation_output.h"
#include "server/rpc/grpc_codec.h"
#include "server/rpc/logged_prompt.h"
#include "server/rpc/request_errors.h"
#include "server/rpc/validation.h"

namespace adamoe {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);

class GenerateCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                           public TokenSink,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  GenerateCall(const CallContext& context, absl::Time deadline, CallOrigin origin)
      : context_(context),
        deadline_(deadline),
        record_(context, "Generate", deadline, std::move(origin)) {}

  void Start(const grpc::ByteBuffer& bytes) ABSL_LOCKS_EXCLUDED(mu_) {
    self_ = shared_from_this();
    const absl::Status status = Submit(bytes);
    if (!status.ok()) OnFinish({status, FinishReason::kNone, {}});
  }

  void OnPromptTokens(std::vector<TokenInfo> tokens) override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      output_->AddPrompt(tokens);
    }
    Send();
  }

  Next OnToken(TokenInfo token) override ABSL_LOCKS_EXCLUDED(mu_) {
    bool stop;
    {
      absl::MutexLock lock(&mu_);
      stop = output_->AddToken(token);
    }
    Send();
    return stop ? Next::kStop : Next::kContinue;
  }

  void OnFinish(const Outcome& outcome) override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      if (output_.has_value()) output_->Finish(outcome);
      outcome_ = outcome;
    }
    Send();
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
      if (!ok) Abandon();
    }
    Send();
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      Abandon();
    }
    Send();
  }

  void OnDone() override { self_.reset(); }

 private:
  absl::Status Submit(const grpc::ByteBuffer& bytes) ABSL_LOCKS_EXCLUDED(mu_) {
    v1::GenerateRequest proto;
    RETURN_IF_ERROR(Read(bytes, &proto));
    ASSIGN_OR_RETURN(CheckedGenerate checked,
                     CheckGenerate(proto, *context_.tokenizer, *context_.model));
    Request& request = *checked.request;
    request.deadline = deadline_;
    request.sink = self_;
    {
      absl::MutexLock lock(&mu_);
      record_.set_request_id(request.id);
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

  // Has the request's grammar worked out, which then comes to OnPrepared.
  absl::Status Prepare(std::unique_ptr<Request> owned) ABSL_LOCKS_EXCLUDED(mu_) {
    if (context_.grammars == nullptr) {
      return absl::UnimplementedError("this server does no structured output");
    }
    const auto request = std::make_shared<std::unique_ptr<Request>>(std::move(owned));
    const absl::Status status = context_.grammars->Prepare(
        *(*request)->structured, (*request)->sampling.stop_token_ids,
        [self = self_, request](absl::StatusOr<std::unique_ptr<TokenMatcher>> matcher) {
          self->OnPrepared(std::move(*request), std::move(matcher));
        });
    return absl::IsResourceExhausted(status) ? WithRetryAfter(status, kRetryAfter) : status;
  }

  void OnPrepared(std::unique_ptr<Request> request,
                  absl::StatusOr<std::unique_ptr<TokenMatcher>> matcher) ABSL_LOCKS_EXCLUDED(mu_) {
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

  // Lets in only who may call, and tells the record what the request says of itself.
  absl::Status Read(const grpc::ByteBuffer& bytes, v1::GenerateRequest* proto)
      ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    RETURN_IF_ERROR(record_.Authenticate());
    RETURN_IF_ERROR(ParseRequest(bytes, proto));
    record_.set_request_id(proto->request_id());
    if (record_.wants_prompt()) record_.set_prompt(LoggedPrompt(*proto));
    return absl::OkStatus();
  }

  // The client is gone: nothing more is sent, and the executor need not go on.
  void Abandon() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    abandoned_ = true;
    if (outcome_.has_value()) return;
    if (ticket_.has_value()) context_.queue->Cancel(*ticket_);
    if (preparing_) outcome_ = Outcome{absl::CancelledError("cancelled"), FinishReason::kNone, {}};
  }

  // How the stream ends. REQUIRES: outcome_ is set.
  absl::Status FinalStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (abandoned_ && outcome_->status.ok())
      return record_.Refine(absl::CancelledError("cancelled"));
    return record_.Refine(outcome_->status);
  }

  // Starts the next operation on the stream, unless one is under way or there is nothing to do.
  void Send() ABSL_LOCKS_EXCLUDED(mu_) {
    absl::Status status;
    bool write = false;
    bool finish = false;
    {
      absl::MutexLock lock(&mu_);
      if (writing_ || finishing_) return;
      write = !abandoned_ && output_.has_value() && output_->has_message();
      if (write) {
        v1::GenerateResponse message;
        output_->TakeMessage(&message);
        message_ = ToByteBuffer(message);
      }
      finish =
          outcome_.has_value() && (abandoned_ || !output_.has_value() || !output_->has_message());
      if (!write && !finish) return;
      writing_ = write;
      finishing_ = finish;
      if (finish) {
        status = FinalStatus();
        record_.Ended(status, outcome_->usage);
      }
    }
    // From Finish on, OnDone may let go of this object; the caller's own reference keeps it until
    // it returns.
    if (write && finish && status.ok()) {
      StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
    } else if (write && finish) {
      StartWriteAndFinish(&message_, grpc::WriteOptions(), ToGrpcStatus(status));
    } else if (write) {
      StartWrite(&message_);
    } else {
      Finish(ToGrpcStatus(status));
    }
  }

  const CallContext context_;
  const absl::Time deadline_;
  std::shared_ptr<GenerateCall> self_;  // until OnDone

  absl::Mutex mu_;
  CallRecord record_ ABSL_GUARDED_BY(mu_);
  std::optional<GenerationOutput> output_ ABSL_GUARDED_BY(mu_);  // set once the request is valid
  std::optional<RequestTicket> ticket_ ABSL_GUARDED_BY(mu_);
  std::optional<Outcome> outcome_ ABSL_GUARDED_BY(mu_);
  bool preparing_ ABSL_GUARDED_BY(mu_) = false;  // its grammar is being worked out
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;
  bool abandoned_ ABSL_GUARDED_BY(mu_) = false;

  // Belongs to whoever set writing_, until the write is done.
  grpc::ByteBuffer message_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerate(
    const CallContext& context, grpc::CallbackServerContext* server_context,
    const grpc::ByteBuffer& request) {
  const auto call = std::make_shared<GenerateCall>(context, DeadlineOf(*server_context),
                                                   OriginOf(*server_context));
  call->Start(request);
  return call.get();
}

}  // namespace adamoe
