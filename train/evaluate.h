// How well a model predicts a text or answers questions, and what that costs. Functions are
// thread-safe.
#ifndef ADAMOE_TRAIN_EVALUATE_H_
#define ADAMOE_TRAIN_EVALUATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/tokenizer/tokenizer.h"
#include "train/choices_file.h"
#include "train/scorer.h"

namespace adamoe {

struct Evaluation {
  int64_t num_tokens = 0;     // the loss is taken over: all of a text, those of right answers
  int64_t num_bytes = 0;      // of the text they spell; 0: questions
  int64_t num_questions = 0;  // 0: a text
  double loss = 0;            // nats per token
  double perplexity = 0;
  double bits_per_byte = 0;        // of a text
  double accuracy = 0;             // share of questions whose likeliest choice is right
  double accuracy_normalized = 0;  // the same by log-likelihood per byte of the choice
  double load = 0;                 // true experts per position run and router
  // Multiplications of the experts, and of all linear layers of the model, over those of the same
  // model with `baseline_experts_per_token` true experts for every token.
  double expert_flops_ratio = 0;
  double model_flops_ratio = 0;
};

struct EvaluateOptions {
  int64_t context = 0;  // tokens a prediction may look back on; 0: the scorer's max_context()
  int64_t limit = 0;    // documents or questions, the first ones; 0: all
  int32_t baseline_experts_per_token = 2;
};

// The tokenizer, and what of its model evaluation has to know.
struct Vocabulary {
  const Tokenizer* tokenizer = nullptr;  // not null
  int32_t bos = 0;                       // the id of <s>
  int32_t size = 0;                      // ids that the model knows
};

// Each document of the file (text_files.h) is "<s>" and its text; every token but <s> is predicted
// once, from those before it in its window. Windows of `context` tokens follow each other without
// overlap. INVALID_ARGUMENT names the file and what is wrong with it; else errors of the scorer.
absl::StatusOr<Evaluation> EvaluateText(const std::string& path, const Vocabulary& vocabulary,
                                        const Scorer& scorer, const EvaluateOptions& options);

// Each choice of each question of the file (choices_file.h) is scored after the question's prompt,
// by the sum of its tokens' log-probabilities. Where prompt and choice are longer than `context`
// the end of the prompt is kept, as lm-eval does; a choice that alone is longer is an error. Errors
// as above.
absl::StatusOr<Evaluation> EvaluateChoices(const std::string& path, const Vocabulary& vocabulary,
                                           const Scorer& scorer, const EvaluateOptions& options);

// The part of EvaluateText behind the tokenizer. documents: token ids of each, <s> first; num_bytes
// as in Evaluation. REQUIRES: a document has two tokens; ids are in the vocabulary.
absl::StatusOr<Evaluation> EvaluateTokens(const Scorer& scorer,
                                          const std::vector<std::vector<int32_t>>& documents,
                                          int64_t num_bytes, const EvaluateOptions& options);

// A question behind the tokenizer.
struct EncodedQuestion {
  std::vector<EncodedChoice> choices;
  std::vector<int64_t> choice_bytes;  // [choices], above 0
  int answer_index = 0;
};

// The part of EvaluateChoices behind the tokenizer. REQUIRES: an answer takes no more than
// `context` tokens; ids are in the vocabulary.
absl::StatusOr<Evaluation> EvaluateQuestions(const Scorer& scorer,
                                             const std::vector<EncodedQuestion>& questions,
                                             const EvaluateOptions& options);

// As JSON, names as in Evaluation; without what says nothing of a text or of questions.
std::string ToJson(const Evaluation& evaluation);

// The same for people, on one line without its end.
std::string ToLine(const Evaluation& evaluation);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_EVALUATE_H_
