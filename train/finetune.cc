#include "train/finetune.h"

#include <spdlog/spdlog.h>

#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/tokenizer.h"
#include "train/mixtral_training.h"
#include "train/model_folder.h"
#include "train/text_corpus.h"

namespace adamoe {
namespace {

absl::Status CheckFolders(const std::string& model_dir, const std::string& out_dir) {
  std::error_code error;
  if (!std::filesystem::equivalent(model_dir, out_dir, error)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(out_dir, ": is the model's own folder, expected another"));
}

absl::Status CheckVocabulary(const Tokenizer& tokenizer, const ModelConfig& config) {
  if (tokenizer.vocab_size() <= config.vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", tokenizer.vocab_size(),
                                                 " tokens, the model ", config.vocab_size));
}

}  // namespace

absl::Status Finetune(const FinetuneOptions& options, const volatile bool* stop) {
  RETURN_IF_ERROR(CheckTrainerOptions(options.trainer));
  RETURN_IF_ERROR(CheckFolders(options.model_dir, options.trainer.out_dir));
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(options.model_dir));
  ASSIGN_OR_RETURN(ReferenceModel model, LoadModelFolder(options.model_dir));
  RETURN_IF_ERROR(CheckVocabulary(*tokenizer, model.config));
  ASSIGN_OR_RETURN(const std::unique_ptr<WindowSampler> corpus,
                   OpenTextCorpus(options.text, options.window, options.seed, *tokenizer));
  RETURN_IF_ERROR(CopyTokenizer(options.model_dir, options.trainer.out_dir));
  const at::ScalarType matrix_type = TrainingMatrixType(options.use_bfloat16);
  spdlog::info("{} true and {} null experts, {} picks per token, matrices in {}",
               model.config.num_experts, model.config.num_null_experts,
               model.config.experts_per_token,
               matrix_type == at::kBFloat16 ? "bfloat16" : "float32");
  const MixtralTraining training(std::move(model), matrix_type);
  Trainer trainer(options.trainer, corpus.get(), &training);
  if (options.resume) RETURN_IF_ERROR(trainer.Resume());
  return trainer.Run(stop);
}

}  // namespace adamoe
