// One inference request at work, in a call of its own or among others of a stream: its generation,
// and the answer that it becomes. Thread-compatible, but for what Generation allows.
#ifndef ADAMOE_SERVER_RPC_OPEN_INFERENCE_INFER_GENERATION_H_
#define ADAMOE_SERVER_RPC_OPEN_INFERENCE_INFER_GENERATION_H_

#include <open_inference/grpc_service.pb.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/rpc/open_inference/infer_answer.h"
#include "server/serving/generation.h"

namespace adamoe {

class InferGeneration {
 public:
  // `rpc`, `deadline`, `origin` and `wake` as for Generation; the request's own timeout may end it
  // sooner.
  InferGeneration(const CallContext& context, const char* rpc, absl::Time deadline,
                  CallOrigin origin, const inference::ModelInferRequest& request,
                  std::function<void()> wake);

  // Call once, with the same request. `parsed`: what became of reading its bytes; `may_stream`: the
  // call can have more than one response.
  void Start(const inference::ModelInferRequest& request, const absl::Status& parsed,
             bool may_stream);

  // The client has gone. Any thread.
  void Abandon() { generation_->Abandon(); }

  struct Taken {
    std::optional<inference::ModelInferResponse> response;
    std::optional<absl::Status> end;  // as Generation::Taken has it; a response comes before it
    bool may_have_more = false;
  };
  Taken Take();

  // What an error says beside its message: of which request it is, and that it was the last word.
  inference::ModelInferResponse LastWord() const;

 private:
  const ServedModel& model_;
  const std::string id_;
  const std::shared_ptr<Generation> generation_;
  std::optional<InferAnswer> answer_;  // set while it starts, if the request can be read
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_OPEN_INFERENCE_INFER_GENERATION_H_
