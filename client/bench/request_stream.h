// One Generate call that notes when its tokens came. Runs on gRPC's threads.
#ifndef ADAMOE_CLIENT_BENCH_REQUEST_STREAM_H_
#define ADAMOE_CLIENT_BENCH_REQUEST_STREAM_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "adamoe/v1/inference.grpc.pb.h"

namespace adamoe {

struct StreamResult {
  absl::Status status;
  absl::Time start;
  absl::Time end;
  std::vector<absl::Time> token_times;  // in order; tokens of one message share a time
  v1::Usage usage;                      // of a stream that ended well
};

// Starts `request` and returns at once. `on_token`, where given, is called after each message with
// tokens, with how many there are so far; `on_done` once, last. Both run on a gRPC thread and must
// not block. `stub` must outlive the call; the answer cancels it.
std::shared_ptr<grpc::ClientContext> StartStream(v1::Inference::Stub* stub,
                                                 v1::GenerateRequest request,
                                                 absl::Duration timeout,
                                                 std::function<void(size_t)> on_token,
                                                 std::function<void(StreamResult)> on_done);

// Seconds from the start to the first token; REQUIRES: there is one.
double TimeToFirstToken(const StreamResult& result);

// Adds the seconds between each token and the one before. Several tokens in one message: the first
// has the whole gap, the others none, as their reader sees it.
void AppendGaps(const StreamResult& result, std::vector<double>* gaps);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_BENCH_REQUEST_STREAM_H_
