#include "train/pretrain.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/tokenizer.h"
#include "train/device.h"
#include "train/mixtral_training.h"
#include "train/text_corpus.h"

namespace adamoe {
namespace {

// The model's shape with what the tokenizer decides.
absl::StatusOr<ModelConfig> CompleteConfig(ModelConfig config, const Tokenizer& tokenizer) {
  const int32_t bos = tokenizer.TokenId("<s>");
  const int32_t eos = tokenizer.TokenId("</s>");
  if (bos < 0 || eos < 0) {
    return absl::InvalidArgumentError("the tokenizer has no <s> or no </s>");
  }
  config.vocab_size = tokenizer.vocab_size();
  config.bos_token_id = bos;
  config.eos_token_ids = {eos};
  if (config.num_null_experts < 0 ||
      config.experts_per_token > config.num_experts + config.num_null_experts) {
    return absl::InvalidArgumentError(absl::StrCat(
        "experts_per_token ", config.experts_per_token, ": expected at most num_experts ",
        config.num_experts, " + num_null_experts ", config.num_null_experts));
  }
  // The checks are those of a reader of what will be written.
  RETURN_IF_ERROR(
      ParseModelConfig(ConfigJson(config, at::kBFloat16), "the model's shape").status());
  return config;
}

}  // namespace

absl::Status Pretrain(const PretrainOptions& options, const volatile bool* stop) {
  RETURN_IF_ERROR(CheckTrainerOptions(options.trainer));
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(options.tokenizer_dir));
  ASSIGN_OR_RETURN(const ModelConfig config, CompleteConfig(options.config, *tokenizer));
  ASSIGN_OR_RETURN(const std::unique_ptr<WindowSampler> corpus,
                   OpenTextCorpus(options.text, options.window, options.seed, *tokenizer,
                                  options.trainer.num_threads));
  RETURN_IF_ERROR(CopyTokenizer(options.tokenizer_dir, options.trainer.out_dir));
  const at::ScalarType matrix_type = TrainingMatrixType(options.device, options.use_bfloat16);
  spdlog::info("{} tokens of text, matrices in {}", corpus->num_tokens(), DTypeName(matrix_type));
  MixtralParameters parameters = RandomParameters(config, options.seed);
  MoveTo(options.device, &parameters);
  const MixtralTraining model({config, std::move(parameters)}, matrix_type);
  Trainer trainer(options.trainer, corpus.get(), &model);
  if (options.resume) RETURN_IF_ERROR(trainer.Resume());
  return trainer.Run(stop);
}

}  // namespace adamoe
