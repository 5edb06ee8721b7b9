// Whole trainings of LoRA experts.
#include "train/molora_training.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/unit/train/tiny_corpus.h"
#include "tests/unit/train/tiny_molora.h"
#include "train/evaluate.h"
#include "train/molora_folder.h"
#include "train/molora_scorer.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

class MoLoraTrainingTest : public testing::Test {
 protected:
  MoLoraTrainingTest() {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "The fox ran home. The hen ran too.\n";
    std::ofstream(folder_.File("corpus.txt")) << text;
    WriteTinyTokenizer(folder_.path());
    ModelConfig config = DenseConfig();
    config.vocab_size = kTinyVocabSize;
    config.tie_word_embeddings = true;
    EXPECT_TRUE(
        WriteModelFolder(folder_.path(), config, LivelyParameters(config, 22), at::kFloat).ok());
  }

  MoLoraTrainingOptions Options(const std::string& out, int64_t max_steps) const {
    MoLoraTrainingOptions options;
    options.model_dir = folder_.path();
    options.molora = SmallConfig();
    options.text = {folder_.File("corpus.txt")};
    options.window = 16;
    options.use_bfloat16 = false;
    options.trainer.out_dir = folder_.File(out);
    options.trainer.batch = 8;
    options.trainer.share = 4;
    options.trainer.max_steps = max_steps;
    options.trainer.learning_rate = 2e-2;
    return options;
  }

  Evaluation EvaluateFolder(const std::string& out, const std::string& file,
                            decltype(&EvaluateText) evaluate, int64_t context) const {
    const auto model = LoadMoLora(folder_.path(), folder_.File(out));
    EXPECT_TRUE(model.ok()) << model.status();
    const auto tokenizer = Tokenizer::Load(folder_.path());
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    const auto scorer = MakeModelScorer(ScoredModelOf(*model), 1);
    const auto evaluation =
        evaluate(folder_.File(file), {tokenizer->get(), 1, 300}, *scorer, {.context = context});
    EXPECT_TRUE(evaluation.ok()) << evaluation.status();
    return *evaluation;
  }

  double LossOf(const std::string& out) const {
    return EvaluateFolder(out, "corpus.txt", &EvaluateText, 16).loss;
  }

  std::string Read(const std::string& name) const {
    const auto content = ReadTextFile(folder_.File(name));
    EXPECT_TRUE(content.ok()) << content.status();
    return *content;
  }

  const TestFolder folder_{"molora_training"};
  bool stop_ = false;
};

TEST_F(MoLoraTrainingTest, LossFallsAndTheBaseStays) {
  const std::string base = Read("model.safetensors");
  ASSERT_TRUE(TrainMoLora(Options("short", 1), &stop_).ok());
  ASSERT_TRUE(TrainMoLora(Options("long", 80), &stop_).ok());
  EXPECT_GT(LossOf("short"), 5);
  EXPECT_LT(LossOf("long"), 2.5);
  EXPECT_TRUE(Read("model.safetensors") == base);
}

TEST_F(MoLoraTrainingTest, BFloat16LearnsToo) {
  MoLoraTrainingOptions options = Options("bfloat16", 80);
  options.use_bfloat16 = true;  // without the processor's support this is float32
  ASSERT_TRUE(TrainMoLora(options, &stop_).ok());
  EXPECT_LT(LossOf("bfloat16"), 2.5);
}

TEST_F(MoLoraTrainingTest, LearnsFromQuestions) {
  std::ofstream file(folder_.File("questions.jsonl"));
  for (int i = 0; i < 12; ++i) {
    file << R"({"question": "ran )" << i
         << R"( home", "choices": ["The hen", "The fox"], "answer_index": 1})"
         << "\n";
  }
  file.close();
  const auto accuracy_after = [this](int64_t max_steps) {
    MoLoraTrainingOptions options = Options(absl::StrCat("questions", max_steps), max_steps);
    options.text = {};
    options.choices = {folder_.File("questions.jsonl")};
    options.window = 48;
    EXPECT_TRUE(TrainMoLora(options, &stop_).ok());
    return EvaluateFolder(absl::StrCat("questions", max_steps), "questions.jsonl", &EvaluateChoices,
                          48);
  };
  const Evaluation before = accuracy_after(1);
  const Evaluation after = accuracy_after(60);
  EXPECT_LT(after.loss, before.loss / 2);
  EXPECT_EQ(after.accuracy, 1);
}

TEST_F(MoLoraTrainingTest, ResumedRunEqualsOneThatNeverStopped) {
  const auto options = [this](const std::string& out, int64_t max_steps, bool resume) {
    MoLoraTrainingOptions made = Options(out, max_steps);
    made.trainer.warmup = 0;
    made.trainer.min_learning_rate_ratio = 1;
    made.trainer.alpha = {0.01, 0.01};
    made.resume = resume;
    return made;
  };
  ASSERT_TRUE(TrainMoLora(options("whole", 6, false), &stop_).ok());
  ASSERT_TRUE(TrainMoLora(options("parts", 2, false), &stop_).ok());
  EXPECT_FALSE(Read("parts/adapter_model.safetensors") == Read("whole/adapter_model.safetensors"));
  ASSERT_TRUE(TrainMoLora(options("parts", 6, true), &stop_).ok());
  EXPECT_TRUE(Read("parts/adapter_model.safetensors") == Read("whole/adapter_model.safetensors"));
  EXPECT_TRUE(Read("parts/training-6.safetensors") == Read("whole/training-6.safetensors"));
  MoLoraTrainingOptions other = options("parts", 8, true);
  other.molora.alpha = 4;
  EXPECT_THAT(std::string(TrainMoLora(other, &stop_).message()), HasSubstr("lora_alpha"));
}

TEST_F(MoLoraTrainingTest, ErrorsNameWhatIsWrong) {
  const auto message = [this](const std::function<void(MoLoraTrainingOptions*)>& change) {
    MoLoraTrainingOptions options = Options("x", 1);
    change(&options);
    return std::string(TrainMoLora(options, &stop_).message());
  };
  using Options = MoLoraTrainingOptions;
  EXPECT_THAT(message([](Options* o) { o->trainer.max_steps = 0; }), HasSubstr("max_steps"));
  EXPECT_THAT(message([](Options* o) { o->molora.num_experts = 0; }), HasSubstr("num_experts"));
  EXPECT_THAT(message([](Options* o) { o->molora.experts_per_token = 8; }),
              HasSubstr("experts_per_token is 8, expected 1 to 7"));
  EXPECT_THAT(message([](Options* o) { o->molora.alpha = -1; }), HasSubstr("lora_alpha"));
  EXPECT_THAT(message([](Options* o) { o->model_dir += "/none"; }), HasSubstr("config.json"));
  EXPECT_THAT(message([](Options* o) { o->text = {"none.txt"}; }), HasSubstr("none.txt"));
  EXPECT_THAT(message([](Options* o) { o->text.clear(); }), HasSubstr("one of text and choices"));
  EXPECT_THAT(message([](Options* o) { o->trainer.out_dir = o->model_dir; }),
              HasSubstr("own folder"));
  EXPECT_THAT(message([](Options* o) { o->resume = true; }), HasSubstr("adapter_config.json"));
}

}  // namespace
}  // namespace adamoe
