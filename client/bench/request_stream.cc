#include "client/bench/request_stream.h"

#include <utility>

#include "absl/time/clock.h"
#include "client/rpc.h"

namespace adamoe {
namespace {

// Deletes itself after OnDone.
class Reader : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Reader(v1::GenerateRequest request, std::shared_ptr<grpc::ClientContext> context,
         std::function<void(size_t)> on_token, std::function<void(StreamResult)> on_done)
      : request_(std::move(request)),
        context_(std::move(context)),
        on_token_(std::move(on_token)),
        on_done_(std::move(on_done)) {}

  void Start(v1::Inference::Stub* stub) {
    result_.start = absl::Now();
    stub->async()->Generate(context_.get(), &request_, this);
    StartRead(&message_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    const absl::Time now = absl::Now();
    result_.token_times.insert(result_.token_times.end(), message_.tokens_size(), now);
    if (message_.has_finish()) result_.usage = message_.finish().usage();
    if (on_token_ && message_.tokens_size() > 0) on_token_(result_.token_times.size());
    StartRead(&message_);
  }

  void OnDone(const grpc::Status& status) override {
    result_.end = absl::Now();
    result_.status = FromGrpc(status);
    on_done_(std::move(result_));
    delete this;
  }

 private:
  const v1::GenerateRequest request_;
  const std::shared_ptr<grpc::ClientContext> context_;
  const std::function<void(size_t)> on_token_;
  const std::function<void(StreamResult)> on_done_;
  v1::GenerateResponse message_;
  StreamResult result_;
};

}  // namespace

std::shared_ptr<grpc::ClientContext> StartStream(v1::Inference::Stub* stub,
                                                 v1::GenerateRequest request,
                                                 absl::Duration timeout,
                                                 std::function<void(size_t)> on_token,
                                                 std::function<void(StreamResult)> on_done) {
  auto context = std::make_shared<grpc::ClientContext>();
  SetTimeout(timeout, context.get());
  (new Reader(std::move(request), context, std::move(on_token), std::move(on_done)))->Start(stub);
  return context;
}

double TimeToFirstToken(const StreamResult& result) {
  return absl::ToDoubleSeconds(result.token_times.front() - result.start);
}

void AppendGaps(const StreamResult& result, std::vector<double>* gaps) {
  for (size_t i = 1; i < result.token_times.size(); ++i) {
    gaps->push_back(absl::ToDoubleSeconds(result.token_times[i] - result.token_times[i - 1]));
  }
}

}  // namespace adamoe
