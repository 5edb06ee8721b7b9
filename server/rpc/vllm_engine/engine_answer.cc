#include "server/rpc/vllm_engine/engine_answer.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>

namespace adamoe {
namespace {

namespace engine = vllm::grpc::engine;

// The likeliest `count` of them.
void FillTop(const v1::Token& token, uint32_t count, engine::TopLogProbs* top) {
  const int size = std::min(token.top_logprobs_size(), static_cast<int>(count));
  for (int i = 0; i < size; ++i) {
    top->add_values(token.top_logprobs(i).logprob());
    top->add_token_ids(token.top_logprobs(i).id());
  }
}

}  // namespace

void EngineAnswer::AddLogprobs(const v1::Token& token) {
  engine::OutputLogProbs* logprobs = chunk_.mutable_output_logprobs();
  logprobs->add_token_logprobs(token.logprob());
  logprobs->add_token_ids(token.id());
  FillTop(token, options_.num_top_logprobs, logprobs->add_top_logprobs());
}

void EngineAnswer::AddPromptLogprobs(const v1::Token& token) {
  engine::InputLogProbs* logprobs = chunk_.mutable_input_logprobs();
  engine::InputTokenLogProb* value = logprobs->add_token_logprobs();
  if (token.has_logprob()) value->set_value(token.logprob());
  logprobs->add_token_ids(token.id());
  FillTop(token, options_.num_top_prompt_logprobs, logprobs->add_top_logprobs());
}

void EngineAnswer::Add(const v1::GenerateResponse& message, uint32_t num_prompt_tokens) {
  chunk_.Clear();
  chunk_.set_index(index_);
  chunk_.set_prompt_tokens(num_prompt_tokens);
  chunk_.set_completion_tokens(static_cast<uint32_t>(message.tokens_size()));
  if (options_.prompt_logprobs) {
    for (const v1::Token& token : message.prompt_tokens_info()) AddPromptLogprobs(token);
  }
  for (const v1::Token& token : message.tokens()) {
    chunk_.add_token_ids(token.id());
    complete_.add_output_ids(token.id());
    if (options_.logprobs) AddLogprobs(token);
  }
  if (!options_.stream) {
    if (chunk_.has_output_logprobs()) {
      complete_.mutable_output_logprobs()->MergeFrom(chunk_.output_logprobs());
    }
    if (chunk_.has_input_logprobs()) {
      complete_.mutable_input_logprobs()->MergeFrom(chunk_.input_logprobs());
    }
  }
  if (!message.has_finish()) return;
  const v1::Finish& finish = message.finish();
  chunk_.set_cached_tokens(finish.usage().cached_prompt_tokens());
  complete_.set_cached_tokens(finish.usage().cached_prompt_tokens());
  complete_.set_finish_reason(finish.reason() == v1::LENGTH ? "length" : "stop");
  const auto& ids = options_.stop_token_ids;
  if (finish.reason() == v1::STOP_SEQUENCE) {
    complete_.set_matched_stop_str(finish.stop_sequence());
  } else if (finish.reason() == v1::STOP_TOKEN && !complete_.output_ids().empty()) {
    const uint32_t last = *complete_.output_ids().rbegin();
    const bool asked_for = std::find(ids.begin(), ids.end(), last) != ids.end();
    if (asked_for) complete_.set_matched_token_id(last);
  }
}

engine::GenerateResponse EngineAnswer::Chunk() const {
  engine::GenerateResponse response;
  *response.mutable_chunk() = chunk_;
  return response;
}

engine::GenerateResponse EngineAnswer::Complete(uint32_t num_prompt_tokens) {
  engine::GenerateResponse response;
  if (complete_.finish_reason().empty()) complete_.set_finish_reason("abort");
  complete_.set_index(index_);
  complete_.set_prompt_tokens(num_prompt_tokens);
  complete_.set_completion_tokens(static_cast<uint32_t>(complete_.output_ids_size()));
  *response.mutable_complete() = std::move(complete_);
  return response;
}

}  // namespace adamoe
