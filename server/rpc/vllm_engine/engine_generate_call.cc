#include "server/rpc/vllm_engine/engine_generate_call.h"

#include <adamoe/v1/inference.pb.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/base/status_macros.h"
#include "server/rpc/grpc_codec.h"
#include "server/rpc/vllm_engine/engine_answer.h"
#include "server/serving/generation.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

namespace engine = vllm::grpc::engine;

class EngineGenerateCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                                 public Abortable,
                                 public std::enable_shared_from_this<EngineGenerateCall> {
 public:
  EngineGenerateCall(const CallContext& context, RunningRequests* running, absl::Time deadline,
                     CallOrigin origin)
      : context_(context), running_(running), deadline_(deadline), origin_(std::move(origin)) {}

  void Start(const grpc::ByteBuffer& bytes) ABSL_LOCKS_EXCLUDED(mu_) {
    self_ = shared_from_this();
    engine::GenerateRequest request;
    absl::Status parsed;
    // Bytes of a caller who may not call are not looked at; the generation says so.
    if (FindCaller()) parsed = ParseRequest(bytes, &request);
    key_.second = request.request_id();
    if (!key_.second.empty()) running_->Add(key_, shared_from_this());
    const uint32_t num_samples = NumSamples(request);
    for (uint32_t i = 0; i < num_samples && StartSample(request, parsed, i); ++i) {
    }
    {
      absl::MutexLock lock(&mu_);
      starting_ = false;
    }
    Proceed();
  }

  // The samples that run end, and say so; the call is well.
  void Abort() override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      aborted_ = true;
      GiveUpAll();
    }
    Proceed();
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
      if (!ok) Fail(absl::CancelledError("cancelled"));
    }
    Proceed();
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      Fail(absl::CancelledError("cancelled"));
      outgoing_.clear();
    }
    Proceed();
  }

  void OnDone() override { self_.reset(); }

 private:
  struct Sample {
    std::shared_ptr<Generation> generation;
    std::optional<EngineAnswer> answer;  // set while it starts, if the request can be read
    bool ended = false;                  // guarded by mu_
  };
  using SamplePtr = std::shared_ptr<Sample>;

  // False: this caller may not call.
  bool FindCaller() {
    const auto caller = Authenticate(context_.authenticator, origin_.authorization);
    if (caller.ok() && *caller != nullptr) key_.first = (*caller)->name();
    return caller.ok();
  }

  // False: the call has failed or was aborted, and starts no more.
  bool StartSample(const engine::GenerateRequest& request, const absl::Status& parsed,
                   uint32_t index) ABSL_LOCKS_EXCLUDED(mu_) {
    const auto sample = std::make_shared<Sample>();
    sample->generation =
        Generation::Make(context_, "VllmEngine.Generate", deadline_, origin_,
                         [self = shared_from_this(), weak = std::weak_ptr<Sample>(sample)] {
                           if (const SamplePtr ready = weak.lock()) self->SetReady(ready);
                         });
    {
      absl::MutexLock lock(&mu_);
      if (given_up_) return false;
      samples_.push_back(sample);
      ++num_open_;
    }
    sample->generation->Start([&](v1::GenerateRequest* generate) -> absl::Status {
      RETURN_IF_ERROR(parsed);
      EngineAnswerOptions options;
      RETURN_IF_ERROR(ReadEngineRequest(request, index, generate, &options));
      sample->answer.emplace(std::move(options), index);
      return absl::OkStatus();
    });
    bool given_up;
    {
      absl::MutexLock lock(&mu_);
      given_up = given_up_;
    }
    // Its turn to be abandoned may have come before it was started.
    if (given_up) sample->generation->Abandon();
    return !given_up;
  }

  void SetReady(const SamplePtr& sample) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      ready_.push_back(sample);
    }
    Proceed();
  }

  void Fail(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!status_.ok()) return;
    status_ = std::move(status);
    GiveUpAll();
  }

  void GiveUpAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    given_up_ = true;
    for (const SamplePtr& sample : samples_) {
      if (!sample->ended) to_abandon_.push_back(sample);
    }
  }

  void Send(const engine::GenerateResponse& response) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (status_.ok()) outgoing_.push_back(ToByteBuffer(response));
  }

  // Takes from those that are ready, in turn, until there is something to write.
  void FillOutgoing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    while (outgoing_.empty() && !ready_.empty()) {
      const SamplePtr sample = ready_.front();
      ready_.pop_front();
      v1::GenerateResponse message;
      const Generation::Taken taken = sample->generation->Take(&message);
      if (taken.has_message) {
        sample->answer->Add(message, taken.num_prompt_tokens);
        if (sample->answer->stream()) Send(sample->answer->Chunk());
        if (!taken.end.has_value()) ready_.push_back(sample);
      }
      if (!taken.end.has_value()) continue;
      sample->ended = true;
      --num_open_;
      if (taken.end->ok() || (aborted_ && sample->answer.has_value())) {
        Send(sample->answer->Complete(taken.num_prompt_tokens));
      } else {
        Fail(WithFieldRenamed(*taken.end, EngineField));
      }
    }
  }

  // Starts what can be started: a write, the end.
  void Proceed() ABSL_LOCKS_EXCLUDED(mu_) {
    bool write = false;
    bool finish = false;
    absl::Status status;
    std::vector<SamplePtr> to_abandon;
    {
      absl::MutexLock lock(&mu_);
      if (finishing_) return;
      if (!writing_) {
        FillOutgoing();
        if (!outgoing_.empty()) {
          message_ = std::move(outgoing_.front());
          outgoing_.pop_front();
          write = writing_ = true;
        }
      }
      to_abandon.swap(to_abandon_);
      finish = finishing_ = !writing_ && !starting_ && num_open_ == 0;
      status = status_;
    }
    if (write) StartWrite(&message_);
    // Each comes back here with its end.
    for (const SamplePtr& sample : to_abandon) sample->generation->Abandon();
    if (!finish) return;
    if (!key_.second.empty()) running_->Remove(key_, this);
    // From Finish on, OnDone may let go of this object; the caller's own reference keeps it until
    // it returns.
    Finish(ToGrpcStatus(status));
  }

  const CallContext context_;
  RunningRequests* const running_;
  const absl::Time deadline_;
  const CallOrigin origin_;
  RunningRequests::Key key_;                  // fixed before the first sample
  std::shared_ptr<EngineGenerateCall> self_;  // until OnDone

  grpc::ByteBuffer message_;  // belongs to whoever set writing_, until the write is done

  absl::Mutex mu_;
  std::vector<SamplePtr> samples_ ABSL_GUARDED_BY(mu_);  // that were started
  size_t num_open_ ABSL_GUARDED_BY(mu_) = 0;             // of which have not ended
  std::deque<SamplePtr> ready_ ABSL_GUARDED_BY(mu_);     // that may have something to take
  std::deque<grpc::ByteBuffer> outgoing_ ABSL_GUARDED_BY(mu_);
  std::vector<SamplePtr> to_abandon_ ABSL_GUARDED_BY(mu_);
  bool starting_ ABSL_GUARDED_BY(mu_) = true;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool given_up_ ABSL_GUARDED_BY(mu_) = false;  // failed or aborted
  bool aborted_ ABSL_GUARDED_BY(mu_) = false;
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartEngineGenerate(
    const CallContext& context, RunningRequests* running,
    grpc::CallbackServerContext* server_context, const grpc::ByteBuffer& request) {
  const auto call = std::make_shared<EngineGenerateCall>(
      context, running, DeadlineOf(*server_context), OriginOf(*server_context));
  call->Start(request);
  return call.get();
}

}  // namespace adamoe
