#include "absl/flags/flag.h"
#include "server/base/status_macros.h"
#include "train/commands/commands.h"
#include "train/commands/common_flags.h"
#include "train/pretrain.h"
#include "train/text_files.h"

ABSL_DECLARE_FLAG(int32_t, max_position_embeddings);
ABSL_FLAG(
    std::string, config, "",
    "pretrain: config.json of Hugging Face's Mixtral to take the model's shape from, in place "
    "of the flags for it; --num_null_experts adds to it");
ABSL_FLAG(std::string, tokenizer, "", "pretrain: folder of the tokenizer.json to use");
ABSL_FLAG(int32_t, hidden_size, 256, "pretrain: width of the residual stream");
ABSL_FLAG(int32_t, intermediate_size, 480, "pretrain: width inside an expert");
ABSL_FLAG(int32_t, num_layers, 6, "pretrain: decoder layers");
ABSL_FLAG(int32_t, num_heads, 8, "pretrain: query heads");
ABSL_FLAG(int32_t, num_kv_heads, 4, "pretrain: key and value heads; divides num_heads");
ABSL_FLAG(int32_t, num_experts, 8,
          "pretrain: true experts per layer, n; with 1 and --experts_per_token=1 a dense model. "
          "molora: LoRA experts per linear layer");
ABSL_FLAG(int32_t, sliding_window, 0, "pretrain: keys a position sees, its own included; 0: all");
ABSL_FLAG(bool, tie_word_embeddings, true, "pretrain: lm_head is embed_tokens");

namespace adamoe {
namespace {

ModelConfig ShapeOfFlags() {
  ModelConfig config;
  config.architecture = "MixtralForCausalLM";
  config.hidden_size = absl::GetFlag(FLAGS_hidden_size);
  config.intermediate_size = absl::GetFlag(FLAGS_intermediate_size);
  config.num_layers = absl::GetFlag(FLAGS_num_layers);
  config.num_heads = absl::GetFlag(FLAGS_num_heads);
  config.num_kv_heads = absl::GetFlag(FLAGS_num_kv_heads);
  config.head_dim = config.num_heads > 0 ? config.hidden_size / config.num_heads : 0;
  config.num_experts = absl::GetFlag(FLAGS_num_experts);
  const int32_t experts_per_token = absl::GetFlag(FLAGS_experts_per_token);
  config.experts_per_token = experts_per_token == 0 ? 2 : experts_per_token;
  config.max_position_embeddings = absl::GetFlag(FLAGS_max_position_embeddings);
  config.sliding_window = absl::GetFlag(FLAGS_sliding_window);
  config.tie_word_embeddings = absl::GetFlag(FLAGS_tie_word_embeddings);
  return config;
}

absl::StatusOr<ModelConfig> ConfigOfFlags() {
  const std::string path = absl::GetFlag(FLAGS_config);
  ModelConfig config = ShapeOfFlags();
  if (!path.empty()) {
    ASSIGN_OR_RETURN(const std::string json, ReadTextFile(path));
    ASSIGN_OR_RETURN(config, ParseModelConfig(json, path));
  }
  config.num_null_experts = absl::GetFlag(FLAGS_num_null_experts);
  return config;
}

}  // namespace

absl::Status RunPretrain() {
  PretrainOptions options;
  ASSIGN_OR_RETURN(options.config, ConfigOfFlags());
  options.text = absl::GetFlag(FLAGS_text);
  options.tokenizer_dir = absl::GetFlag(FLAGS_tokenizer);
  if (options.tokenizer_dir.empty()) return absl::InvalidArgumentError("--tokenizer is missing");
  options.window = absl::GetFlag(FLAGS_window);
  ASSIGN_OR_RETURN(options.device, DeviceOfFlags());
  options.use_bfloat16 = absl::GetFlag(FLAGS_bfloat16);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.resume = absl::GetFlag(FLAGS_resume);
  ASSIGN_OR_RETURN(options.trainer, TrainerOptionsOfFlags());
  return Pretrain(options, &stop_requested);
}

}  // namespace adamoe
