#include "train/evaluate.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "server/base/status_macros.h"
#include "train/text_files.h"
#include "train/threads.h"

namespace adamoe {
namespace {

using Row = absl::Span<const int32_t>;

absl::Status CheckOptions(const Scorer& scorer, const EvaluateOptions& options) {
  if (options.context < 0 || options.context > scorer.max_context()) {
    return absl::InvalidArgumentError(absl::StrCat("context is ", options.context,
                                                   ", expected 0 to ", scorer.max_context(),
                                                   ", the model's own"));
  }
  if (options.limit < 0) {
    return absl::InvalidArgumentError(absl::StrCat("limit is ", options.limit, ", below 0"));
  }
  if (options.baseline_experts_per_token < 1) {
    return absl::InvalidArgumentError("baseline_experts_per_token must be at least 1");
  }
  return absl::OkStatus();
}

int64_t ContextOf(const Scorer& scorer, const EvaluateOptions& options) {
  return options.context > 0 ? options.context : scorer.max_context();
}

int64_t Limited(size_t size, int64_t limit) {
  const auto all = static_cast<int64_t>(size);
  return limit > 0 ? std::min(limit, all) : all;
}

// The scores of every row, side by side. The first error ends it.
absl::StatusOr<std::vector<TokenScores>> ScoreAll(const Scorer& scorer,
                                                  const std::vector<Row>& rows) {
  std::vector<TokenScores> scores(rows.size());
  std::atomic<bool> failed{false};
  absl::Mutex mu;
  absl::Status error;  // under mu
  ForEach(scorer.num_threads(), rows.size(), [&](size_t i) {
    if (failed) return;
    absl::StatusOr<TokenScores> result = scorer.Score(rows[i]);
    if (result.ok()) {
      scores[i] = *std::move(result);
      return;
    }
    absl::MutexLock lock(&mu);
    error.Update(result.status());
    failed = true;
  });
  if (failed) return error;
  return scores;
}

void FillCost(const std::vector<TokenScores>& scores, const ModelCost& cost, double baseline,
              Evaluation* evaluation) {
  double num_positions = 0;
  double true_experts = 0;
  double products = 0;
  for (const TokenScores& row : scores) {
    num_positions += static_cast<double>(row.num_positions);
    true_experts += row.true_experts;
    products += row.expert_products;
  }
  const auto& experts = cost.expert_products;
  const double baseline_products =
      num_positions * baseline * std::accumulate(experts.begin(), experts.end(), 0.0);
  const double fixed = num_positions * cost.fixed_products;
  evaluation->load = true_experts / (num_positions * static_cast<double>(experts.size()));
  evaluation->expert_flops_ratio = products / baseline_products;
  evaluation->model_flops_ratio = (fixed + products) / (fixed + baseline_products);
}

double Sum(absl::Span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

size_t Best(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

absl::Status CheckIds(const std::vector<int32_t>& ids, const Vocabulary& vocabulary) {
  for (const int32_t id : ids) {
    if (id < vocabulary.size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("token ", id, " is not in the model's vocabulary of ", vocabulary.size));
  }
  return absl::OkStatus();
}

// `status` with where it happened in front.
absl::Status At(absl::string_view where, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
}

absl::StatusOr<std::vector<int32_t>> EncodeDocument(absl::string_view document,
                                                    const Vocabulary& vocabulary) {
  ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                   vocabulary.tokenizer->Encode(document, {.add_special_tokens = false}));
  RETURN_IF_ERROR(CheckIds(ids, vocabulary));
  ids.insert(ids.begin(), vocabulary.bos);
  return ids;
}

absl::StatusOr<EncodedQuestion> EncodeQuestion(const ChoiceQuestion& question,
                                               const Vocabulary& vocabulary, int64_t context) {
  EncodedQuestion encoded;
  encoded.answer_index = question.answer_index;
  for (const std::string& choice : question.choices) {
    ASSIGN_OR_RETURN(EncodedChoice tokens, EncodeChoice(*vocabulary.tokenizer, vocabulary.bos,
                                                        question.question, choice));
    RETURN_IF_ERROR(CheckIds(tokens.tokens, vocabulary));
    const int64_t num_answer =
        static_cast<int64_t>(tokens.tokens.size()) - tokens.num_prompt_tokens;
    if (num_answer > context) {
      return absl::InvalidArgumentError(absl::StrCat("choice ", encoded.choices.size() + 1,
                                                     " takes ", num_answer,
                                                     " tokens, the context holds ", context));
    }
    encoded.choices.push_back(std::move(tokens));
    encoded.choice_bytes.push_back(static_cast<int64_t>(choice.size()));
  }
  return encoded;
}

}  // namespace

absl::StatusOr<Evaluation> EvaluateTokens(const Scorer& scorer,
                                          const std::vector<std::vector<int32_t>>& documents,
                                          int64_t num_bytes, const EvaluateOptions& options) {
  RETURN_IF_ERROR(CheckOptions(scorer, options));
  const auto context = static_cast<size_t>(ContextOf(scorer, options));
  std::vector<Row> windows;
  for (const std::vector<int32_t>& document : documents) {
    for (size_t begin = 0; begin + 1 < document.size(); begin += context) {
      windows.push_back(Row(document).subspan(begin, context + 1));
    }
  }
  ASSIGN_OR_RETURN(const std::vector<TokenScores> scores, ScoreAll(scorer, windows));
  Evaluation evaluation;
  evaluation.num_bytes = num_bytes;
  double nats = 0;
  for (const TokenScores& window : scores) {
    evaluation.num_tokens += static_cast<int64_t>(window.logprobs.size());
    nats -= Sum(window.logprobs);
  }
  evaluation.loss = nats / static_cast<double>(evaluation.num_tokens);
  evaluation.perplexity = std::exp(evaluation.loss);
  evaluation.bits_per_byte = nats / M_LN2 / static_cast<double>(num_bytes);
  FillCost(scores, scorer.cost(), options.baseline_experts_per_token, &evaluation);
  return evaluation;
}

absl::StatusOr<Evaluation> EvaluateQuestions(const Scorer& scorer,
                                             const std::vector<EncodedQuestion>& questions,
                                             const EvaluateOptions& options) {
  RETURN_IF_ERROR(CheckOptions(scorer, options));
  const auto max_tokens = static_cast<size_t>(ContextOf(scorer, options)) + 1;
  std::vector<Row> rows;
  for (const EncodedQuestion& question : questions) {
    for (const EncodedChoice& choice : question.choices) {
      const Row all(choice.tokens);
      rows.push_back(all.last(std::min(all.size(), max_tokens)));
    }
  }
  ASSIGN_OR_RETURN(const std::vector<TokenScores> scores, ScoreAll(scorer, rows));
  Evaluation evaluation;
  evaluation.num_questions = static_cast<int64_t>(questions.size());
  double nats = 0;
  int64_t num_right = 0;
  int64_t num_right_normalized = 0;
  auto row = scores.begin();
  for (const EncodedQuestion& question : questions) {
    std::vector<double> sums;
    std::vector<double> normalized;
    const auto answer = static_cast<size_t>(question.answer_index);
    for (size_t i = 0; i < question.choices.size(); ++i, ++row) {
      const EncodedChoice& choice = question.choices[i];
      const size_t num_answer =
          choice.tokens.size() - static_cast<size_t>(choice.num_prompt_tokens);
      sums.push_back(Sum(absl::MakeConstSpan(row->logprobs).last(num_answer)));
      normalized.push_back(sums[i] / static_cast<double>(question.choice_bytes[i]));
      if (i == answer) evaluation.num_tokens += static_cast<int64_t>(num_answer);
    }
    nats -= sums[answer];
    num_right += Best(sums) == answer ? 1 : 0;
    num_right_normalized += Best(normalized) == answer ? 1 : 0;
  }
  const auto num_questions = static_cast<double>(questions.size());
  evaluation.accuracy = static_cast<double>(num_right) / num_questions;
  evaluation.accuracy_normalized = static_cast<double>(num_right_normalized) / num_questions;
  evaluation.loss = nats / static_cast<double>(evaluation.num_tokens);
  evaluation.perplexity = std::exp(evaluation.loss);
  FillCost(scores, scorer.cost(), options.baseline_experts_per_token, &evaluation);
  return evaluation;
}

absl::StatusOr<Evaluation> EvaluateText(const std::string& path, const Vocabulary& vocabulary,
                                        const Scorer& scorer, const EvaluateOptions& options) {
  RETURN_IF_ERROR(CheckOptions(scorer, options));
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  std::vector<absl::string_view> parts = SplitDocuments(text);
  parts.resize(Limited(parts.size(), options.limit));
  std::vector<std::vector<int32_t>> documents;
  int64_t num_bytes = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    absl::StatusOr<std::vector<int32_t>> ids = EncodeDocument(parts[i], vocabulary);
    if (!ids.ok()) return At(absl::StrCat(path, ": document ", i + 1), ids.status());
    num_bytes += static_cast<int64_t>(parts[i].size());
    if (ids->size() > 1) documents.push_back(*std::move(ids));
  }
  if (documents.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": has no text"));
  return EvaluateTokens(scorer, documents, num_bytes, options);
}

absl::StatusOr<Evaluation> EvaluateChoices(const std::string& path, const Vocabulary& vocabulary,
                                           const Scorer& scorer, const EvaluateOptions& options) {
  RETURN_IF_ERROR(CheckOptions(scorer, options));
  ASSIGN_OR_RETURN(std::vector<ChoiceQuestion> questions, ReadChoices(path));
  questions.resize(Limited(questions.size(), options.limit));
  std::vector<EncodedQuestion> encoded;
  for (size_t i = 0; i < questions.size(); ++i) {
    absl::StatusOr<EncodedQuestion> question =
        EncodeQuestion(questions[i], vocabulary, ContextOf(scorer, options));
    if (!question.ok()) return At(absl::StrCat(path, ": question ", i + 1), question.status());
    encoded.push_back(*std::move(question));
  }
  return EvaluateQuestions(scorer, encoded, options);
}

std::string ToJson(const Evaluation& evaluation) {
  nlohmann::ordered_json json = {{"loss", evaluation.loss}, {"perplexity", evaluation.perplexity}};
  if (evaluation.num_questions > 0) {
    json["accuracy"] = evaluation.accuracy;
    json["accuracy_normalized"] = evaluation.accuracy_normalized;
  } else {
    json["bits_per_byte"] = evaluation.bits_per_byte;
  }
  json["load"] = evaluation.load;
  json["expert_flops_ratio"] = evaluation.expert_flops_ratio;
  json["model_flops_ratio"] = evaluation.model_flops_ratio;
  json["num_tokens"] = evaluation.num_tokens;
  if (evaluation.num_questions > 0) {
    json["num_questions"] = evaluation.num_questions;
  } else {
    json["num_bytes"] = evaluation.num_bytes;
  }
  return json.dump(2) + "\n";
}

std::string ToLine(const Evaluation& evaluation) {
  std::string line;
  if (evaluation.num_questions > 0) {
    line = absl::StrFormat("accuracy %.4f, accuracy_normalized %.4f of %d questions, ",
                           evaluation.accuracy, evaluation.accuracy_normalized,
                           evaluation.num_questions);
  }
  absl::StrAppendFormat(&line, "loss %.4f nats/token, perplexity %.2f, ", evaluation.loss,
                        evaluation.perplexity);
  if (evaluation.num_questions == 0) {
    absl::StrAppendFormat(&line, "bits_per_byte %.4f, ", evaluation.bits_per_byte);
  }
  absl::StrAppendFormat(&line, "load %.3f, expert_flops_ratio %.4f, model_flops_ratio %.4f",
                        evaluation.load, evaluation.expert_flops_ratio,
                        evaluation.model_flops_ratio);
  return line;
}

}  // namespace adamoe
