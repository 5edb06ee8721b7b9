// Chooses one request's next token from a row of logits.
//
// In this order: tokens that the request's matcher does not allow are barred, whatever their bias;
// logit_bias is added; stop tokens are barred until min_tokens are out, unless the matcher allows
// no other; repetition_penalty (prompt and output), then presence and frequency penalties (output);
// temperature 0 takes the largest logit (the lowest id of equal ones) and ends here. Otherwise the
// logits are divided by the temperature, cut to the top_k most likely tokens, of these to the
// fewest that hold top_p of their mass, of these to those at least min_p times as likely as the
// likeliest, and one is drawn.
//
// The random number of the i-th output token is a function of (seed, i) alone: neither the batch
// nor a preemption changes what is drawn. Thread-compatible.
#ifndef ADAMOE_SERVER_EXECUTOR_SAMPLER_H_
#define ADAMOE_SERVER_EXECUTOR_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/request/sampling_params.h"
#include "server/request/token_matcher.h"

namespace adamoe {

class Sampler {
 public:
  // Memory that any number of samplers of one thread share.
  struct Scratch {
    struct Candidate {
      float logit;
      float weight;  // in proportion to its probability; the likeliest has 1
      int32_t id;
    };
    std::vector<float> logits;   // [vocab]
    std::vector<float> weights;  // [vocab]
    std::vector<Candidate> candidates;
  };

  // `params` must outlive the sampler. `seed` is used where params.seed is unset.
  Sampler(const SamplingParams* params, uint64_t seed, absl::Span<const int32_t> prompt);

  // The next output token, one of `allowed` (empty: of all). INTERNAL when the logits describe no
  // distribution, or none of finite logit is left to choose. REQUIRES: ids in `params` and prompt
  // are below logits.size(); `allowed` is empty, or TokenMaskWords(logits.size()) words with a bit
  // set.
  absl::StatusOr<int32_t> Sample(absl::Span<const float> logits, TokenMask allowed,
                                 Scratch* scratch) const;

  // The token chosen last is part of the output now.
  void Append(int32_t token);

  uint32_t num_output_tokens() const { return num_output_tokens_; }

 private:
  bool AdjustsLogits() const;
  void Adjust(TokenMask allowed, absl::Span<float> logits) const;
  bool OnlyStopsAllowed(TokenMask allowed) const;
  void Penalise(absl::Span<float> logits) const;
  int32_t Draw(absl::Span<const float> logits, float max, Scratch* scratch) const;
  int32_t DrawFiltered(absl::Span<const float> logits, float max, Scratch* scratch) const;
  double Uniform() const;  // in [0, 1)

  const SamplingParams* const params_;
  const uint64_t seed_;
  uint32_t num_output_tokens_ = 0;
  absl::flat_hash_map<int32_t, uint32_t> output_counts_;  // kept only where a penalty needs it
  absl::flat_hash_set<int32_t> seen_;  // in prompt or output; only where a penalty needs it
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_EXECUTOR_SAMPLER_H_
