// Training text as token streams. Functions are thread-safe.
#ifndef ADAMOE_TRAIN_TEXT_CORPUS_H_
#define ADAMOE_TRAIN_TEXT_CORPUS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"
#include "train/window_sampler.h"

namespace adamoe {

// Windows of `window` tokens of `files`: "PATH" or "PATH:WEIGHT", see text_files.h and
// TokenSource::weight. A document is "<s> text </s>". The order follows `seed`. INVALID_ARGUMENT
// names the file that is shorter than one window or cannot be encoded, or the weight that is not
// above 0.
absl::StatusOr<std::unique_ptr<WindowSampler>> OpenTextCorpus(const std::vector<std::string>& files,
                                                              int64_t window, uint64_t seed,
                                                              const Tokenizer& tokenizer,
                                                              int num_threads);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_TEXT_CORPUS_H_
