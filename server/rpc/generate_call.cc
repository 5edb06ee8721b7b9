#include "server/rpc/generate_call.h"

#include <adamoe/v1/inference.pb.h>

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/grpc_codec.h"
#include "server/serving/generation.h"

namespace adamoe {
namespace {

class GenerateCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  void Start(const CallContext& context, absl::Time deadline, CallOrigin origin,
             const grpc::ByteBuffer& bytes) {
    self_ = shared_from_this();
    generation_ = Generation::Make(context, "Generate", deadline, std::move(origin),
                                   [self = self_] { self->Send(); });
    generation_->Start([&](v1::GenerateRequest* proto) { return ParseRequest(bytes, proto); });
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
    }
    if (!ok) generation_->Abandon();
    Send();
  }

  void OnCancel() override { generation_->Abandon(); }

  void OnDone() override { self_.reset(); }

 private:
  // Starts the next operation on the stream, unless one is under way or there is nothing to do.
  void Send() ABSL_LOCKS_EXCLUDED(mu_) {
    Generation::Taken taken;
    {
      absl::MutexLock lock(&mu_);
      if (writing_ || finishing_) return;
      v1::GenerateResponse message;
      taken = generation_->Take(&message);
      if (taken.has_message) message_ = ToByteBuffer(message);
      writing_ = taken.has_message;
      finishing_ = taken.end.has_value();
    }
    // From Finish on, OnDone may let go of this object; the caller's own reference keeps it until
    // it returns.
    if (taken.has_message && taken.end.has_value()) {
      StartWriteAndFinish(&message_, grpc::WriteOptions(), ToGrpcStatus(*taken.end));
    } else if (taken.has_message) {
      StartWrite(&message_);
    } else if (taken.end.has_value()) {
      Finish(ToGrpcStatus(*taken.end));
    }
  }

  std::shared_ptr<GenerateCall> self_;  // until OnDone
  std::shared_ptr<Generation> generation_;

  absl::Mutex mu_;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;

  // Belongs to whoever set writing_, until the write is done.
  grpc::ByteBuffer message_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerate(
    const CallContext& context, grpc::CallbackServerContext* server_context,
    const grpc::ByteBuffer& request) {
  const auto call = std::make_shared<GenerateCall>();
  call->Start(context, DeadlineOf(*server_context), OriginOf(*server_context), request);
  return call.get();
}

}  // namespace adamoe
