#include "tests/gpu/bench/roofline.h"

#include <algorithm>
#include <cmath>

namespace adamoe {
namespace {

constexpr double kBf16Bytes = 2.0;
constexpr double kFloatBytes = 4.0;

double AttentionElements(const ModelConfig& c) {
  return double{2.0} * c.hidden_size * c.head_dim * (c.num_heads + c.num_kv_heads);
}

double ExpertElements(const ModelConfig& c) { return 3.0 * c.hidden_size * c.intermediate_size; }

double RouterElements(const ModelConfig& c) {
  return double{1.0} * c.hidden_size * (c.num_experts + c.num_null_experts);
}

double HeadElements(const ModelConfig& c) { return double{1.0} * c.hidden_size * c.vocab_size; }

// Keys and values of one position in all layers.
double KvBytes(const ModelConfig& c) {
  return kBf16Bytes * 2 * c.num_layers * c.num_kv_heads * c.head_dim;
}

}  // namespace

double BalancedLoad(const ModelConfig& config) {
  return double{1.0} * config.experts_per_token * config.num_experts /
         (config.num_experts + config.num_null_experts);
}

double DistinctExperts(int32_t num_experts, double load, int64_t num_tokens) {
  return num_experts * (1.0 - std::pow(1.0 - load / num_experts, static_cast<double>(num_tokens)));
}

double StepBytes(const ModelConfig& config, const StepWork& work) {
  const double distinct = DistinctExperts(config.num_experts, work.load, work.num_tokens);
  const double layer =
      kBf16Bytes * (AttentionElements(config) + distinct * ExpertElements(config)) +
      kFloatBytes * (RouterElements(config) + 2.0 * config.hidden_size);
  const double head = work.num_logit_rows > 0 ? kBf16Bytes * HeadElements(config) : 0.0;
  return config.num_layers * layer + head + work.cached_positions * KvBytes(config);
}

double StepFlops(const ModelConfig& config, const StepWork& work) {
  const double linear =
      AttentionElements(config) + RouterElements(config) + work.load * ExpertElements(config);
  // Scores and weighted sums.
  const double attention = 2.0 * work.keys_per_token * config.num_heads * config.head_dim;
  return 2.0 * (work.num_tokens * config.num_layers * (linear + attention) +
                work.num_logit_rows * HeadElements(config));
}

double StepSecondsAtLeast(const ModelConfig& config, const StepWork& work,
                          const DeviceRates& rates) {
  return std::max(StepBytes(config, work) / rates.bytes_per_second,
                  StepFlops(config, work) / rates.flops_per_second);
}

StepWork DecodeWork(int64_t batch, double load, int64_t context) {
  return {.num_tokens = batch,
          .num_logit_rows = batch,
          .load = load,
          .keys_per_token = static_cast<double>(context),
          .cached_positions = static_cast<double>(batch * context)};
}

StepWork PrefillWork(int64_t num_tokens, double load) {
  return {.num_tokens = num_tokens,
          .num_logit_rows = 1,
          .load = load,
          .keys_per_token = (static_cast<double>(num_tokens) + 1.0) / 2.0,
          .cached_positions = static_cast<double>(num_tokens)};
}

}  // namespace adamoe
