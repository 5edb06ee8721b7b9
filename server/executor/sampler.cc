#include "server/executor/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "server/base/status_macros.h"
#include "server/executor/logits.h"

namespace adamoe {
namespace {

using Candidate = Sampler::Scratch::Candidate;

constexpr float kLargest = std::numeric_limits<float>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool MoreLikely(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that leaves no pattern of
// its input.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Gives every token that is not allowed, of any where `allowed` is not empty, minus infinity.
void Bar(TokenMask allowed, absl::Span<float> logits) {
  for (size_t word = 0; word < allowed.size(); ++word) {
    if (allowed[word] == ~0u) continue;
    const size_t begin = word * 32;
    const size_t end = std::min(begin + 32, logits.size());
    for (size_t id = begin; id < end; ++id) {
      if ((allowed[word] >> (id - begin) & 1u) == 0) logits[id] = -kInfinity;
    }
  }
}

double TotalWeight(const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  return total;
}

// Keeps the `count` most likely.
void KeepTopK(size_t count, std::vector<Candidate>* candidates) {
  if (count >= candidates->size()) return;
  std::nth_element(candidates->begin(), candidates->begin() + count, candidates->end(), MoreLikely);
  candidates->resize(count);
}

// Drops those too unlikely to be among the likeliest that hold `share` of the weight: all of them
// together weigh less than what is left over. Of a large vocabulary, few remain.
void DropUnlikely(double share, double total, std::vector<Candidate>* candidates) {
  const double least = (1 - share) * total / candidates->size();
  const auto unlikely = [least](const Candidate& c) { return c.weight < least; };
  candidates->erase(std::remove_if(candidates->begin(), candidates->end(), unlikely),
                    candidates->end());
}

// Keeps the fewest most likely that hold `share` of the weight: a quickselect that compares weights
// where the usual one compares ranks, so nothing is sorted.
void KeepTopP(double share, std::vector<Candidate>* candidates) {
  const double total = TotalWeight(*candidates);
  DropUnlikely(share, total, candidates);
  // All in [0, low) are kept and hold too little; [0, high) hold enough, or are all there are.
  size_t low = 0;
  size_t high = candidates->size();
  double held = 0;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    const auto begin = candidates->begin();
    std::nth_element(begin + low, begin + middle, begin + high, MoreLikely);
    double weight = held;
    for (size_t i = low; i < middle; ++i) weight += (*candidates)[i].weight;
    if (weight >= share * total) {
      high = middle;
    } else {
      low = middle;
      held = weight;
    }
  }
  candidates->resize(high);
}

}  // namespace

Sampler::Sampler(const SamplingParams* params, uint64_t seed, absl::Span<const int32_t> prompt)
    : params_(params), seed_(params->seed.value_or(seed)) {
  if (params->repetition_penalty != 1.0f) seen_.insert(prompt.begin(), prompt.end());
}

absl::StatusOr<int32_t> Sampler::Sample(absl::Span<const float> logits, TokenMask allowed,
                                        Scratch* scratch) const {
  RETURN_IF_ERROR(CheckLogits(logits));
  if (!allowed.empty() || AdjustsLogits()) {
    scratch->logits.assign(logits.begin(), logits.end());
    Adjust(allowed, absl::MakeSpan(scratch->logits));
    logits = scratch->logits;
  }
  const int32_t likeliest = ArgMax(logits);
  const float max = logits[likeliest];
  if (!std::isfinite(max)) return absl::InternalError("no token is left to choose from");
  if (params_->temperature == 0) return likeliest;
  const bool filters = params_->top_k > 0 || params_->top_p < 1 || params_->min_p > 0;
  return filters ? DrawFiltered(logits, max, scratch) : Draw(logits, max, scratch);
}

void Sampler::Append(int32_t token) {
  ++num_output_tokens_;
  if (params_->repetition_penalty != 1.0f) seen_.insert(token);
  if (params_->presence_penalty != 0 || params_->frequency_penalty != 0) ++output_counts_[token];
}

bool Sampler::AdjustsLogits() const {
  return !params_->logit_bias.empty() || !seen_.empty() || !output_counts_.empty() ||
         (num_output_tokens_ < params_->min_tokens && !params_->stop_token_ids.empty());
}

void Sampler::Adjust(TokenMask allowed, absl::Span<float> logits) const {
  Bar(allowed, logits);
  for (const auto& [id, bias] : params_->logit_bias) logits[id] += bias;
  if (num_output_tokens_ < params_->min_tokens && !OnlyStopsAllowed(allowed)) {
    for (const int32_t id : params_->stop_token_ids) logits[id] = -kInfinity;
  }
  Penalise(logits);
}

bool Sampler::OnlyStopsAllowed(TokenMask allowed) const {
  if (allowed.empty()) return false;
  std::vector<uint32_t> others(allowed.begin(), allowed.end());
  for (const int32_t id : params_->stop_token_ids) others[id / 32] &= ~(1u << (id % 32));
  return std::all_of(others.begin(), others.end(), [](uint32_t word) { return word == 0; });
}

// What was minus infinity stays so: a penalty neither allows nor, by overflow, forbids or forces a
// token.
void Sampler::Penalise(absl::Span<float> logits) const {
  const float penalty = params_->repetition_penalty;
  for (const int32_t id : seen_) {
    float& logit = logits[id];
    if (!std::isfinite(logit)) continue;
    logit = std::clamp(logit > 0 ? logit / penalty : logit * penalty, -kLargest, kLargest);
  }
  for (const auto& [id, count] : output_counts_) {
    logits[id] -= params_->presence_penalty + params_->frequency_penalty * count;
  }
}

int32_t Sampler::Draw(absl::Span<const float> logits, float max, Scratch* scratch) const {
  std::vector<float>& weights = scratch->weights;
  weights.resize(logits.size());
  double total = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    weights[id] = std::exp((logits[id] - max) / params_->temperature);
    total += weights[id];
  }
  const double target = Uniform() * total;
  double passed = 0;
  size_t last = 0;
  for (size_t id = 0; id < weights.size(); ++id) {
    if (weights[id] == 0) continue;
    last = id;
    passed += weights[id];
    if (passed > target) break;
  }
  return static_cast<int32_t>(last);
}

int32_t Sampler::DrawFiltered(absl::Span<const float> logits, float max, Scratch* scratch) const {
  std::vector<Candidate>& candidates = scratch->candidates;
  candidates.clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] < -kLargest) continue;
    candidates.push_back({logits[id], 0.0f, static_cast<int32_t>(id)});
  }
  if (params_->top_k > 0) KeepTopK(params_->top_k, &candidates);
  for (Candidate& c : candidates) c.weight = std::exp((c.logit - max) / params_->temperature);
  if (params_->top_p < 1) KeepTopP(params_->top_p, &candidates);
  if (params_->min_p > 0) {
    const auto unlikely = [this](const Candidate& c) { return c.weight < params_->min_p; };
    candidates.erase(std::remove_if(candidates.begin(), candidates.end(), unlikely),
                     candidates.end());
  }
  const double target = Uniform() * TotalWeight(candidates);
  double passed = 0;
  for (const Candidate& candidate : candidates) {
    passed += candidate.weight;
    if (passed > target) return candidate.id;
  }
  return candidates.front().id;
}

double Sampler::Uniform() const {
  const uint64_t bits = Mix(Mix(seed_) + num_output_tokens_);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace adamoe
