// LoRA starts as the model it is of, learns, and is what the server's loader reads back; whole
// fine-tunings run, resume and fail as they should.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "absl/strings/match.h"
#include "tests/unit/train/tiny_corpus.h"
#include "train/adamw.h"
#include "train/choice_examples.h"
#include "train/finetune.h"
#include "train/lora_training.h"
#include "train/losses.h"
#include "train/mixtral_training.h"
#include "train/text_corpus.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

const std::vector<std::string>& AllTargets() {
  static const auto& names = *new std::vector<std::string>{
      "gate", "gate2", "w1", "w2", "w3", "q_proj", "k_proj", "v_proj", "o_proj"};
  return names;
}

at::Tensor SomeTokens(const ModelConfig& config) {
  return (at::arange(3 * 11) * 29 % 31 % config.vocab_size).view({3, 11});
}

ReferenceModel LivelyModel() { return {TinyConfig(), LivelyParameters(TinyConfig(), 3)}; }

at::Tensor LossOf(const ReferenceOutput& output, const at::Tensor& tokens) {
  const int64_t length = tokens.size(1) - 1;
  return NextTokenLoss(output.logits.narrow(1, 0, length), tokens.narrow(1, 1, length)) +
         0.1 * MeanBalanceLoss(RouterLoss::kNull, output.routing, TinyConfig().num_experts);
}

// A few steps of training, enough to move every parameter.
void TrainALittle(const LoraTraining& training) {
  std::vector<at::Tensor> parameters;
  for (const auto& [name, tensor] : training.Parameters()) parameters.push_back(tensor);
  AdamW optimizer(parameters, {});
  const at::Tensor tokens = SomeTokens(TinyConfig());
  for (int step = 0; step < 5; ++step) {
    const TrainingPass pass = training.BeginPass();
    const std::vector<at::Tensor> gradients =
        torch::autograd::grad({LossOf(pass.forward(tokens), tokens)}, pass.leaves);
    optimizer.Begin();
    for (size_t i = 0; i < gradients.size(); ++i) optimizer.Update(i, gradients[i], 0.01);
  }
}

double Distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

TEST(LoraTrainingTest, StartsAsTheModelItIsOf) {
  const ReferenceModel model = LivelyModel();
  const LoraTraining training(model, {.rank = 2, .targets = AllTargets()}, at::kFloat);
  const at::Tensor tokens = SomeTokens(model.config);
  const at::Tensor expected = ReferenceForward(model.config, model.parameters, tokens).logits;
  EXPECT_LT(Distance(training.BeginPass().forward(tokens).logits, expected), 1e-6);
  for (const auto& [name, tensor] : training.Parameters()) {
    EXPECT_EQ(tensor.abs().max().item<double>() > 0, absl::EndsWith(name, "A")) << name;
  }
}

// Whatever is targeted, matrices of both types work together, gradients included.
TEST(LoraTrainingTest, OtherMatricesMayBeBFloat16) {
  const ReferenceModel model = LivelyModel();
  const at::Tensor tokens = SomeTokens(model.config);
  for (const std::string& target : AllTargets()) {
    const LoraTraining training(model, {.rank = 2, .targets = {target}}, at::kBFloat16);
    const TrainingPass pass = training.BeginPass();
    const std::vector<at::Tensor> gradients =
        torch::autograd::grad({LossOf(pass.forward(tokens), tokens)}, pass.leaves);
    EXPECT_GT(gradients[1].abs().max().item<double>(), 0) << target;
    EXPECT_EQ(gradients[1].scalar_type(), at::kFloat) << target;
  }
}

TEST(LoraTrainingTest, SavedAdapterIsWhatTrainingComputesWith) {
  const ReferenceModel model = LivelyModel();
  const TestFolder folder("lora_adapter");
  ASSERT_TRUE(WriteModelFolder(folder.path(), model.config, model.parameters, at::kFloat).ok());
  for (const std::vector<std::string>& targets :
       {AllTargets(), LoraOptions().targets, {"w3"}, {"gate2", "v_proj"}}) {
    const LoraTraining training(model, {.rank = 3, .alpha = 5, .targets = targets}, at::kFloat);
    TrainALittle(training);
    const std::string dir = folder.File("adapter");
    ASSERT_TRUE(MakeFolder(dir).ok());
    ASSERT_TRUE(training.Save(dir).ok());
    const auto weights = LoadMixtral({.model_dir = folder.path(), .adapter_dir = dir});
    ASSERT_TRUE(weights.ok()) << weights.status();
    const ReferenceModel merged = ReferenceFrom(*weights);
    const at::Tensor tokens = SomeTokens(model.config);
    const at::Tensor trained = training.BeginPass().forward(tokens).logits;
    const at::Tensor base = ReferenceForward(model.config, model.parameters, tokens).logits;
    EXPECT_GT(Distance(trained, base), 1e-3);
    EXPECT_LT(Distance(ReferenceForward(merged.config, merged.parameters, tokens).logits, trained),
              1e-5);
  }
}

TEST(LoraTrainingTest, MergeWritesTheModelItselfInItsTypes) {
  const ReferenceModel model = LivelyModel();
  const TestFolder folder("lora_merge");
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    ASSERT_TRUE(WriteModelFolder(folder.path(), model.config, model.parameters, dtype).ok());
    const auto base = LoadModelFolder(folder.path());
    ASSERT_TRUE(base.ok()) << base.status();
    const LoraTraining training(*base, {.model_dir = folder.path(), .rank = 2, .merge = true},
                                at::kFloat);
    TrainALittle(training);
    ASSERT_TRUE(MakeFolder(folder.File("merged")).ok());
    ASSERT_TRUE(training.Save(folder.File("merged")).ok());
    auto merged = LoadModelFolder(folder.File("merged"));
    ASSERT_TRUE(merged.ok()) << merged.status();
    MixtralParameters expected = training.Merged();
    const std::vector<at::Tensor*> left = AllTensors(&merged->parameters);
    const std::vector<at::Tensor*> right = AllTensors(&expected);
    for (size_t i = 0; i < left.size(); ++i) {
      EXPECT_TRUE(left[i]->equal(right[i]->to(dtype).to(at::kFloat))) << i;
    }
  }
}

// dB = s dW' A^T and dA = s B^T dW', where dW' is the gradient of the merged weight itself.
TEST(LoraTrainingTest, GradientsFollowTheChainRule) {
  const ReferenceModel model = LivelyModel();
  const LoraTraining training(model, {.rank = 2, .alpha = 6, .targets = AllTargets()}, at::kFloat);
  TrainALittle(training);
  const at::Tensor tokens = SomeTokens(model.config);
  const TrainingPass pass = training.BeginPass();
  const std::vector<at::Tensor> gradients =
      torch::autograd::grad({LossOf(pass.forward(tokens), tokens)}, pass.leaves);

  const MixtralTraining full({model.config, training.Merged()}, at::kFloat);
  const TrainingPass full_pass = full.BeginPass();
  const std::vector<at::Tensor> full_gradients =
      torch::autograd::grad({LossOf(full_pass.forward(tokens), tokens)}, full_pass.leaves);
  MixtralParameters by_tensor = training.Merged();
  size_t next = 0;
  for (at::Tensor* tensor : AllTensors(&by_tensor)) *tensor = full_gradients[next++];

  const NamedTensors parameters = training.Parameters();
  ASSERT_EQ(parameters.size(), 2 * 9 * 2u);
  const ModelConfig& config = model.config;
  const int64_t q_rows = config.num_heads * config.head_dim;
  const int64_t kv_rows = config.num_kv_heads * config.head_dim;
  const int64_t inner = config.intermediate_size;
  for (size_t layer = 0; layer < 2; ++layer) {
    const MixtralLayerParameters& dw = by_tensor.layers[layer];
    const std::vector<at::Tensor> expected = {dw.gate,
                                              dw.gate2,
                                              dw.w13.narrow(1, 0, inner),
                                              dw.w2,
                                              dw.w13.narrow(1, inner, inner),
                                              dw.qkv_proj.narrow(0, 0, q_rows),
                                              dw.qkv_proj.narrow(0, q_rows, kv_rows),
                                              dw.qkv_proj.narrow(0, q_rows + kv_rows, kv_rows),
                                              dw.o_proj};
    for (size_t target = 0; target < 9; ++target) {
      const size_t i = 2 * (9 * layer + target);
      const at::Tensor a = parameters[i].second;
      const at::Tensor b = parameters[i + 1].second;
      const at::Tensor da = at::matmul(b.transpose(-2, -1), expected[target]) * 3;
      const at::Tensor db = at::matmul(expected[target], a.transpose(-2, -1)) * 3;
      const double scale = db.abs().max().item<double>();
      EXPECT_GT(scale, 0) << parameters[i].first;
      EXPECT_LT(Distance(gradients[i], da), 1e-4 * da.abs().max().item<double>() + 1e-7)
          << parameters[i].first;
      EXPECT_LT(Distance(gradients[i + 1], db), 1e-4 * scale + 1e-7) << parameters[i].first;
    }
  }
}

TEST(CheckLoraOptionsTest, NamesWhatIsWrong) {
  const auto message = [](const LoraOptions& options) {
    return std::string(CheckLoraOptions(options).message());
  };
  EXPECT_TRUE(CheckLoraOptions({}).ok());
  EXPECT_THAT(message({.rank = 0}), HasSubstr("lora_r 0"));
  EXPECT_THAT(message({.alpha = 0}), HasSubstr("lora_alpha 0"));
  EXPECT_THAT(message({.targets = {}}), HasSubstr("lora_targets"));
  EXPECT_THAT(message({.targets = {"w4"}}), HasSubstr("\"w4\""));
  EXPECT_THAT(message({.targets = {"w1", "w1"}}), HasSubstr("twice"));
}

class FinetuneTest : public testing::Test {
 protected:
  FinetuneTest() {
    WriteTinyModel(TinyConfig(), folder_.File("model"), at::kFloat);
    EXPECT_TRUE(WriteFileAtomically(folder_.File("corpus.txt"), TinyCorpus()).ok());
    EXPECT_TRUE(
        WriteFileAtomically(
            folder_.File("q.jsonl"),
            R"({"question": "Who ran?", "choices": ["The fox", "The hen"], "answer_index": 0}
{"question": "Who?", "choices": ["The fox", "The hen"], "answer_index": 1}
{"question": "Where?", "choices": ["home", "too", "hen"], "answer_index": 0}
)")
            .ok());
  }

  FinetuneOptions Options(const std::string& out, int64_t max_steps) const {
    FinetuneOptions options;
    options.model_dir = folder_.File("model");
    options.text = {folder_.File("corpus.txt")};
    options.window = 24;
    options.use_bfloat16 = false;
    options.trainer.out_dir = folder_.File(out);
    options.trainer.batch = 4;
    options.trainer.share = 2;
    options.trainer.num_threads = 2;
    options.trainer.max_steps = max_steps;
    options.trainer.learning_rate = 1e-2;
    options.trainer.warmup = 0;
    options.trainer.min_learning_rate_ratio = 1;
    options.trainer.alpha = {0.01, 0.01};
    return options;
  }

  FinetuneOptions WithChoices(FinetuneOptions options) const {
    options.text.clear();
    options.choices = {folder_.File("q.jsonl")};
    options.window = 60;
    return options;
  }

  static FinetuneOptions WithLora(FinetuneOptions options) {
    options.lora = LoraOptions{.rank = 4, .targets = AllTargets()};
    return options;
  }

  void Run(const FinetuneOptions& options) {
    const absl::Status status = Finetune(options, &stop_);
    ASSERT_TRUE(status.ok()) << status;
  }

  std::string ErrorOf(const FinetuneOptions& options) {
    return std::string(Finetune(options, &stop_).message());
  }

  std::string Read(const std::string& name) const {
    const auto content = ReadTextFile(folder_.File(name));
    EXPECT_TRUE(content.ok()) << content.status();
    return content.ok() ? *content : "";
  }

  // Of the model that `options` train, on a batch of their examples.
  double LossOf(const FinetuneOptions& options, bool after) const {
    LoadOptions load = {.model_dir = options.model_dir};
    if (after && options.lora.has_value()) load.adapter_dir = options.trainer.out_dir;
    if (after && !options.lora.has_value()) load.model_dir = options.trainer.out_dir;
    const auto weights = LoadMixtral(load);
    EXPECT_TRUE(weights.ok()) << weights.status();
    const ReferenceModel model = ReferenceFrom(*weights);
    const auto tokenizer = Tokenizer::Load(options.model_dir);
    std::unique_ptr<ExampleSource> source;
    if (options.choices.empty()) {
      source = *OpenTextCorpus(options.text, options.window, 5, **tokenizer, 1);
    } else {
      source = *OpenChoiceExamples(options.choices, options.window, 3, 5, **tokenizer);
    }
    const Examples examples = source->Draw(3);
    const int64_t length = examples.tokens.size(1) - 1;
    return NextTokenLoss(ReferenceForward(model.config, model.parameters,
                                          examples.tokens.narrow(1, 0, length))
                             .logits,
                         examples.tokens.narrow(1, 1, length), examples.counted)
        .item<double>();
  }

  const TestFolder folder_{"finetune"};
  bool stop_ = false;
};

TEST_F(FinetuneTest, LossFalls) {
  for (const bool with_lora : {false, true}) {
    for (const bool with_choices : {false, true}) {
      FinetuneOptions options = Options(absl::StrCat("out", with_lora, with_choices), 60);
      if (with_choices) options = WithChoices(options);
      if (with_lora) options = WithLora(options);
      Run(options);
      const double before = LossOf(options, false);
      const double after = LossOf(options, true);
      EXPECT_GT(before, 4.5);
      // LoRA leaves embeddings and the head of this random model as they are.
      EXPECT_LT(after, with_lora ? 0.6 * before : 2.5) << before << with_lora << with_choices;
    }
  }
}

TEST_F(FinetuneTest, ResumedRunEqualsOneThatNeverStopped) {
  for (const bool with_lora : {false, true}) {
    const auto options = [&](const std::string& out, int64_t max_steps) {
      const FinetuneOptions plain = WithChoices(Options(out, max_steps));
      return with_lora ? WithLora(plain) : plain;
    };
    const std::string whole = absl::StrCat("whole", with_lora);
    const std::string parts = absl::StrCat("parts", with_lora);
    Run(options(whole, 5));
    Run(options(parts, 2));
    FinetuneOptions rest = options(parts, 5);
    rest.resume = true;
    Run(rest);
    const char* file = with_lora ? "/adapter_model.safetensors" : "/model.safetensors";
    EXPECT_TRUE(Read(whole + file) == Read(parts + file));
    EXPECT_TRUE(Read(whole + "/training-5.safetensors") == Read(parts + "/training-5.safetensors"));
  }
}

TEST_F(FinetuneTest, ResumingRefusesAStateThatDoesNotFit) {
  Run(WithLora(Options("lora", 1)));
  FinetuneOptions options = WithLora(Options("lora", 2));
  options.resume = true;
  options.lora->alpha = 3;
  EXPECT_THAT(ErrorOf(options), HasSubstr("lora_alpha"));
  options.lora->alpha = 16;
  options.lora->rank = 5;
  EXPECT_THAT(ErrorOf(options), HasSubstr("adapter_config.json: r "));
  options.lora.reset();
  EXPECT_THAT(ErrorOf(options), HasSubstr("is missing"));
}

TEST_F(FinetuneTest, ErrorsNameWhatIsWrong) {
  FinetuneOptions options = Options("x", 1);
  options.choices = {folder_.File("q.jsonl")};
  EXPECT_THAT(ErrorOf(options), HasSubstr("one of text and choices"));
  options = Options("x", 1);
  options.text.clear();
  EXPECT_THAT(ErrorOf(options), HasSubstr("one of text and choices"));
  EXPECT_THAT(ErrorOf(Options("model", 1)), HasSubstr("own folder"));
  options = WithLora(Options("x", 1));
  options.lora->targets = {"lm_head"};
  EXPECT_THAT(ErrorOf(options), HasSubstr("lm_head"));
  options = Options("x", 1);
  options.model_dir = folder_.File("nowhere");
  EXPECT_THAT(ErrorOf(options), HasSubstr("nowhere"));
  ModelConfig small = TinyConfig();
  ASSERT_TRUE(
      WriteModelFolder(folder_.File("model"), small, RandomParameters(small, 1), at::kFloat).ok());
  EXPECT_THAT(ErrorOf(Options("x", 1)), HasSubstr("the model 37"));
}

}  // namespace
}  // namespace adamoe
