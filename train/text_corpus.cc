#include "train/text_corpus.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "train/text_files.h"
#include "train/threads.h"

namespace adamoe {
namespace {

struct TextFile {
  std::string path;
  double weight = 1;
};

absl::StatusOr<TextFile> ParseTextFile(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return TextFile{text, 1};
  TextFile file{text.substr(0, colon), 0};
  if (!absl::SimpleAtod(text.substr(colon + 1), &file.weight) || !(file.weight > 0)) {
    return absl::InvalidArgumentError(absl::StrCat(text, ": expected PATH or PATH:WEIGHT"));
  }
  return file;
}

// The tokens of each document, encoded side by side.
absl::StatusOr<std::vector<std::vector<int32_t>>> EncodeAll(
    const std::vector<absl::string_view>& documents, const Tokenizer& tokenizer, int num_threads) {
  std::vector<absl::StatusOr<std::vector<int32_t>>> encoded(documents.size());
  ForEach(num_threads, documents.size(), [&](size_t i) {
    encoded[i] = tokenizer.Encode(documents[i], {.add_special_tokens = false});
  });
  std::vector<std::vector<int32_t>> ids;
  for (auto& document : encoded) {
    RETURN_IF_ERROR(document.status());
    ids.push_back(*std::move(document));
  }
  return ids;
}

absl::StatusOr<TokenSource> ReadSource(const TextFile& file, int64_t window,
                                       const Tokenizer& tokenizer, int num_threads) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file.path));
  const auto documents = EncodeAll(SplitDocuments(text), tokenizer, num_threads);
  if (!documents.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path, ": ", documents.status().message()));
  }
  TokenSource source;
  source.weight = file.weight;
  for (const std::vector<int32_t>& ids : *documents) {
    source.tokens.push_back(tokenizer.TokenId("<s>"));
    source.tokens.insert(source.tokens.end(), ids.begin(), ids.end());
    source.tokens.push_back(tokenizer.TokenId("</s>"));
  }
  if (static_cast<int64_t>(source.tokens.size()) <= window + 1) {
    return absl::InvalidArgumentError(absl::StrCat(file.path, ": shorter than one window"));
  }
  spdlog::info("{}: {} tokens of {} bytes, weight {}", file.path, source.tokens.size(), text.size(),
               file.weight);
  return source;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WindowSampler>> OpenTextCorpus(const std::vector<std::string>& files,
                                                              int64_t window, uint64_t seed,
                                                              const Tokenizer& tokenizer,
                                                              int num_threads) {
  if (files.empty()) return absl::InvalidArgumentError("text names no file");
  if (window < 1) return absl::InvalidArgumentError("window must be above 0");
  if (tokenizer.TokenId("<s>") < 0 || tokenizer.TokenId("</s>") < 0) {
    return absl::InvalidArgumentError("the tokenizer has no <s> or no </s>");
  }
  std::vector<TokenSource> sources;
  for (const std::string& text : files) {
    ASSIGN_OR_RETURN(const TextFile file, ParseTextFile(text));
    ASSIGN_OR_RETURN(TokenSource source, ReadSource(file, window, tokenizer, num_threads));
    sources.push_back(std::move(source));
  }
  return std::make_unique<WindowSampler>(std::move(sources), window, seed);
}

}  // namespace adamoe
