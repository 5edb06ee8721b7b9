#include "server/serving/generation_output.h"

#include <adamoe/v1/inference.pb.h>

#include <algorithm>
#include <utility>

#include "server/serving/utf8.h"

namespace adamoe {
namespace {

void FillDuration(absl::Duration duration, google::protobuf::Duration* proto) {
  duration = std::max(duration, absl::ZeroDuration());
  const int64_t seconds = absl::ToInt64Seconds(duration);
  proto->set_seconds(seconds);
  proto->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(duration - absl::Seconds(seconds))));
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStopToken:
      return v1::STOP_TOKEN;
    case FinishReason::kStopSequence:
      return v1::STOP_SEQUENCE;
    case FinishReason::kLength:
      return v1::LENGTH;
    case FinishReason::kNone:
      break;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

}  // namespace

struct GenerationOutput::Piece {
  bool has_token = false;
  v1::Token token;
  std::string text;
};

void FillUsage(const Usage& usage, const ExpertFlopsRates& rates, v1::Usage* proto) {
  proto->set_prompt_tokens(usage.prompt_tokens);
  proto->set_completion_tokens(usage.completion_tokens);
  proto->set_cached_prompt_tokens(usage.cached_prompt_tokens);
  proto->set_true_slots(usage.slots.true_slots);
  proto->set_null_slots(usage.slots.null_slots);
  proto->set_dropped_slots(usage.slots.dropped_slots);
  const ExpertFlops flops = rates.Of(usage.slots);
  proto->set_executed_expert_flops(flops.executed);
  proto->set_saved_expert_flops(flops.saved);
  proto->set_baseline_expert_flops(flops.baseline);
  FillDuration(usage.queue_time, proto->mutable_queue_time());
  FillDuration(usage.prefill_time, proto->mutable_prefill_time());
  FillDuration(usage.decode_time, proto->mutable_decode_time());
}

GenerationOutput::GenerationOutput(Options options, const Tokenizer& tokenizer)
    : options_(std::move(options)),
      tokenizer_(tokenizer),
      decoder_(tokenizer, /*follows_text=*/true),
      matcher_(options_.stops) {}

GenerationOutput::~GenerationOutput() = default;

std::string GenerationOutput::TextOf(int32_t id) const {
  return MendUtf8(tokenizer_.TokenBytes(id));
}

v1::Token GenerationOutput::ToProto(const TokenInfo& token) const {
  v1::Token proto;
  proto.set_id(token.id);
  proto.set_text(TextOf(token.id));
  if (token.logprob.has_value()) proto.set_logprob(*token.logprob);
  for (const TokenLogprob& top : token.top_logprobs) {
    auto* alternative = proto.add_top_logprobs();
    alternative->set_id(top.id);
    alternative->set_text(TextOf(top.id));
    alternative->set_logprob(top.logprob);
  }
  proto.set_experts(token.experts);
  proto.mutable_experts_per_layer()->Add(token.experts_per_layer.begin(),
                                         token.experts_per_layer.end());
  return proto;
}

void GenerationOutput::AddPrompt(const std::vector<TokenInfo>& tokens) {
  for (const TokenInfo& token : tokens) prompt_.push_back(ToProto(token));
}

bool GenerationOutput::AddToken(const TokenInfo& token) {
  ++num_tokens_;
  Piece& piece = pieces_.emplace_back(Piece{true, ToProto(token), ""});
  const auto& stop_ids = options_.stop_token_ids;
  if (std::find(stop_ids.begin(), stop_ids.end(), token.id) != stop_ids.end()) return false;
  StopMatcher::Result result =
      matcher_.Push(decoder_.Push(token.id), num_tokens_ >= options_.min_tokens);
  piece.text = std::move(result.text);
  if (result.stop != nullptr) stop_ = *result.stop;
  return stop_.has_value();
}

void GenerationOutput::Finish(const Outcome& outcome) {
  if (!stop_.has_value()) {
    // The decoder's last text may hold a stop string that no token showed.
    StopMatcher::Result last = matcher_.Push(decoder_.Flush(), num_tokens_ >= options_.min_tokens);
    if (last.stop != nullptr) {
      stop_ = *last.stop;
    } else {
      last.text += matcher_.Flush();
    }
    if (!last.text.empty()) pieces_.push_back(Piece{false, {}, std::move(last.text)});
  }
  if (!outcome.status.ok()) return;
  finish_ = std::make_unique<v1::Finish>();
  finish_->set_reason(
      adamoe::ToProto(stop_.has_value() ? FinishReason::kStopSequence : outcome.reason));
  finish_->set_stop_sequence(stop_.value_or(""));
  FillUsage(outcome.usage, options_.flops, finish_->mutable_usage());
}

void GenerationOutput::TakeMessage(v1::GenerateResponse* message) {
  message->Clear();
  message->set_request_id(options_.request_id);
  size_t num_bytes = 0;
  for (; !prompt_.empty() && num_bytes < kMaxMessageBytes; prompt_.pop_front()) {
    num_bytes += prompt_.front().ByteSizeLong();
    *message->add_prompt_tokens_info() = std::move(prompt_.front());
  }
  for (; !pieces_.empty() && num_bytes < kMaxMessageBytes; pieces_.pop_front()) {
    Piece& piece = pieces_.front();
    num_bytes += piece.token.ByteSizeLong() + piece.text.size();
    if (piece.has_token) *message->add_tokens() = std::move(piece.token);
    message->mutable_text()->append(piece.text);
  }
  if (!prompt_.empty() || !pieces_.empty() || finish_ == nullptr) return;
  message->set_allocated_finish(finish_.release());
}

}  // namespace adamoe
