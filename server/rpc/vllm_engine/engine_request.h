// vllm.grpc.engine's GenerateRequest as v1::GenerateRequests. Pure functions.
#ifndef ADAMOE_SERVER_RPC_VLLM_ENGINE_ENGINE_REQUEST_H_
#define ADAMOE_SERVER_RPC_VLLM_ENGINE_ENGINE_REQUEST_H_

#include <smg/vllm_engine.pb.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace adamoe {

namespace v1 {
class GenerateRequest;
}  // namespace v1

// Samples of one request at most.
inline constexpr uint32_t kMaxSamples = 16;

// What the answer is to hold.
struct EngineAnswerOptions {
  bool stream = false;
  bool logprobs = false;
  uint32_t num_top_logprobs = 0;
  bool prompt_logprobs = false;
  uint32_t num_top_prompt_logprobs = 0;
  std::vector<uint32_t> stop_token_ids;  // of the request, without the model's own
};

// How many samples are asked for: n, where 0 means 1.
uint32_t NumSamples(const vllm::grpc::engine::GenerateRequest& request);

// The request of sample `index`, whose seed is the request's own plus `index`. INVALID_ARGUMENT
// names a field that asks for something that this server does not do.
absl::Status ReadEngineRequest(const vllm::grpc::engine::GenerateRequest& request, uint32_t index,
                               v1::GenerateRequest* generate, EngineAnswerOptions* answer);

// `field` of v1::GenerateRequest as the client wrote it: "prompt" -> "text". Names that are no such
// field stay as they are.
std::string EngineField(absl::string_view field);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_VLLM_ENGINE_ENGINE_REQUEST_H_
