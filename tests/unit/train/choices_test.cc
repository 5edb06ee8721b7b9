// Multiple-choice questions: how they are read, tokenized and answered.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "absl/strings/match.h"
#include "tests/fakes/tokenizer_file.h"
#include "tests/unit/train/tiny_model.h"
#include "train/choices_file.h"
#include "train/evaluate.h"
#include "train/model_scorer.h"

namespace adamoe {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

const char kGood[] = R"({"question": "q", "choices": ["a", "b"], "answer_index": 1})";

TEST(ReadChoicesTest, ReadsLines) {
  const TestFolder folder("choices");
  std::ofstream(folder.File("a.jsonl"))
      << kGood << "\n\n"
      << R"({"id": 7, "answer_index": 0, "choices": ["x", "y y", "\u00e9"], "question": ""})";
  const auto questions = ReadChoices(folder.File("a.jsonl"));
  ASSERT_TRUE(questions.ok()) << questions.status();
  ASSERT_EQ(questions->size(), 2u);
  EXPECT_EQ((*questions)[0].question, "q");
  EXPECT_THAT((*questions)[0].choices, ElementsAre("a", "b"));
  EXPECT_EQ((*questions)[0].answer_index, 1);
  EXPECT_THAT((*questions)[1].choices, ElementsAre("x", "y y", "\xc3\xa9"));
  EXPECT_EQ((*questions)[1].answer_index, 0);
}

TEST(ReadChoicesTest, NamesTheBadLine) {
  const TestFolder folder("bad_choices");
  const std::string path = folder.File("a.jsonl");
  const struct {
    std::string line;
    std::string words;
  } kCases[] = {
      {"{", "not JSON"},
      {"\"\xff\"", "not JSON"},
      {"[]", "expected an object"},
      {R"({"choices": ["a", "b"], "answer_index": 0})", "question: expected a string, got null"},
      {R"({"question": 1, "choices": ["a", "b"], "answer_index": 0})", "question: expected"},
      {R"({"question": "q", "choices": "ab", "answer_index": 0})", "choices: expected an array"},
      {R"({"question": "q", "choices": ["a"], "answer_index": 0})",
       "choices: expected at least 2, got 1"},
      {R"({"question": "q", "choices": ["a", 2], "answer_index": 0})", "choices[1]: expected"},
      {R"({"question": "q", "choices": ["a", ""], "answer_index": 0})", "choices[1]: is empty"},
      {R"({"question": "q", "choices": ["a", "b"]})", "answer_index: expected"},
      {R"({"question": "q", "choices": ["a", "b"], "answer_index": 2})", "in [0, 1], got 2"},
      {R"({"question": "q", "choices": ["a", "b"], "answer_index": -1})", "in [0, 1], got -1"},
      {R"({"question": "q", "choices": ["a", "b"], "answer_index": 0.0})", "in [0, 1], got 0.0"},
      {R"({"question": "q", "choices": ["a", "b"], "answer_index": "0"})",
       "answer_index: expected"},
  };
  for (const auto& [line, words] : kCases) {
    SCOPED_TRACE(line);
    std::ofstream(path) << kGood << "\n\n" << line << "\n" << kGood << "\n";
    const auto questions = ReadChoices(path);
    EXPECT_EQ(questions.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(questions.status().message());
    EXPECT_THAT(message, HasSubstr("a.jsonl: line 3: "));
    EXPECT_THAT(message, HasSubstr(words));
  }
  std::ofstream(path) << "\n \n";
  EXPECT_THAT(std::string(ReadChoices(path).status().message()), EndsWith("has no questions"));
  EXPECT_EQ(ReadChoices(folder.File("none.jsonl")).status().code(), absl::StatusCode::kNotFound);
}

TEST(EncodeChoiceTest, TheAnswerIsWhatFollowsThePrompt) {
  const auto tokenizer = Tokenizer::Parse(ByteFallbackTokenizer(400), "tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto encoded = EncodeChoice(**tokenizer, 1, "why", "so");
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  const auto whole =
      (*tokenizer)->Encode("Question: why\nAnswer: so", {.add_special_tokens = false});
  ASSERT_TRUE(whole.ok());
  std::vector<int32_t> expected = {1};
  expected.insert(expected.end(), whole->begin(), whole->end());
  EXPECT_EQ(encoded->tokens, expected);
  const auto prompt = (*tokenizer)->Encode("Question: why\nAnswer:", {.add_special_tokens = false});
  EXPECT_EQ(encoded->num_prompt_tokens, 1 + static_cast<int64_t>(prompt->size()));
  EXPECT_LT(encoded->num_prompt_tokens, static_cast<int64_t>(encoded->tokens.size()));
}

// A prompt is 5, 6; some answers change how its end is tokenized.
class MergingTokenizer final : public Tokenizer {
 public:
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              const EncodeOptions&) const override {
    if (absl::EndsWith(text, " one")) return std::vector<int32_t>{5, 6, 7};
    if (absl::EndsWith(text, " merged")) return std::vector<int32_t>{5, 9, 8, 7};
    if (absl::EndsWith(text, " swallowed")) return std::vector<int32_t>{5};
    return std::vector<int32_t>{5, 6};
  }
  absl::StatusOr<std::string> Decode(const std::vector<int32_t>&) const override { return ""; }
  int32_t vocab_size() const override { return 10; }
  int32_t TokenId(absl::string_view) const override { return -1; }
  bool IsSpecial(int32_t) const override { return false; }
  std::string TokenBytes(int32_t) const override { return ""; }
  const TextDecoder& decoder() const override { std::abort(); }
  const std::string* TextToken(int32_t) const override { return nullptr; }
  bool strips_leading_space() const override { return false; }
};

TEST(EncodeChoiceTest, TokensAcrossTheBoundaryBelongToTheAnswer) {
  const MergingTokenizer tokenizer;
  const auto prompt_tokens = [&](const char* choice) {
    return EncodeChoice(tokenizer, 1, "q", choice)->num_prompt_tokens;
  };
  EXPECT_EQ(prompt_tokens("one"), 3);
  EXPECT_EQ(prompt_tokens("merged"), 2);     // <s>, 5
  EXPECT_EQ(prompt_tokens("swallowed"), 1);  // an answer keeps a token
  EXPECT_THAT(EncodeChoice(tokenizer, 1, "q", "merged")->tokens, ElementsAre(1, 5, 9, 8, 7));
}

// The probability of token t after token s is p[t] whatever s is; one router of three picks, of
// which the experts 0 and 1 are true: even positions run two, odd ones none.
constexpr double kProbabilities[] = {0.1, 0.4, 0.2, 0.3};

ReferenceOutput Known(const at::Tensor& tokens) {
  ReferenceOutput output;
  const at::Tensor row = at::tensor(at::ArrayRef<double>(kProbabilities)).log().to(at::kFloat);
  output.logits = row.expand({1, tokens.size(1), 4});
  RouterOutput routing;
  const at::Tensor even = (at::arange(tokens.size(1)) % 2 == 0).unsqueeze(1);
  routing.picks = at::where(even, at::tensor({0, 1, 2}), at::tensor({2, 3, 4}));
  output.routing = {routing};
  return output;
}

std::unique_ptr<Scorer> KnownScorer(int64_t max_context, int num_threads) {
  return MakeModelScorer({&Known, 2, max_context, {1000, {100}}}, num_threads);
}

EncodedQuestion Question(const std::vector<std::vector<int32_t>>& answers,
                         const std::vector<int64_t>& bytes, int answer_index) {
  EncodedQuestion question;
  for (const std::vector<int32_t>& answer : answers) {
    EncodedChoice choice;
    choice.tokens = {0, 2, 2};
    choice.num_prompt_tokens = 3;
    choice.tokens.insert(choice.tokens.end(), answer.begin(), answer.end());
    question.choices.push_back(choice);
  }
  question.choice_bytes = bytes;
  question.answer_index = answer_index;
  return question;
}

TEST(EvaluateQuestionsTest, ComparesSumsAndSumsPerByte) {
  // Sums: log 0.4 * 0.4 = log 0.16 against log 0.2; per byte, 8 against 1: the other way round.
  const std::vector<EncodedQuestion> questions = {Question({{1, 1}, {2}}, {8, 1}, 0),
                                                  Question({{1, 1}, {2}}, {8, 1}, 1),
                                                  Question({{3}, {1, 1}}, {1, 9}, 1)};
  for (const int num_threads : {1, 3}) {
    const auto evaluation = EvaluateQuestions(*KnownScorer(64, num_threads), questions, {});
    ASSERT_TRUE(evaluation.ok()) << evaluation.status();
    EXPECT_EQ(evaluation->num_questions, 3);
    EXPECT_NEAR(evaluation->accuracy, 1.0 / 3, 1e-12);
    EXPECT_NEAR(evaluation->accuracy_normalized, 2.0 / 3, 1e-12);
    // Right answers: {1, 1}, {2}, {1, 1}.
    EXPECT_EQ(evaluation->num_tokens, 5);
    EXPECT_NEAR(evaluation->loss, -(4 * std::log(0.4) + std::log(0.2)) / 5, 1e-6);
    EXPECT_NEAR(evaluation->perplexity, std::exp(evaluation->loss), 1e-9);
    // Rows of 4 and 3 positions for each question, with two even ones each.
    EXPECT_NEAR(evaluation->load, 8.0 / 7, 1e-12);
    EXPECT_NEAR(evaluation->expert_flops_ratio, evaluation->load / 2, 1e-12);
    EXPECT_NEAR(evaluation->model_flops_ratio, (1000 + evaluation->load * 100) / 1200, 1e-12);
    const std::string json = ToJson(*evaluation);
    EXPECT_THAT(json, HasSubstr("\"accuracy_normalized\""));
    EXPECT_THAT(json, testing::Not(HasSubstr("bytes")));
    EXPECT_THAT(ToLine(*evaluation), testing::Not(HasSubstr("\n")));
  }
}

TEST(EvaluateQuestionsTest, KeepsTheEndOfAPromptThatIsTooLong) {
  const std::vector<EncodedQuestion> questions = {Question({{1, 1}, {2, 3}}, {1, 1}, 0)};
  const auto whole = EvaluateQuestions(*KnownScorer(64, 1), questions, {});
  const auto cut = EvaluateQuestions(*KnownScorer(64, 1), questions, {.context = 2});
  ASSERT_TRUE(whole.ok() && cut.ok()) << cut.status();
  EXPECT_NEAR(cut->loss, whole->loss, 1e-9);
  EXPECT_EQ(cut->num_tokens, 2);
  EXPECT_NEAR(cut->load, 1, 1e-12);  // two positions, one of them even
  EXPECT_NEAR(whole->load, 1, 1e-12);
  EXPECT_FALSE(EvaluateQuestions(*KnownScorer(64, 1), questions, {.context = 65}).ok());
}

TEST(EvaluateChoicesTest, SaysWhichQuestionIsWrong) {
  const TestFolder folder("evaluate_choices");
  const auto tokenizer = Tokenizer::Parse(ByteFallbackTokenizer(400), "tokenizer.json");
  ASSERT_TRUE(tokenizer.ok());
  std::ofstream(folder.File("a.jsonl"))
      << kGood << "\n"
      << R"({"question": "q", "choices": ["a", "bbbbbbbbbbbbbbbbbbbbbbbb"], "answer_index": 0})";
  const auto message = [&](int32_t vocab_size, const EvaluateOptions& options) {
    const auto evaluation = EvaluateChoices(
        folder.File("a.jsonl"), {tokenizer->get(), 1, vocab_size}, *KnownScorer(64, 1), options);
    return std::string(evaluation.status().message());
  };
  EXPECT_THAT(message(400, {.context = 4}), HasSubstr("a.jsonl: question 2: choice 2 takes "));
  EXPECT_THAT(message(5, {}), HasSubstr("question 1: token "));
  EXPECT_THAT(message(400, {.limit = -1}), HasSubstr("limit"));
}

TEST(EvaluateTextTest, NamesTheFileThatCannotBeEvaluated) {
  const TestFolder folder("evaluate_text");
  const auto tokenizer = Tokenizer::Parse(ByteFallbackTokenizer(400), "tokenizer.json");
  ASSERT_TRUE(tokenizer.ok());
  const std::string path = folder.File("a.txt");
  const auto message = [&] {
    const auto evaluation = EvaluateText(path, {tokenizer->get(), 1, 400}, *KnownScorer(64, 1), {});
    return std::string(evaluation.status().message());
  };
  EXPECT_THAT(message(), HasSubstr("a.txt: cannot be opened"));
  std::ofstream(path) << "<|endoftext|>\n";
  EXPECT_THAT(message(), HasSubstr("a.txt: has no text"));
  std::ofstream(path) << "good\n<|endoftext|>\nb\xff";
  EXPECT_THAT(message(), HasSubstr("a.txt: document 2: "));
}

}  // namespace
}  // namespace adamoe
