#include "train/choices_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/json_field.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

// `place` names the line in errors.
absl::StatusOr<ChoiceQuestion> ParseLine(absl::string_view line, const std::string& place) {
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(line, place));
  const JsonField row(&json, place);
  RETURN_IF_ERROR(row.Object().status());
  ChoiceQuestion question;
  ASSIGN_OR_RETURN(question.question, row["question"].String());
  ASSIGN_OR_RETURN(const std::vector<JsonField> choices, row["choices"].Array());
  if (choices.size() < 2) {
    return row["choices"].Error(absl::StrCat("expected at least 2, got ", choices.size()));
  }
  for (const JsonField& field : choices) {
    ASSIGN_OR_RETURN(std::string choice, field.String());
    if (choice.empty()) return field.Error("is empty");
    question.choices.push_back(std::move(choice));
  }
  ASSIGN_OR_RETURN(question.answer_index,
                   row["answer_index"].Index(static_cast<int32_t>(choices.size()) - 1));
  return question;
}

}  // namespace

absl::StatusOr<std::vector<ChoiceQuestion>> ReadChoices(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  std::vector<ChoiceQuestion> questions;
  int64_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    ASSIGN_OR_RETURN(ChoiceQuestion question,
                     ParseLine(line, absl::StrCat(path, ": line ", line_number)));
    questions.push_back(std::move(question));
  }
  if (questions.empty())
    return absl::InvalidArgumentError(absl::StrCat(path, ": has no questions"));
  return questions;
}

std::string PromptText(absl::string_view question) {
  return absl::StrCat("Question: ", question, "\nAnswer:");
}

std::string AnswerText(absl::string_view choice) { return absl::StrCat(" ", choice); }

absl::StatusOr<EncodedChoice> EncodeChoice(const Tokenizer& tokenizer, int32_t bos,
                                           absl::string_view question, absl::string_view choice) {
  const EncodeOptions plain = {.add_special_tokens = false};
  const std::string prompt_text = PromptText(question);
  ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, tokenizer.Encode(prompt_text, plain));
  ASSIGN_OR_RETURN(const std::vector<int32_t> whole,
                   tokenizer.Encode(absl::StrCat(prompt_text, AnswerText(choice)), plain));
  if (whole.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("no tokens come of \"", prompt_text, "\""));
  }
  const auto end = std::mismatch(whole.begin(), whole.end(), prompt.begin(), prompt.end()).first;
  EncodedChoice encoded;
  encoded.tokens = {bos};
  encoded.tokens.insert(encoded.tokens.end(), whole.begin(), whole.end());
  encoded.num_prompt_tokens =
      1 + std::min<int64_t>(end - whole.begin(), static_cast<int64_t>(whole.size()) - 1);
  return encoded;
}

}  // namespace adamoe
