// sampling_parameters: vLLM's names for what is asked of a generation, as a JSON object or as a
// request's parameters. Pure functions.
#ifndef ADAMOE_SERVER_RPC_OPEN_INFERENCE_SAMPLING_PARAMETERS_H_
#define ADAMOE_SERVER_RPC_OPEN_INFERENCE_SAMPLING_PARAMETERS_H_

#include <open_inference/grpc_service.pb.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace adamoe {

namespace v1 {
class GenerateRequest;
}  // namespace v1

using InferParameters = google::protobuf::Map<std::string, inference::InferParameter>;

// Fills sampling, logprobs, compute and structured of *request. Numbers and truth values may be
// strings ("100"). INVALID_ARGUMENT names the key that is unknown, of another type, or asks for
// something that this server does not do; values that ask for nothing (lora_name null, n 1) pass.
// Ranges are checked later, with those of every other request.
absl::Status ReadSamplingJson(absl::string_view json, v1::GenerateRequest* request);

// The same of parameters, without those that speak of the request itself (priority, timeout,
// sequence_*, triton_*, headers).
absl::Status ReadSamplingParameters(const InferParameters& parameters,
                                    v1::GenerateRequest* request);

// Of parameters only null_bias and max_experts_per_token: where the rest is in a tensor.
absl::Status ReadComputeParameters(const InferParameters& parameters, v1::GenerateRequest* request);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_OPEN_INFERENCE_SAMPLING_PARAMETERS_H_
