#include "train/window_sampler.h"

#include <algorithm>
#include <utility>

namespace adamoe {

WindowSampler::WindowSampler(std::vector<TokenSource> sources, int64_t window, uint64_t seed)
    : sources_(std::move(sources)), window_(window), random_(seed), passes_(sources_.size()) {
  std::vector<double> shares;
  for (const TokenSource& source : sources_) {
    shares.push_back(source.weight * static_cast<double>(source.tokens.size()));
  }
  pick_source_ = std::discrete_distribution<size_t>(shares.begin(), shares.end());
}

Examples WindowSampler::Draw(int64_t num_rows) {
  at::Tensor windows = at::empty({num_rows, window_ + 1}, at::kLong);
  int64_t* out = windows.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < num_rows; ++row) {
    const auto [source, begin] = Next();
    out = std::copy_n(source->tokens.begin() + begin, window_ + 1, out);
  }
  return {windows, {}};
}

void WindowSampler::Skip(int64_t num_rows) {
  for (int64_t i = 0; i < num_rows; ++i) Next();
}

int64_t WindowSampler::num_tokens() const {
  int64_t sum = 0;
  for (const TokenSource& source : sources_) sum += static_cast<int64_t>(source.tokens.size());
  return sum;
}

std::pair<const TokenSource*, int64_t> WindowSampler::Next() {
  const size_t source = pick_source_(random_);
  if (passes_[source].begins.empty()) BeginPass(source);
  const int64_t begin = passes_[source].begins.back();
  passes_[source].begins.pop_back();
  return {&sources_[source], begin};
}

void WindowSampler::BeginPass(size_t source) {
  const int64_t num_tokens = static_cast<int64_t>(sources_[source].tokens.size());
  const int64_t last_begin = num_tokens - window_ - 1;
  const int64_t offset = static_cast<int64_t>(random_() % (std::min(window_, last_begin + 1)));
  std::vector<int64_t>& begins = passes_[source].begins;
  for (int64_t begin = offset; begin <= last_begin; begin += window_) begins.push_back(begin);
  std::shuffle(begins.begin(), begins.end(), random_);
}

}  // namespace adamoe
