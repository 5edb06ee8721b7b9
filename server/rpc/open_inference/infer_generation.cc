#include "server/rpc/open_inference/infer_generation.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "server/base/status_macros.h"
#include "server/serving/request_errors.h"

namespace adamoe {

InferGeneration::InferGeneration(const CallContext& context, const char* rpc, absl::Time deadline,
                                 CallOrigin origin, const inference::ModelInferRequest& request,
                                 std::function<void()> wake)
    : model_(*context.model),
      id_(request.id()),
      generation_(Generation::Make(context, rpc,
                                   std::min(deadline, absl::Now() + TimeoutOf(request)),
                                   std::move(origin), std::move(wake))) {}

void InferGeneration::Start(const inference::ModelInferRequest& request, const absl::Status& parsed,
                            bool may_stream) {
  generation_->Start([&](v1::GenerateRequest* generate) -> absl::Status {
    RETURN_IF_ERROR(parsed);
    AnswerOptions options;
    RETURN_IF_ERROR(ReadInferRequest(request, model_, generate, &options));
    if (options.stream && !may_stream) {
      return FieldError("inputs.stream", "true needs ModelStreamInfer");
    }
    answer_.emplace(std::move(options));
    return absl::OkStatus();
  });
}

InferGeneration::Taken InferGeneration::Take() {
  v1::GenerateResponse message;
  const Generation::Taken taken = generation_->Take(&message);
  Taken result;
  if (taken.end.has_value()) result.end = WithFieldRenamed(*taken.end, InferField);
  result.may_have_more = taken.has_message && !taken.end.has_value();
  if (taken.has_message) answer_->Add(message, taken.num_prompt_tokens);
  const bool complete = taken.end.has_value() && taken.end->ok();
  if (complete || (taken.has_message && answer_->stream())) {
    result.response = MakeResponse(model_, id_, complete);
    answer_->TakeOutputs(&*result.response);
  }
  return result;
}

inference::ModelInferResponse InferGeneration::LastWord() const {
  return MakeResponse(model_, id_, /*final=*/true);
}

}  // namespace adamoe
