// The tensors of the Open Inference Protocol that the model takes and gives, as Triton's vLLM
// backend names them, and their bytes. Pure functions.
#ifndef ADAMOE_SERVER_RPC_OPEN_INFERENCE_TENSORS_H_
#define ADAMOE_SERVER_RPC_OPEN_INFERENCE_TENSORS_H_

#include <open_inference/grpc_service.pb.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace adamoe {

// An input of one element.
struct InputSpec {
  const char* name;
  inference::DataType type;  // TYPE_STRING or TYPE_BOOL
  bool optional;
};

// In this order, outputs are sent.
enum class Output {
  kText,
  kFinishReason,
  kCumulativeLogprob,
  kLogprobs,
  kNumInputTokens,
  kNumOutputTokens,
  kExperts
};
inline constexpr int kNumOutputs = 7;
using OutputSet = std::array<bool, kNumOutputs>;

struct OutputSpec {
  const char* name;
  inference::DataType type;
  int64_t dim;           // -1: any number of elements
  const char* asked_by;  // the input that asks for it; null: always there
};

inline constexpr InputSpec kInputs[] = {
    {"text_input", inference::TYPE_STRING, false},
    {"stream", inference::TYPE_BOOL, true},
    {"sampling_parameters", inference::TYPE_STRING, true},
    {"exclude_input_in_output", inference::TYPE_BOOL, true},
    {"return_finish_reason", inference::TYPE_BOOL, true},
    {"return_cumulative_logprob", inference::TYPE_BOOL, true},
    {"return_logprobs", inference::TYPE_BOOL, true},
    {"return_num_input_tokens", inference::TYPE_BOOL, true},
    {"return_num_output_tokens", inference::TYPE_BOOL, true},
    {"return_experts", inference::TYPE_BOOL, true},
};

inline constexpr std::array<OutputSpec, kNumOutputs> kOutputs = {{
    {"text_output", inference::TYPE_STRING, 1, nullptr},
    {"finish_reason", inference::TYPE_STRING, 1, "return_finish_reason"},
    {"cumulative_logprob", inference::TYPE_FP32, 1, "return_cumulative_logprob"},
    {"logprobs", inference::TYPE_STRING, 1, "return_logprobs"},
    {"num_input_tokens", inference::TYPE_UINT32, 1, "return_num_input_tokens"},
    {"num_output_tokens", inference::TYPE_UINT32, 1, "return_num_output_tokens"},
    {"experts", inference::TYPE_UINT32, -1, "return_experts"},
}};

// As requests and metadata write a type: "BYTES" for TYPE_STRING.
const char* DatatypeOf(inference::DataType type);

// Name -> element of every input, from contents or raw_input_contents. INVALID_ARGUMENT names the
// input that is unknown, missing, there twice, or not one element of its type.
using Inputs = std::map<std::string, std::variant<bool, std::string>, std::less<>>;
absl::StatusOr<Inputs> ReadInputs(const inference::ModelInferRequest& request);

// Elements as raw_output_contents has them, appended to *response with their tensor.
void AddOutput(Output output, absl::string_view text, inference::ModelInferResponse* response);
void AddOutput(Output output, float value, inference::ModelInferResponse* response);
void AddOutput(Output output, const std::vector<uint32_t>& values,
               inference::ModelInferResponse* response);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_OPEN_INFERENCE_TENSORS_H_
