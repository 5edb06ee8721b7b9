#include "train/choice_examples.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/json_field.h"
#include "train/choices_file.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

constexpr size_t kPoolBatches = 50;

struct Answered {
  std::string question;
  std::string answer;
};

// The string under the one of two keys that the row has.
absl::StatusOr<std::string> OneOf(const JsonField& row, const char* key, const char* other) {
  if (row[key].IsNull() == row[other].IsNull()) {
    return row.Error(absl::StrCat("expected one of \"", key, "\" and \"", other, "\""));
  }
  return row[row[key].IsNull() ? other : key].String();
}

absl::StatusOr<Answered> ParseInstruction(const JsonField& row) {
  Answered answered;
  ASSIGN_OR_RETURN(answered.question, OneOf(row, "instruction", "prompt"));
  if (!row["input"].IsNull()) {
    ASSIGN_OR_RETURN(const std::string input, row["input"].String());
    if (!input.empty()) absl::StrAppend(&answered.question, "\n", input);
  }
  ASSIGN_OR_RETURN(answered.answer, OneOf(row, "output", "completion"));
  if (answered.answer.empty()) return row.Error("the answer is empty");
  return answered;
}

absl::StatusOr<std::vector<Answered>> AnsweredChoices(const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<ChoiceQuestion> questions, ReadChoices(path));
  std::vector<Answered> answered;
  for (const ChoiceQuestion& question : questions) {
    answered.push_back({question.question, question.choices[question.answer_index]});
  }
  return answered;
}

absl::StatusOr<std::vector<Answered>> ReadAnswered(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  std::vector<Answered> all;
  int64_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    const std::string place = absl::StrCat(path, ": line ", line_number);
    ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(line, place));
    const JsonField row(&json, place);
    RETURN_IF_ERROR(row.Object().status());
    if (all.empty() && !row["choices"].IsNull()) return AnsweredChoices(path);
    ASSIGN_OR_RETURN(Answered answered, ParseInstruction(row));
    all.push_back(std::move(answered));
  }
  if (all.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": has no questions"));
  return all;
}

// Appends the prompts of a file that fit.
absl::Status ReadPrompts(const std::string& path, int64_t window, const Tokenizer& tokenizer,
                         int32_t bos, int32_t eos, std::vector<AnsweredPrompt>* prompts) {
  ASSIGN_OR_RETURN(const std::vector<Answered> all, ReadAnswered(path));
  size_t num_long = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    auto encoded = EncodeChoice(tokenizer, bos, all[i].question, all[i].answer);
    if (!encoded.ok()) {
      return absl::Status(encoded.status().code(), absl::StrCat(path, ": question ", i + 1, ": ",
                                                                encoded.status().message()));
    }
    encoded->tokens.push_back(eos);
    if (static_cast<int64_t>(encoded->tokens.size()) > window + 1) {
      ++num_long;
      continue;
    }
    prompts->push_back({std::move(encoded->tokens), encoded->num_prompt_tokens});
  }
  spdlog::info("{}: {} questions, {} left out as longer than {} tokens", path, all.size(), num_long,
               window + 1);
  if (num_long < all.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": every question is longer than ", window + 1, " tokens"));
}

}  // namespace

ChoiceExamples::ChoiceExamples(std::vector<AnsweredPrompt> prompts, int64_t batch, uint64_t seed)
    : prompts_(std::move(prompts)), batch_(static_cast<size_t>(batch)), random_(seed) {}

Examples ChoiceExamples::Draw(int64_t num_rows) {
  std::vector<const AnsweredPrompt*> rows;
  size_t longest = 0;
  for (int64_t i = 0; i < num_rows; ++i) {
    rows.push_back(&prompts_[Next()]);
    longest = std::max(longest, rows.back()->tokens.size());
  }
  const int64_t width = static_cast<int64_t>(longest);
  Examples examples{at::empty({num_rows, width}, at::kLong),
                    at::zeros({num_rows, width - 1}, at::kBool)};
  int64_t* out = examples.tokens.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < num_rows; ++i, out += width) {
    const AnsweredPrompt& prompt = *rows[i];
    const int64_t size = static_cast<int64_t>(prompt.tokens.size());
    std::fill(std::copy(prompt.tokens.begin(), prompt.tokens.end(), out), out + width,
              prompt.tokens.back());
    examples.counted[i]
        .narrow(0, prompt.num_prompt_tokens - 1, size - prompt.num_prompt_tokens)
        .fill_(true);
  }
  return examples;
}

void ChoiceExamples::Skip(int64_t num_rows) {
  for (int64_t i = 0; i < num_rows; ++i) Next();
}

size_t ChoiceExamples::Next() {
  if (order_.empty()) BeginPass();
  const size_t next = order_.front();
  order_.pop_front();
  return next;
}

void ChoiceExamples::BeginPass() {
  std::vector<size_t> shuffled(prompts_.size());
  std::iota(shuffled.begin(), shuffled.end(), size_t{0});
  std::shuffle(shuffled.begin(), shuffled.end(), random_);
  const size_t pool_size = batch_ * kPoolBatches;
  for (size_t begin = 0; begin < shuffled.size(); begin += pool_size) {
    const size_t end = std::min(begin + pool_size, shuffled.size());
    AddPool({shuffled.begin() + begin, shuffled.begin() + end});
  }
}

void ChoiceExamples::AddPool(std::vector<size_t> pool) {
  std::stable_sort(pool.begin(), pool.end(), [this](size_t a, size_t b) {
    return prompts_[a].tokens.size() < prompts_[b].tokens.size();
  });
  // A short batch goes last, so that the others stay aligned with the draws.
  const size_t num_full = pool.size() / batch_;
  std::vector<size_t> batches(num_full);
  std::iota(batches.begin(), batches.end(), size_t{0});
  std::shuffle(batches.begin(), batches.end(), random_);
  for (const size_t batch : batches) {
    const auto begin = pool.begin() + batch * batch_;
    order_.insert(order_.end(), begin, begin + batch_);
  }
  order_.insert(order_.end(), pool.begin() + num_full * batch_, pool.end());
}

absl::StatusOr<std::unique_ptr<ChoiceExamples>> OpenChoiceExamples(
    const std::vector<std::string>& files, int64_t window, int64_t batch, uint64_t seed,
    const Tokenizer& tokenizer) {
  if (files.empty()) return absl::InvalidArgumentError("choices names no file");
  if (window < 1) return absl::InvalidArgumentError("window must be above 0");
  const int32_t bos = tokenizer.TokenId("<s>");
  const int32_t eos = tokenizer.TokenId("</s>");
  if (bos < 0 || eos < 0) {
    return absl::InvalidArgumentError("the tokenizer has no <s> or no </s>");
  }
  std::vector<AnsweredPrompt> prompts;
  for (const std::string& path : files) {
    RETURN_IF_ERROR(ReadPrompts(path, window, tokenizer, bos, eos, &prompts));
  }
  return std::make_unique<ChoiceExamples>(std::move(prompts), batch, seed);
}

}  // namespace adamoe
