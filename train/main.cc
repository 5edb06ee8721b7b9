// adamoe_train: flags and subcommands; the work is in the files beside it.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "train/bpe_trainer.h"
#include "train/caching_allocator.h"
#include "train/evaluate.h"
#include "train/pretrain.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

ABSL_FLAG(std::vector<std::string>, text, {},
          "Text files, .txt or .gz, comma separated: one paragraph per line, documents apart by a "
          "line <|endoftext|>. pretrain takes FILE:WEIGHT too: passes over it per pass over a file "
          "of weight 1");
ABSL_FLAG(std::string, out, "", "Folder to write; made when missing");
ABSL_FLAG(int32_t, vocab_size, 4096,
          "tokenizer: tokens, the 256 bytes and 3 special ones included");
ABSL_FLAG(int64_t, min_char_count, 20,
          "tokenizer: occurrences from which a character is a token and not spelled in bytes");
ABSL_FLAG(int32_t, max_position_embeddings, 1024,
          "tokenizer, pretrain: tokens of context the model is said to take");

ABSL_FLAG(std::string, tokenizer, "", "pretrain: folder of the tokenizer.json to use");
ABSL_FLAG(int32_t, hidden_size, 256, "pretrain: width of the residual stream");
ABSL_FLAG(int32_t, intermediate_size, 480, "pretrain: width inside an expert");
ABSL_FLAG(int32_t, num_layers, 6, "pretrain: decoder layers");
ABSL_FLAG(int32_t, num_heads, 8, "pretrain: query heads");
ABSL_FLAG(int32_t, num_kv_heads, 4, "pretrain: key and value heads; divides num_heads");
ABSL_FLAG(int32_t, num_experts, 8, "pretrain: true experts per layer, n");
ABSL_FLAG(int32_t, num_null_experts, 8, "pretrain: null experts per layer, m; 0: plain Mixtral");
ABSL_FLAG(int32_t, experts_per_token, 3, "pretrain: router picks per token, k");
ABSL_FLAG(int32_t, sliding_window, 0, "pretrain: keys a position sees, its own included; 0: all");
ABSL_FLAG(bool, tie_word_embeddings, true, "pretrain: lm_head is embed_tokens");
ABSL_FLAG(int64_t, window, 256, "pretrain: tokens of a training window");
ABSL_FLAG(int64_t, batch, 16, "pretrain: windows per step, a multiple of share");
ABSL_FLAG(int64_t, share, 8, "pretrain: windows whose gradient one thread computes at once");
ABSL_FLAG(int32_t, threads, 0, "pretrain, evaluate: threads; 0: one per processor");
ABSL_FLAG(bool, bfloat16, true,
          "pretrain: multiply matrices in bfloat16 where the processor has AVX-512-BF16");
ABSL_FLAG(uint64_t, seed, 1, "pretrain: of the initial weights and the order of the windows");
ABSL_FLAG(int64_t, max_steps, 0, "pretrain: steps of the whole training; 0: no limit");
ABSL_FLAG(double, max_seconds, 0,
          "pretrain: seconds of the whole training, resumed runs together; 0: no limit");
ABSL_FLAG(double, learning_rate, 1e-3, "pretrain: the highest, after the warm-up");
ABSL_FLAG(double, min_learning_rate_ratio, 0.05, "pretrain: the last, as a share of the highest");
ABSL_FLAG(double, warmup, 0.03, "pretrain: share of the training in which the rate rises");
ABSL_FLAG(double, weight_decay, 0.1, "pretrain: AdamW's, of matrices");
ABSL_FLAG(double, max_gradient_norm, 1.0, "pretrain: longer gradients are cut to this norm");
ABSL_FLAG(double, first_alpha, 0.02, "pretrain: weight of the balance loss at the first step");
ABSL_FLAG(double, last_alpha, 0.0001, "pretrain: the same at the last; equal ratios between");
ABSL_FLAG(int64_t, checkpoint_steps, 500, "pretrain: steps between two checkpoints");
ABSL_FLAG(int64_t, log_steps, 20, "pretrain: steps between two lines of progress");
ABSL_FLAG(std::string, model, "", "evaluate: model folder");
ABSL_FLAG(std::string, json, "", "evaluate: file to write the result to, as JSON");
ABSL_FLAG(int64_t, context, 0,
          "evaluate: tokens of a window; 0: the model's max_position_embeddings");
ABSL_FLAG(int32_t, baseline_experts_per_token, 2,
          "evaluate: true experts per token of the model that FLOPs are compared with");
ABSL_FLAG(bool, resume, false, "pretrain: go on from the checkpoint in --out");

namespace adamoe {
namespace {

volatile bool stop_requested = false;

void RequestStop(int) { stop_requested = true; }

absl::Status RunTokenizer() {
  WordCounts counts;
  for (const std::string& path : absl::GetFlag(FLAGS_text)) {
    ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
    for (absl::string_view document : SplitDocuments(text)) CountWords(document, &counts);
  }
  ASSIGN_OR_RETURN(const BpeVocabulary vocabulary, TrainBpe(counts, absl::GetFlag(FLAGS_vocab_size),
                                                            absl::GetFlag(FLAGS_min_char_count)));
  const std::string out = absl::GetFlag(FLAGS_out);
  std::error_code error;
  std::filesystem::create_directories(out, error);
  RETURN_IF_ERROR(WriteFileAtomically(out + "/tokenizer.json", TokenizerJson(vocabulary)));
  spdlog::info("{} distinct words, {} tokens", counts.size(), vocabulary.tokens.size());
  return WriteFileAtomically(out + "/tokenizer_config.json",
                             TokenizerConfigJson(absl::GetFlag(FLAGS_max_position_embeddings)));
}

ModelConfig ConfigOfFlags() {
  ModelConfig config;
  config.architecture = "MixtralForCausalLM";
  config.hidden_size = absl::GetFlag(FLAGS_hidden_size);
  config.intermediate_size = absl::GetFlag(FLAGS_intermediate_size);
  config.num_layers = absl::GetFlag(FLAGS_num_layers);
  config.num_heads = absl::GetFlag(FLAGS_num_heads);
  config.num_kv_heads = absl::GetFlag(FLAGS_num_kv_heads);
  config.head_dim = config.num_heads > 0 ? config.hidden_size / config.num_heads : 0;
  config.num_experts = absl::GetFlag(FLAGS_num_experts);
  config.num_null_experts = absl::GetFlag(FLAGS_num_null_experts);
  config.experts_per_token = absl::GetFlag(FLAGS_experts_per_token);
  config.max_position_embeddings = absl::GetFlag(FLAGS_max_position_embeddings);
  config.sliding_window = absl::GetFlag(FLAGS_sliding_window);
  config.tie_word_embeddings = absl::GetFlag(FLAGS_tie_word_embeddings);
  return config;
}

int NumThreads() {
  const int num_threads = absl::GetFlag(FLAGS_threads);
  if (num_threads > 0) return num_threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

absl::Status RunEvaluate() {
  EvaluateOptions options;
  options.model_dir = absl::GetFlag(FLAGS_model);
  const std::vector<std::string> text = absl::GetFlag(FLAGS_text);
  if (text.size() != 1) return absl::InvalidArgumentError("--text: evaluate takes one file");
  options.text = text[0];
  options.context = absl::GetFlag(FLAGS_context);
  options.num_threads = NumThreads();
  options.baseline_experts_per_token = absl::GetFlag(FLAGS_baseline_experts_per_token);
  if (options.baseline_experts_per_token < 1) {
    return absl::InvalidArgumentError("--baseline_experts_per_token must be at least 1");
  }
  ASSIGN_OR_RETURN(const Evaluation evaluation, Evaluate(options));
  std::printf(
      "loss %.4f nats/token, perplexity %.2f, bits_per_byte %.4f, load %.3f, "
      "expert_flops_ratio %.4f, model_flops_ratio %.4f\n",
      evaluation.loss, evaluation.perplexity, evaluation.bits_per_byte, evaluation.load,
      evaluation.expert_flops_ratio, evaluation.model_flops_ratio);
  const std::string json = absl::GetFlag(FLAGS_json);
  return json.empty() ? absl::OkStatus() : WriteFileAtomically(json, ToJson(evaluation));
}

absl::Status RunPretrain() {
  PretrainOptions options;
  options.config = ConfigOfFlags();
  options.text = absl::GetFlag(FLAGS_text);
  options.tokenizer_dir = absl::GetFlag(FLAGS_tokenizer);
  options.out_dir = absl::GetFlag(FLAGS_out);
  options.resume = absl::GetFlag(FLAGS_resume);
  options.window = absl::GetFlag(FLAGS_window);
  options.batch = absl::GetFlag(FLAGS_batch);
  options.share = absl::GetFlag(FLAGS_share);
  options.num_threads = NumThreads();
  options.use_bfloat16 = absl::GetFlag(FLAGS_bfloat16);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.max_steps = absl::GetFlag(FLAGS_max_steps);
  options.max_seconds = absl::GetFlag(FLAGS_max_seconds);
  options.learning_rate = absl::GetFlag(FLAGS_learning_rate);
  options.min_learning_rate_ratio = absl::GetFlag(FLAGS_min_learning_rate_ratio);
  options.warmup = absl::GetFlag(FLAGS_warmup);
  options.weight_decay = absl::GetFlag(FLAGS_weight_decay);
  options.max_gradient_norm = absl::GetFlag(FLAGS_max_gradient_norm);
  options.first_alpha = absl::GetFlag(FLAGS_first_alpha);
  options.last_alpha = absl::GetFlag(FLAGS_last_alpha);
  options.checkpoint_steps = absl::GetFlag(FLAGS_checkpoint_steps);
  options.log_steps = absl::GetFlag(FLAGS_log_steps);
  return Pretrain(options, &stop_requested);
}

absl::Status Run(const std::vector<char*>& arguments) {
  const std::string command = arguments.size() == 2 ? arguments[1] : "";
  if (absl::GetFlag(FLAGS_out).empty() && (command == "tokenizer" || command == "pretrain")) {
    return absl::InvalidArgumentError("--out is missing");
  }
  if (command == "tokenizer") return RunTokenizer();
  if (command == "pretrain") return RunPretrain();
  if (command == "evaluate") return RunEvaluate();
  return absl::InvalidArgumentError(
      "expected one command: tokenizer, pretrain or evaluate (--help explains)");
}

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) {
  // Rows per expert differ from step to step: room for a kernel of every shape that occurs.
  setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32768", /*overwrite=*/0);
  adamoe::InstallCachingAllocator();
  absl::FlagsUsageConfig usage;
  usage.contains_help_flags = [](absl::string_view file) {
    return absl::EndsWith(file, "train/main.cc");
  };
  usage.normalize_filename = [](absl::string_view) { return std::string("train/main.cc"); };
  absl::SetFlagsUsageConfig(usage);
  absl::SetProgramUsageMessage(
      "Trains and measures AdaMoE models.\n"
      "  adamoe_train tokenizer --text=FILES --out=DIR\n"
      "  adamoe_train pretrain --text=FILES --tokenizer=DIR --out=DIR --max_seconds=S\n"
      "  adamoe_train evaluate --model=DIR --text=FILE [--json=FILE]");
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  std::signal(SIGTERM, adamoe::RequestStop);
  std::signal(SIGINT, adamoe::RequestStop);
  const absl::Status status = adamoe::Run(arguments);
  if (status.ok()) return 0;
  std::fprintf(stderr, "adamoe_train: %s\n", std::string(status.message()).c_str());
  return 1;
}
