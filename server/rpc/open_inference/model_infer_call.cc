#include "server/rpc/open_inference/model_infer_call.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/grpc_codec.h"
#include "server/rpc/open_inference/infer_generation.h"

namespace adamoe {
namespace {

class ModelInferCall final : public grpc::ServerUnaryReactor,
                             public std::enable_shared_from_this<ModelInferCall> {
 public:
  explicit ModelInferCall(grpc::ByteBuffer* response) : response_(response) {}

  void Start(const CallContext& context, absl::Time deadline, CallOrigin origin,
             const grpc::ByteBuffer& bytes) {
    self_ = shared_from_this();
    inference::ModelInferRequest request;
    absl::Status parsed;
    // Bytes of a caller who may not call are not looked at; the generation says so.
    const bool may_call = Authenticate(context.authenticator, origin.authorization).ok();
    if (may_call) parsed = ParseRequest(bytes, &request);
    generation_.emplace(context, "ModelInfer", deadline, std::move(origin), request,
                        [self = self_] { self->Gather(); });
    generation_->Start(request, parsed, /*may_stream=*/false);
  }

  void OnCancel() override { generation_->Abandon(); }

  void OnDone() override { self_.reset(); }

 private:
  // Takes what there is, and ends the call when that is all.
  void Gather() ABSL_LOCKS_EXCLUDED(mu_) {
    absl::Status status;
    {
      absl::MutexLock lock(&mu_);
      if (finishing_) return;
      InferGeneration::Taken taken;
      do {
        taken = generation_->Take();
        if (taken.response.has_value()) *response_ = ToByteBuffer(*taken.response);
      } while (taken.may_have_more);
      if (!taken.end.has_value()) return;
      finishing_ = true;
      status = *taken.end;
    }
    Finish(ToGrpcStatus(status));
  }

  grpc::ByteBuffer* const response_;           // written once, before Finish
  std::shared_ptr<ModelInferCall> self_;       // until OnDone
  std::optional<InferGeneration> generation_;  // set before anyone else knows of the call

  absl::Mutex mu_;
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace

grpc::ServerUnaryReactor* StartModelInfer(const CallContext& context,
                                          grpc::CallbackServerContext* server_context,
                                          const grpc::ByteBuffer& request,
                                          grpc::ByteBuffer* response) {
  const auto call = std::make_shared<ModelInferCall>(response);
  call->Start(context, DeadlineOf(*server_context), OriginOf(*server_context), request);
  return call.get();
}

}  // namespace adamoe
