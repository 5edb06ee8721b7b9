// Cuts token streams into training windows and draws them in random order.
//
// Each source is a stream of documents, "<s> document </s>" one after the other. Every pass over a
// source cuts it from a new random offset and shuffles the windows; sources are drawn from in
// proportion to weight times length. The order depends on the sources and the seed alone, so a run
// resumes by skipping what it has drawn. Thread-compatible.
#ifndef ADAMOE_TRAIN_WINDOW_SAMPLER_H_
#define ADAMOE_TRAIN_WINDOW_SAMPLER_H_

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "train/trainer.h"

namespace adamoe {

struct TokenSource {
  std::vector<int32_t> tokens;
  double weight = 1;  // passes over it per pass over a source of weight 1
};

class WindowSampler final : public ExampleSource {
 public:
  // REQUIRES: every source is longer than window + 1 tokens.
  WindowSampler(std::vector<TokenSource> sources, int64_t window, uint64_t seed);

  // A row is a window.
  Examples Draw(int64_t num_rows) override;
  void Skip(int64_t num_rows) override;

  int64_t num_tokens() const;  // of all sources

 private:
  struct Pass {
    std::vector<int64_t> begins;  // of the windows not drawn yet
  };

  // The source and position of the next window.
  std::pair<const TokenSource*, int64_t> Next();
  void BeginPass(size_t source);

  const std::vector<TokenSource> sources_;
  const int64_t window_;
  std::mt19937_64 random_;
  std::discrete_distribution<size_t> pick_source_;
  std::vector<Pass> passes_;
};

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_WINDOW_SAMPLER_H_
