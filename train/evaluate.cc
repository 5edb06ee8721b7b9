#include "train/evaluate.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/tokenizer.h"
#include "train/losses.h"
#include "train/mixtral_reference.h"
#include "train/text_files.h"
#include "train/threads.h"

namespace adamoe {
namespace {

// `length` inputs from `begin` of a document; the targets are one further.
struct Window {
  const std::vector<int32_t>* document;
  int64_t begin;
  int64_t length;
};

struct WindowResult {
  double nats = 0;
  double load = 0;
};

std::vector<Window> CutWindows(const std::vector<std::vector<int32_t>>& documents,
                               int64_t context) {
  std::vector<Window> windows;
  for (const std::vector<int32_t>& document : documents) {
    const int64_t num_inputs = static_cast<int64_t>(document.size()) - 1;
    for (int64_t begin = 0; begin < num_inputs; begin += context) {
      windows.push_back({&document, begin, std::min(context, num_inputs - begin)});
    }
  }
  return windows;
}

WindowResult Predict(const ReferenceModel& model, const Window& window) {
  const c10::NoGradGuard no_gradients;
  const auto first = window.document->begin() + window.begin;
  const std::vector<int64_t> ids(first, first + window.length + 1);
  const at::Tensor tokens = at::tensor(ids, at::kLong).unsqueeze(0);
  const ReferenceOutput output =
      ReferenceForward(model.config, model.parameters, tokens.narrow(1, 0, window.length));
  const at::Tensor loss = NextTokenLoss(output.logits, tokens.narrow(1, 1, window.length));
  return {loss.item<double>() * static_cast<double>(window.length),
          MeanLoad(output.routing, model.config.num_experts)};
}

// Multiplications per token of everything but the experts: attention's linear layers and the head.
double FixedProducts(const ModelConfig& config) {
  const double q_rows = static_cast<double>(config.num_heads) * config.head_dim;
  const double kv_rows = static_cast<double>(config.num_kv_heads) * config.head_dim;
  const double attention = 2.0 * config.hidden_size * (q_rows + kv_rows);
  return config.num_layers * attention +
         static_cast<double>(config.vocab_size) * config.hidden_size;
}

}  // namespace

Evaluation EvaluateTokens(const ReferenceModel& model,
                          const std::vector<std::vector<int32_t>>& documents, int64_t num_bytes,
                          int64_t context, int num_threads, int32_t baseline_experts_per_token) {
  const std::vector<Window> windows = CutWindows(documents, context);
  std::vector<WindowResult> results(windows.size());
  ForEach(num_threads, windows.size(), [&](size_t i) { results[i] = Predict(model, windows[i]); });
  Evaluation evaluation;
  evaluation.num_bytes = num_bytes;
  double nats = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    evaluation.num_tokens += windows[i].length;
    nats += results[i].nats;
    evaluation.load += results[i].load * static_cast<double>(windows[i].length);
  }
  const double num_tokens = static_cast<double>(evaluation.num_tokens);
  evaluation.load /= num_tokens;
  evaluation.loss = nats / num_tokens;
  evaluation.perplexity = std::exp(evaluation.loss);
  evaluation.bits_per_byte = nats / M_LN2 / static_cast<double>(num_bytes);
  const double expert = 3.0 * model.config.hidden_size * model.config.intermediate_size;
  const double fixed = FixedProducts(model.config) / model.config.num_layers;
  evaluation.expert_flops_ratio = evaluation.load / baseline_experts_per_token;
  evaluation.model_flops_ratio =
      (fixed + evaluation.load * expert) / (fixed + baseline_experts_per_token * expert);
  return evaluation;
}

absl::StatusOr<Evaluation> Evaluate(const EvaluateOptions& options) {
  ASSIGN_OR_RETURN(const ReferenceModel model, LoadModelFolder(options.model_dir));
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(options.model_dir));
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(options.text));
  if (model.config.bos_token_id < 0) {
    return absl::InvalidArgumentError(absl::StrCat(options.model_dir, ": has no bos_token_id"));
  }
  std::vector<std::vector<int32_t>> documents;
  int64_t num_bytes = 0;
  for (absl::string_view document : SplitDocuments(text)) {
    ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                     tokenizer->Encode(document, {.add_special_tokens = false}));
    ids.insert(ids.begin(), model.config.bos_token_id);
    for (int32_t id : ids) {
      if (id >= model.config.vocab_size) {
        return absl::InvalidArgumentError(
            absl::StrCat(options.model_dir, ": token ", id, " is not in the model's vocabulary"));
      }
    }
    num_bytes += static_cast<int64_t>(document.size());
    documents.push_back(std::move(ids));
  }
  if (num_bytes == 0) return absl::InvalidArgumentError(absl::StrCat(options.text, ": is empty"));
  const int64_t context =
      options.context > 0 ? options.context : model.config.max_position_embeddings;
  return EvaluateTokens(model, documents, num_bytes, context, options.num_threads,
                        options.baseline_experts_per_token);
}

std::string ToJson(const Evaluation& evaluation) {
  const nlohmann::ordered_json json = {{"loss", evaluation.loss},
                                       {"perplexity", evaluation.perplexity},
                                       {"bits_per_byte", evaluation.bits_per_byte},
                                       {"load", evaluation.load},
                                       {"expert_flops_ratio", evaluation.expert_flops_ratio},
                                       {"model_flops_ratio", evaluation.model_flops_ratio},
                                       {"num_tokens", evaluation.num_tokens},
                                       {"num_bytes", evaluation.num_bytes}};
  return json.dump(2) + "\n";
}

}  // namespace adamoe
