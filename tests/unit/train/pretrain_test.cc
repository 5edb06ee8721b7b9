// Whole training runs on a corpus of a few sentences.
#include "train/pretrain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <fstream>

#include "tests/unit/train/tiny_corpus.h"
#include "tests/unit/train/tiny_model.h"
#include "train/evaluate.h"
#include "train/model_scorer.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

namespace adamoe {
namespace {

class PretrainTest : public testing::Test {
 protected:
  PretrainTest() {
    EXPECT_TRUE(WriteFileAtomically(folder_.File("corpus.txt"), TinyCorpus()).ok());
    WriteTinyTokenizer(folder_.path());
  }

  PretrainOptions Options(const std::string& out, int64_t max_steps) const {
    PretrainOptions options;
    options.config = TinyConfig();
    options.text = {folder_.File("corpus.txt")};
    options.tokenizer_dir = folder_.path();
    options.trainer.out_dir = folder_.File(out);
    options.window = 16;
    options.trainer.batch = 8;
    options.trainer.share = 2;
    options.trainer.num_threads = 2;
    options.use_bfloat16 = false;
    options.trainer.max_steps = max_steps;
    options.trainer.learning_rate = 1e-2;
    return options;
  }

  static PretrainOptions Resumed(PretrainOptions options) {
    options.resume = true;
    return options;
  }

  double LossOf(const std::string& out) const {
    const auto model = LoadModelFolder(folder_.File(out));
    EXPECT_TRUE(model.ok()) << model.status();
    const auto tokenizer = Tokenizer::Load(folder_.File(out));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    const Vocabulary vocabulary = {tokenizer->get(), model->config.bos_token_id,
                                   model->config.vocab_size};
    const auto scorer = MakeModelScorer(ScoredModelOf(*model), 1);
    const auto evaluation = EvaluateText(folder_.File("corpus.txt"), vocabulary, *scorer, {});
    EXPECT_TRUE(evaluation.ok()) << evaluation.status();
    return evaluation->loss;
  }

  std::string Read(const std::string& name) const {
    const auto content = ReadTextFile(folder_.File(name));
    EXPECT_TRUE(content.ok()) << content.status();
    return *content;
  }

  const TestFolder folder_{"pretrain"};
  bool stop_ = false;
};

TEST_F(PretrainTest, LossFalls) {
  ASSERT_TRUE(Pretrain(Options("short", 1), &stop_).ok());
  ASSERT_TRUE(Pretrain(Options("long", 80), &stop_).ok());
  EXPECT_GT(LossOf("short"), 4.5);
  EXPECT_LT(LossOf("long"), 2.0);
}

TEST_F(PretrainTest, BFloat16LearnsToo) {
  PretrainOptions options = Options("bfloat16", 80);
  options.use_bfloat16 = true;  // without the processor's support this is float32
  ASSERT_TRUE(Pretrain(options, &stop_).ok());
  EXPECT_LT(LossOf("bfloat16"), 2.0);
}

TEST_F(PretrainTest, ResumedRunEqualsOneThatNeverStopped) {
  const auto with_constant_schedule = [this](const std::string& out, int64_t max_steps) {
    PretrainOptions options = Options(out, max_steps);
    options.trainer.warmup = 0;
    options.trainer.min_learning_rate_ratio = 1;
    options.trainer.alpha = {0.01, 0.01};
    return options;
  };
  ASSERT_TRUE(Pretrain(with_constant_schedule("whole", 6), &stop_).ok());
  ASSERT_TRUE(Pretrain(with_constant_schedule("parts", 2), &stop_).ok());
  const std::string early = Read("parts/model.safetensors");
  PretrainOptions rest = with_constant_schedule("parts", 6);
  rest.resume = true;
  ASSERT_TRUE(Pretrain(rest, &stop_).ok());
  EXPECT_FALSE(Read("parts/model.safetensors") == early);
  EXPECT_TRUE(Read("parts/model.safetensors") == Read("whole/model.safetensors"));
  EXPECT_TRUE(Read("parts/training-6.safetensors") == Read("whole/training-6.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder_.File("parts/training-2.safetensors")));
}

TEST_F(PretrainTest, StopSavesWhatThereIs) {
  stop_ = true;
  ASSERT_TRUE(Pretrain(Options("stopped", 1000), &stop_).ok());
  EXPECT_GT(LossOf("stopped"), 4.5);
  PretrainOptions resumed = Options("stopped", 3);
  resumed.resume = true;
  stop_ = false;
  EXPECT_TRUE(Pretrain(resumed, &stop_).ok());
}

// A training that can only explode ends with an error, and what was saved before stays.
TEST_F(PretrainTest, LossThatIsNotFiniteEndsTheRunAndKeepsTheCheckpoint) {
  ASSERT_TRUE(Pretrain(Options("exploding", 2), &stop_).ok());
  const std::string model = Read("exploding/model.safetensors");
  PretrainOptions options = Options("exploding", 60);
  options.trainer.learning_rate = 1e30;
  options.resume = true;
  const absl::Status status = Pretrain(options, &stop_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("not finite"));
  EXPECT_TRUE(Read("exploding/model.safetensors") == model);
  EXPECT_TRUE(Pretrain(Resumed(Options("exploding", 3)), &stop_).ok());
}

// The limit on a file's size stands for a disk that is full: both make write() fail.
TEST_F(PretrainTest, FullDiskIsAnErrorAndKeepsTheCheckpoint) {
  ASSERT_TRUE(Pretrain(Options("full", 2), &stop_).ok());
  const std::string model = Read("full/model.safetensors");
  const std::string state = Read("full/training.json");
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{model.size() / 2, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = Pretrain(Resumed(Options("full", 4)), &stop_);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("cannot be written"));
  EXPECT_TRUE(Read("full/model.safetensors") == model);
  EXPECT_TRUE(Read("full/training.json") == state);
  for (const auto& entry : std::filesystem::directory_iterator(folder_.File("full"))) {
    EXPECT_THAT(entry.path().string(), testing::Not(testing::EndsWith(".tmp")));
  }
  EXPECT_TRUE(Pretrain(Resumed(Options("full", 3)), &stop_).ok());
}

TEST_F(PretrainTest, ErrorsNameWhatIsWrong) {
  const auto message = [this](const PretrainOptions& options) {
    return std::string(Pretrain(options, &stop_).message());
  };
  EXPECT_THAT(message(Options("x", 0)), testing::HasSubstr("max_steps"));
  PretrainOptions options = Options("x", 1);
  options.trainer.share = 3;
  EXPECT_THAT(message(options), testing::HasSubstr("share 3"));
  options = Options("x", 1);
  options.text = {folder_.File("corpus.txt") + ":-2"};
  EXPECT_THAT(message(options), testing::HasSubstr("PATH:WEIGHT"));
  options = Options("x", 1);
  options.window = 100000;
  EXPECT_THAT(message(options), testing::HasSubstr("corpus.txt"));
  options = Options("x", 1);
  options.config.num_kv_heads = 3;
  EXPECT_THAT(message(options), testing::HasSubstr("num_key_value_heads"));
  options = Options("x", 1);
  options.resume = true;
  EXPECT_THAT(message(options), testing::HasSubstr("training.json"));
}

TEST(EvaluateTokensTest, CountsEveryTokenOnceAndComparesFlopsWithTheBaseline) {
  const ModelConfig config = TinyConfig();
  const ReferenceModel model = {config, LivelyParameters(config, 6)};
  const std::vector<std::vector<int32_t>> documents = {{1, 4, 5, 6, 7, 8, 9, 10}, {1, 9}};
  const auto evaluate = [&](int64_t context, int num_threads) {
    const auto scorer = MakeModelScorer(ScoredModelOf(model), num_threads);
    const auto evaluation = EvaluateTokens(*scorer, documents, 20, {.context = context});
    EXPECT_TRUE(evaluation.ok()) << evaluation.status();
    return *evaluation;
  };
  const Evaluation whole = evaluate(64, 1);
  EXPECT_EQ(whole.num_tokens, 8);
  EXPECT_NEAR(whole.perplexity, std::exp(whole.loss), 1e-9);
  EXPECT_NEAR(whole.bits_per_byte, whole.loss * 8 / 20 / std::log(2.0), 1e-9);
  EXPECT_NEAR(whole.expert_flops_ratio, whole.load / 2, 1e-12);
  // Per layer: attention 2 * 20 * 6 * (4 + 2), experts 3 * 20 * 13 each; head 37 * 20.
  const double fixed = 2 * 1440 + 740;
  const double expert = 2 * 780;
  EXPECT_NEAR(whole.model_flops_ratio, (fixed + whole.load * expert) / (fixed + 2 * expert), 1e-12);
  // Shorter windows see less, but count the same tokens; threads change nothing.
  const Evaluation cut = evaluate(3, 1);
  EXPECT_EQ(cut.num_tokens, 8);
  EXPECT_NE(cut.loss, whole.loss);
  EXPECT_EQ(evaluate(3, 2).loss, cut.loss);
  EXPECT_THAT(ToJson(cut), testing::HasSubstr("\"bits_per_byte\""));
}

}  // namespace
}  // namespace adamoe
