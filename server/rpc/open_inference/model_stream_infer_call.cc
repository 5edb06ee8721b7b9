#include "server/rpc/open_inference/model_stream_infer_call.h"

#include <grpcpp/server_context.h>

#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/grpc_codec.h"
#include "server/rpc/open_inference/infer_generation.h"
#include "server/serving/call_record.h"
#include "server/serving/utf8.h"

namespace adamoe {
namespace {

constexpr char kRpc[] = "ModelStreamInfer";

// Requests of a stream that are read and not answered yet.
constexpr size_t kMaxInFlight = 128;

// The last word on a request that has failed.
grpc::ByteBuffer ErrorMessage(const InferGeneration& generation, const absl::Status& status) {
  inference::ModelStreamInferResponse message;
  message.set_error_message(MendUtf8(status.message()));
  if (message.error_message().empty()) message.set_error_message("failed");
  *message.mutable_infer_response() = generation.LastWord();
  return ToByteBuffer(message);
}

class ModelStreamInferCall final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
      public std::enable_shared_from_this<ModelStreamInferCall> {
 public:
  ModelStreamInferCall(const CallContext& context, absl::Time deadline, CallOrigin origin,
                       bool errors_end_stream)
      : context_(context),
        deadline_(deadline),
        origin_(std::move(origin)),
        errors_end_stream_(errors_end_stream) {}

  void Start() ABSL_LOCKS_EXCLUDED(mu_) {
    self_ = shared_from_this();
    CallRecord record(context_, kRpc, deadline_, origin_);
    const absl::Status status = record.Authenticate();
    if (!status.ok()) {
      record.Ended(status, {});
      absl::MutexLock lock(&mu_);
      Close(status);
    }
    Proceed();
  }

  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_) {
    if (ok) Accept();
    {
      absl::MutexLock lock(&mu_);
      reading_ = false;
      if (!ok) ended_reading_ = true;
    }
    Proceed();
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      writing_ = false;
      if (!ok) Close(absl::CancelledError("cancelled"));
    }
    Proceed();
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      Close(absl::CancelledError("cancelled"));
      outgoing_.clear();
    }
    Proceed();
  }

  void OnDone() override { self_.reset(); }

 private:
  struct Item {
    std::optional<InferGeneration> generation;
    bool ready = false;  // it is in ready_. Guarded by mu_
  };
  using ItemPtr = std::shared_ptr<Item>;

  // Starts the request that was read, unless the stream is over.
  void Accept() ABSL_LOCKS_EXCLUDED(mu_) {
    inference::ModelInferRequest request;
    const absl::Status parsed = ParseRequest(incoming_, &request);
    incoming_.Clear();
    const auto item = std::make_shared<Item>();
    item->generation.emplace(context_, kRpc, deadline_, origin_, request,
                             [self = shared_from_this(), weak = std::weak_ptr<Item>(item)] {
                               if (const ItemPtr ready = weak.lock()) self->SetReady(ready);
                             });
    {
      absl::MutexLock lock(&mu_);
      if (closed_) return;
      items_.insert(item);
    }
    item->generation->Start(request, parsed, /*may_stream=*/true);
    bool closed;
    {
      absl::MutexLock lock(&mu_);
      closed = closed_;
    }
    // Its turn to be abandoned may have come before it was started.
    if (closed) item->generation->Abandon();
  }

  void SetReady(const ItemPtr& item) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      if (!item->ready) ready_.push_back(item);
      item->ready = true;
    }
    Proceed();
  }

  // No more requests; those under way are given up, and the stream ends with `status` (the first).
  void Close(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (closed_) return;
    closed_ = true;
    status_ = std::move(status);
    to_abandon_.assign(items_.begin(), items_.end());
  }

  // Takes from those that are ready, in turn, until there is something to write.
  void FillOutgoing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    while (outgoing_.empty() && !ready_.empty()) {
      const ItemPtr item = ready_.front();
      ready_.pop_front();
      item->ready = false;
      InferGeneration::Taken taken = item->generation->Take();
      if (taken.may_have_more) {
        item->ready = true;
        ready_.push_back(item);
      }
      if (taken.response.has_value() && !closed_) {
        inference::ModelStreamInferResponse message;
        *message.mutable_infer_response() = *std::move(taken.response);
        outgoing_.push_back(ToByteBuffer(message));
      }
      if (!taken.end.has_value()) continue;
      items_.erase(item);
      if (taken.end->ok() || closed_) continue;
      if (errors_end_stream_) {
        Close(*taken.end);
      } else {
        outgoing_.push_back(ErrorMessage(*item->generation, *taken.end));
      }
    }
  }

  // Starts what can be started: a read, a write, the end.
  void Proceed() ABSL_LOCKS_EXCLUDED(mu_) {
    bool read = false;
    bool write = false;
    bool finish = false;
    absl::Status status;
    std::vector<ItemPtr> to_abandon;
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
      if (!reading_ && !ended_reading_ && !closed_ && items_.size() < kMaxInFlight) {
        read = reading_ = true;
        ++starting_reads_;
      }
      finish = finishing_ = !writing_ && items_.empty() && starting_reads_ == 0 &&
                            (closed_ || (ended_reading_ && !reading_));
      status = status_;
    }
    if (write) StartWrite(&message_);
    if (read) {
      StartRead(&incoming_);
      {
        absl::MutexLock lock(&mu_);
        --starting_reads_;
      }
      // Nothing could end while the read was being started.
      Proceed();
    }
    // Each comes back here with its end.
    for (const ItemPtr& item : to_abandon) item->generation->Abandon();
    // From Finish on, OnDone may let go of this object; the caller's own reference keeps it until
    // it returns.
    if (finish) Finish(ToGrpcStatus(status));
  }

  const CallContext context_;
  const absl::Time deadline_;
  const CallOrigin origin_;
  const bool errors_end_stream_;
  std::shared_ptr<ModelStreamInferCall> self_;  // until OnDone

  grpc::ByteBuffer incoming_;  // belongs to whoever set reading_, until OnReadDone is through
  grpc::ByteBuffer message_;   // belongs to whoever set writing_, until the write is done

  absl::Mutex mu_;
  std::set<ItemPtr> items_ ABSL_GUARDED_BY(mu_);    // not ended yet
  std::deque<ItemPtr> ready_ ABSL_GUARDED_BY(mu_);  // that may have something to take
  std::deque<grpc::ByteBuffer> outgoing_ ABSL_GUARDED_BY(mu_);
  std::vector<ItemPtr> to_abandon_ ABSL_GUARDED_BY(mu_);
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  int starting_reads_ ABSL_GUARDED_BY(mu_) = 0;
  bool ended_reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  bool finishing_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

bool AsksForGrpcErrors(const grpc::CallbackServerContext& context) {
  const auto [begin, end] = context.client_metadata().equal_range("triton_grpc_error");
  for (auto entry = begin; entry != end; ++entry) {
    if (entry->second == "true") return true;
  }
  return false;
}

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartModelStreamInfer(
    const CallContext& context, grpc::CallbackServerContext* server_context) {
  const auto call = std::make_shared<ModelStreamInferCall>(context, DeadlineOf(*server_context),
                                                           OriginOf(*server_context),
                                                           AsksForGrpcErrors(*server_context));
  call->Start();
  return call.get();
}

}  // namespace adamoe
