// The responses of one inference request: messages of its generation, gathered and turned into
// tensors. Thread-compatible.
#ifndef ADAMOE_SERVER_RPC_OPEN_INFERENCE_INFER_ANSWER_H_
#define ADAMOE_SERVER_RPC_OPEN_INFERENCE_INFER_ANSWER_H_

#include <open_inference/grpc_service.pb.h>

#include <cstdint>
#include <string>
#include <vector>

#include "server/rpc/open_inference/infer_request.h"

namespace adamoe {

namespace v1 {
class GenerateResponse;
}  // namespace v1

// The served model's name and version, the id of the request, and whether another response follows:
// clients take a response that does not say so for the last.
inference::ModelInferResponse MakeResponse(const ServedModel& model, const std::string& id,
                                           bool final);

class InferAnswer {
 public:
  explicit InferAnswer(AnswerOptions options) : options_(std::move(options)) {}

  bool stream() const { return options_.stream; }

  // `num_prompt_tokens` of the request.
  void Add(const v1::GenerateResponse& message, uint32_t num_prompt_tokens);

  // Fills in the outputs with what came since the last call; cumulative_logprob is over all.
  void TakeOutputs(inference::ModelInferResponse* response);

 private:
  bool Wants(Output output) const { return options_.wanted[static_cast<int>(output)]; }

  const AnswerOptions options_;
  bool first_ = true;
  std::string text_;
  std::string logprobs_;  // entries of a JSON array
  double cumulative_logprob_ = 0;
  std::vector<uint32_t> experts_;  // [num_output_tokens_]
  std::string finish_reason_ = "None";
  uint32_t num_input_tokens_ = 0;
  uint32_t num_output_tokens_ = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_OPEN_INFERENCE_INFER_ANSWER_H_
