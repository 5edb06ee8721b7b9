// A ModelInferRequest as a v1::GenerateRequest, and what its answer is to hold. Pure functions.
#ifndef ADAMOE_SERVER_RPC_OPEN_INFERENCE_INFER_REQUEST_H_
#define ADAMOE_SERVER_RPC_OPEN_INFERENCE_INFER_REQUEST_H_

#include <open_inference/grpc_service.pb.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/rpc/open_inference/tensors.h"
#include "server/serving/served_model.h"

namespace adamoe {

namespace v1 {
class GenerateRequest;
}  // namespace v1

// The one version of the one model.
inline constexpr char kModelVersion[] = "1";

struct AnswerOptions {
  bool stream = false;      // responses as tokens are made, else one
  OutputSet wanted = {};    // kText among them unless the request names its outputs without it
  std::string prefix = {};  // stands before the text: the prompt, where that is wanted
};

// NOT_FOUND when `name` and `version` are not the served model; an empty version is.
absl::Status CheckModel(absl::string_view name, absl::string_view version,
                        const ServedModel& model);

// INVALID_ARGUMENT names the field, NOT_FOUND the model.
absl::Status ReadInferRequest(const inference::ModelInferRequest& request, const ServedModel& model,
                              v1::GenerateRequest* generate, AnswerOptions* answer);

// How long the request may take by its own `timeout`; infinite where it has none, or one that
// ReadInferRequest refuses.
absl::Duration TimeoutOf(const inference::ModelInferRequest& request);

// `field` of v1::GenerateRequest as the client wrote it: "prompt" -> "inputs.text_input". Names
// that are no such field stay as they are.
std::string InferField(absl::string_view field);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_OPEN_INFERENCE_INFER_REQUEST_H_
