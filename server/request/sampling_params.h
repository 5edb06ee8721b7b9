// How the next token is chosen and when a request ends. Plain values, already checked by serving/.
#ifndef ADAMOE_SERVER_REQUEST_SAMPLING_PARAMS_H_
#define ADAMOE_SERVER_REQUEST_SAMPLING_PARAMS_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace adamoe {

struct SamplingParams {
  uint32_t max_tokens = 256;  // tokens to generate; 0: only the prompt is run (Score)
  // Stop tokens are not sampled before this many tokens are out, unless a Request::matcher allows
  // nothing else.
  uint32_t min_tokens = 0;
  float temperature = 1.0f;  // >= 0; 0: greedy
  uint32_t top_k = 0;        // 0: off
  float top_p = 1.0f;        // (0, 1]; 1: off
  float min_p = 0.0f;        // [0, 1]; 0: off
  float repetition_penalty =
      1.0f;  // > 0; 1: off. Over prompt and output, as in CTRL (arXiv 1909.05858)
  float presence_penalty = 0.0f;   // over the output, as OpenAI defines it
  float frequency_penalty = 0.0f;  // over the output, as OpenAI defines it
  // The same seed, prompt and parameters give the same tokens whatever else is in the batch. Unset:
  // drawn at submission.
  std::optional<uint64_t> seed;
  std::vector<int32_t>
      stop_token_ids;  // the model's own end-of-sequence tokens among them, unless ignored
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id -> added to its logit
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_REQUEST_SAMPLING_PARAMS_H_
