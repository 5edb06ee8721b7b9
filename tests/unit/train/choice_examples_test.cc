// Questions become rows whose loss is over the answers, drawn with little padding.
#include "train/choice_examples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/unit/train/tiny_corpus.h"
#include "train/losses.h"

namespace adamoe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

AnsweredPrompt Prompt(int32_t first, int64_t num_prompt_tokens, int64_t num_answer_tokens) {
  AnsweredPrompt prompt;
  prompt.num_prompt_tokens = num_prompt_tokens;
  for (int64_t i = 0; i < num_prompt_tokens + num_answer_tokens; ++i) {
    prompt.tokens.push_back(first);
  }
  return prompt;
}

// Prompt i has the tokens i, and lengths from 3 to 42 in no order.
std::vector<AnsweredPrompt> ManyPrompts(int32_t count) {
  std::vector<AnsweredPrompt> prompts;
  for (int32_t i = 0; i < count; ++i) prompts.push_back(Prompt(i, 1 + i * 17 % 40, 2));
  return prompts;
}

TEST(ChoiceExamplesTest, CountsTheAnswersTargetsAndNothingElse) {
  AnsweredPrompt prompt{{1, 5, 6, 7, 8, 2}, 3};
  ChoiceExamples examples({prompt, {{1, 9, 2}, 1}}, 2, 1);
  const Examples drawn = examples.Draw(2);
  ASSERT_EQ(drawn.tokens.sizes(), at::IntArrayRef({2, 6}));
  const int64_t row = drawn.tokens[0][1].item<int64_t>() == 5 ? 0 : 1;
  const auto ints = [](const at::Tensor& tensor) {
    const at::Tensor flat = tensor.to(at::kLong).contiguous();
    return std::vector<int64_t>(flat.const_data_ptr<int64_t>(),
                                flat.const_data_ptr<int64_t>() + flat.numel());
  };
  EXPECT_THAT(ints(drawn.tokens[row]), ElementsAre(1, 5, 6, 7, 8, 2));
  EXPECT_THAT(ints(drawn.counted[row]), ElementsAre(0, 0, 1, 1, 1));
  EXPECT_THAT(ints(drawn.tokens[1 - row]), ElementsAre(1, 9, 2, 2, 2, 2));
  EXPECT_THAT(ints(drawn.counted[1 - row]), ElementsAre(1, 1, 0, 0, 0));
}

TEST(ChoiceExamplesTest, EveryPassDrawsEveryPromptOnce) {
  ChoiceExamples examples(ManyPrompts(103), 4, 1);
  for (int pass = 0; pass < 3; ++pass) {
    std::set<int64_t> seen;
    for (int i = 0; i < 103; ++i) seen.insert(examples.Draw(1).tokens[0][0].item<int64_t>());
    EXPECT_EQ(seen.size(), 103u);
  }
}

TEST(ChoiceExamplesTest, OrderFollowsTheSeedAndSkippingIsDrawing) {
  ChoiceExamples a(ManyPrompts(103), 4, 1);
  ChoiceExamples b(ManyPrompts(103), 4, 1);
  ChoiceExamples other(ManyPrompts(103), 4, 2);
  for (int i = 0; i < 40; ++i) a.Draw(4);
  b.Skip(160);
  other.Skip(160);
  const at::Tensor next = a.Draw(4).tokens;
  EXPECT_TRUE(next.equal(b.Draw(4).tokens));
  EXPECT_FALSE(next.equal(other.Draw(4).tokens));
}

TEST(ChoiceExamplesTest, RowsOfABatchAreOfSimilarLength) {
  ChoiceExamples examples(ManyPrompts(400), 8, 1);
  int64_t padded = 0;
  int64_t previous = 0;
  int num_changes = 0;
  for (int i = 0; i < 50; ++i) {
    const int64_t width = examples.Draw(8).tokens.size(1);
    padded += 8 * width;
    num_changes += width < previous;
    previous = width;
  }
  int64_t real = 0;
  for (const AnsweredPrompt& prompt : ManyPrompts(400)) {
    real += static_cast<int64_t>(prompt.tokens.size());
  }
  EXPECT_LT(static_cast<double>(padded), 1.05 * static_cast<double>(real));
  EXPECT_GT(num_changes, 10);  // and not from short to long
}

TEST(WithoutPaddingTest, KeepsPositionsUpToTheLastCountedTarget) {
  const at::Tensor counted = at::tensor({0, 1, 0, 1, 0, 1, 0, 0}, at::kLong).view({2, 4}) > 0;
  const at::Tensor positions = at::arange(8).view({8, 1});
  const RouterOutput layer = {positions.to(at::kFloat), positions, positions.to(at::kFloat)};
  const std::vector<RouterOutput> kept = WithoutPadding({layer, layer}, counted);
  ASSERT_EQ(kept.size(), 2u);
  const at::Tensor expected = at::tensor({0, 1, 2, 3, 4, 5}, at::kLong).view({6, 1});
  EXPECT_TRUE(kept[1].picks.equal(expected));
  EXPECT_TRUE(kept[1].probabilities.equal(expected.to(at::kFloat)));
  EXPECT_TRUE(kept[1].weights.equal(expected.to(at::kFloat)));
  EXPECT_EQ(WithoutPadding({layer}, {})[0].picks.size(0), 8);
}

class OpenChoiceExamplesTest : public testing::Test {
 protected:
  OpenChoiceExamplesTest() {
    WriteTinyTokenizer(folder_.path());
    auto tokenizer = Tokenizer::Load(folder_.path());
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  absl::StatusOr<std::unique_ptr<ChoiceExamples>> Open(const std::string& lines,
                                                       int64_t window = 60) {
    EXPECT_TRUE(WriteFileAtomically(folder_.File("q.jsonl"), lines).ok());
    return OpenChoiceExamples({folder_.File("q.jsonl")}, window, 2, 1, *tokenizer_);
  }

  std::string ErrorOf(const std::string& lines) {
    const auto examples = Open(lines);
    EXPECT_EQ(examples.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(examples.status().message());
  }

  // The text of the targets that count, without the </s> they end with.
  std::string AnswerOf(const Examples& examples) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < examples.counted.size(1); ++i) {
      if (examples.counted[0][i].item<bool>()) {
        ids.push_back(examples.tokens[0][i + 1].item<int32_t>());
      }
    }
    EXPECT_EQ(ids.back(), tokenizer_->TokenId("</s>"));
    ids.pop_back();
    const auto text = tokenizer_->Decode(ids);
    EXPECT_TRUE(text.ok()) << text.status();
    return *text;
  }

  const TestFolder folder_{"choice_examples"};
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_F(OpenChoiceExamplesTest, ReadsQuestionsAndInstructions) {
  auto choices = Open(R"({"question": "Who ran?", "choices": ["hen", "fox"], "answer_index": 1})");
  ASSERT_TRUE(choices.ok()) << choices.status();
  EXPECT_THAT(AnswerOf((*choices)->Draw(1)), HasSubstr("fox"));
  for (const char* line : {R"({"instruction": "Who", "input": "ran", "output": "fox"})",
                           R"({"prompt": "Who ran?", "completion": "fox", "input": ""})"}) {
    auto instructions = Open(absl::StrCat("\n", line, "\n"));
    ASSERT_TRUE(instructions.ok()) << instructions.status();
    EXPECT_THAT(AnswerOf((*instructions)->Draw(1)), HasSubstr("fox"));
  }
}

TEST_F(OpenChoiceExamplesTest, LeavesOutWhatDoesNotFit) {
  const std::string fits = R"({"prompt": "Who?", "completion": "fox"})";
  const std::string long_one =
      absl::StrCat(R"({"prompt": ")", std::string(200, 'x'), R"(", "completion": "fox"})");
  const auto examples = Open(absl::StrCat(fits, "\n", long_one, "\n", fits));
  ASSERT_TRUE(examples.ok()) << examples.status();
  EXPECT_EQ((*examples)->num_prompts(), 2);
  EXPECT_THAT(ErrorOf(long_one), HasSubstr("q.jsonl: every question is longer than 61 tokens"));
}

TEST_F(OpenChoiceExamplesTest, ErrorsNameTheLine) {
  const std::string good = R"({"prompt": "Who?", "completion": "fox"})";
  const auto second = [&](const std::string& line) { return ErrorOf(good + "\n\n" + line); };
  EXPECT_THAT(second("{"), HasSubstr("q.jsonl: line 3: "));
  EXPECT_THAT(second("[]"), HasSubstr("q.jsonl: line 3: "));
  EXPECT_THAT(second(R"({"prompt": 3, "completion": "a"})"), HasSubstr("line 3: prompt"));
  EXPECT_THAT(second(R"({"prompt": "a"})"), HasSubstr("line 3: expected one of \"output\""));
  EXPECT_THAT(second(R"({"prompt": "a", "instruction": "b", "output": "c"})"),
              HasSubstr("line 3: expected one of \"instruction\""));
  EXPECT_THAT(second(R"({"prompt": "a", "output": ""})"), HasSubstr("line 3: the answer is empty"));
  EXPECT_THAT(second(R"({"prompt": "a", "output": "b", "input": 1})"), HasSubstr("line 3: input"));
  EXPECT_THAT(ErrorOf(R"({"question": "a", "choices": ["b"], "answer_index": 0})"),
              HasSubstr("q.jsonl: line 1: choices"));
  EXPECT_THAT(ErrorOf("\n"), HasSubstr("no questions"));
  EXPECT_EQ(OpenChoiceExamples({folder_.File("none")}, 60, 2, 1, *tokenizer_).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace adamoe
