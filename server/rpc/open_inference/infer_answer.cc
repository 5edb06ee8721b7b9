#include "server/rpc/open_inference/infer_answer.h"

#include <adamoe/v1/inference.pb.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

using Json = nlohmann::json;

// As the backend writes it: id -> logprob, rank among all tokens where it is known, text.
std::string LogprobsOf(const v1::Token& token) {
  Json object = Json::object();
  const auto add = [&object](const auto& entry, Json rank) {
    object[std::to_string(entry.id())] = {
        {"logprob", entry.logprob()}, {"rank", std::move(rank)}, {"decoded_token", entry.text()}};
  };
  add(token, nullptr);
  int rank = 0;
  for (const v1::TokenLogprob& top : token.top_logprobs()) add(top, ++rank);
  return object.dump();
}

const char* NameOf(v1::FinishReason reason) { return reason == v1::LENGTH ? "length" : "stop"; }

}  // namespace

inference::ModelInferResponse MakeResponse(const ServedModel& model, const std::string& id,
                                           bool final) {
  inference::ModelInferResponse response;
  response.set_model_name(model.name);
  response.set_model_version(kModelVersion);
  response.set_id(id);
  (*response.mutable_parameters())["triton_final_response"].set_bool_param(final);
  return response;
}

void InferAnswer::Add(const v1::GenerateResponse& message, uint32_t num_prompt_tokens) {
  num_input_tokens_ = num_prompt_tokens;
  text_ += message.text();
  for (const v1::Token& token : message.tokens()) {
    ++num_output_tokens_;
    cumulative_logprob_ += token.logprob();
    if (Wants(Output::kLogprobs)) {
      absl::StrAppend(&logprobs_, logprobs_.empty() ? "" : ", ", LogprobsOf(token));
    }
    if (Wants(Output::kExperts)) experts_.push_back(token.experts());
  }
  if (message.has_finish()) finish_reason_ = NameOf(message.finish().reason());
}

void InferAnswer::TakeOutputs(inference::ModelInferResponse* response) {
  if (Wants(Output::kText)) {
    AddOutput(Output::kText, first_ ? absl::StrCat(options_.prefix, text_) : text_, response);
  }
  if (Wants(Output::kFinishReason)) AddOutput(Output::kFinishReason, finish_reason_, response);
  if (Wants(Output::kCumulativeLogprob)) {
    AddOutput(Output::kCumulativeLogprob, static_cast<float>(cumulative_logprob_), response);
  }
  if (Wants(Output::kLogprobs)) {
    AddOutput(Output::kLogprobs, absl::StrCat("[", logprobs_, "]"), response);
  }
  if (Wants(Output::kNumInputTokens)) {
    AddOutput(Output::kNumInputTokens, std::vector<uint32_t>{num_input_tokens_}, response);
  }
  if (Wants(Output::kNumOutputTokens)) {
    AddOutput(Output::kNumOutputTokens, std::vector<uint32_t>{num_output_tokens_}, response);
  }
  if (Wants(Output::kExperts)) AddOutput(Output::kExperts, experts_, response);
  first_ = false;
  text_.clear();
  logprobs_.clear();
  experts_.clear();
  num_output_tokens_ = 0;
}

}  // namespace adamoe
