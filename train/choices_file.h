// Multiple-choice questions: the file they come from and the one prompt that training and
// evaluation put them in. Functions are thread-safe.
#ifndef ADAMOE_TRAIN_CHOICES_FILE_H_
#define ADAMOE_TRAIN_CHOICES_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

struct ChoiceQuestion {
  std::string question;
  std::vector<std::string> choices;  // at least two, none empty
  int answer_index = 0;              // of the right choice
};

// Reads JSON lines, plain or gzip, of {"question": "...", "choices": ["...", ...], "answer_index":
// 0}; other keys are passed over, and so are blank lines. Errors of ReadTextFile; INVALID_ARGUMENT
// "PATH: line N: what is wrong", or "PATH: has no questions".
absl::StatusOr<std::vector<ChoiceQuestion>> ReadChoices(const std::string& path);

// "Question: {question}\nAnswer:", which AnswerText follows.
std::string PromptText(absl::string_view question);
// " {choice}".
std::string AnswerText(absl::string_view choice);

struct EncodedChoice {
  std::vector<int32_t> tokens;  // <s>, prompt, answer
  // <s> included; in [1, tokens.size() - 1]: an answer has a token at least.
  int64_t num_prompt_tokens = 0;
};

// Prompt and answer are tokenized as one text. The answer's tokens are those after the tokens of
// the prompt alone; where a token spans both texts, after those that both tokenizations begin with.
// bos: the id of <s>. Errors of Tokenizer::Encode; INVALID_ARGUMENT when no token comes of the
// text.
absl::StatusOr<EncodedChoice> EncodeChoice(const Tokenizer& tokenizer, int32_t bos,
                                           absl::string_view question, absl::string_view choice);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_CHOICES_FILE_H_
