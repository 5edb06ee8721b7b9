#include <cstdio>
#include <memory>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "train/commands/commands.h"
#include "train/commands/common_flags.h"
#include "train/evaluate.h"
#include "train/model_scorer.h"
#include "train/molora_folder.h"
#include "train/molora_scorer.h"
#include "train/remote/server_scorer.h"
#include "train/safetensors_writer.h"
#include "train/text_files.h"

ABSL_FLAG(std::string, target, "",
          "evaluate: HOST:PORT of a server to compute, in place of this process; --model is then "
          "the folder it serves");
ABSL_FLAG(std::string, json, "", "evaluate: file to write the result to, as JSON");
ABSL_FLAG(int64_t, context, 0,
          "evaluate: tokens a prediction may look back on; 0: as many as the model takes");
ABSL_FLAG(int64_t, limit, 0, "evaluate: documents or questions, the first ones; 0: all");
ABSL_FLAG(int32_t, baseline_experts_per_token, 2,
          "evaluate: true experts per token of the model that FLOPs are compared with");

namespace adamoe {
namespace {

// The file to evaluate: one of --text and --choices.
struct Source {
  std::string path;
  bool is_text = false;
};

absl::StatusOr<Source> SourceOfFlags() {
  const std::vector<std::string> text = absl::GetFlag(FLAGS_text);
  const std::string choices = absl::GetFlag(FLAGS_choices);
  if (text.empty() == choices.empty()) {
    return absl::InvalidArgumentError("evaluate takes one of --text and --choices");
  }
  if (text.empty()) return Source{choices, false};
  if (text.size() > 1) return absl::InvalidArgumentError("--text: evaluate takes one file");
  return Source{text[0], true};
}

absl::StatusOr<EvaluateOptions> OptionsOfFlags() {
  EvaluateOptions options;
  options.context = absl::GetFlag(FLAGS_context);
  options.limit = absl::GetFlag(FLAGS_limit);
  options.baseline_experts_per_token = absl::GetFlag(FLAGS_baseline_experts_per_token);
  const auto check = [](const char* flag, int64_t value, int64_t min) {
    if (value >= min) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, "=", value, ": expected at least ", min));
  };
  RETURN_IF_ERROR(check("context", options.context, 0));
  RETURN_IF_ERROR(check("limit", options.limit, 0));
  RETURN_IF_ERROR(check("experts_per_token", absl::GetFlag(FLAGS_experts_per_token), 0));
  RETURN_IF_ERROR(check("baseline_experts_per_token", options.baseline_experts_per_token, 1));
  return options;
}

// A model to evaluate, wherever it runs.
struct Opened {
  std::shared_ptr<const void> model;  // null: in a server. Outlives scorer
  std::unique_ptr<const Scorer> scorer;
  ModelConfig config;
};

absl::StatusOr<Opened> OpenMoLora(const std::string& dir, const std::string& adapter) {
  ASSIGN_OR_RETURN(const at::Device device, DeviceOfFlags());
  ASSIGN_OR_RETURN(MoLoraModel loaded, LoadMoLora(dir, adapter));
  const int32_t experts_per_token = absl::GetFlag(FLAGS_experts_per_token);
  if (experts_per_token != 0) loaded.molora.config.experts_per_token = experts_per_token;
  RETURN_IF_ERROR(CheckMoLoraConfig(loaded.molora.config));
  MoveTo(device, &loaded.base.parameters);
  MoveTo(device, &loaded.molora);
  Opened opened;
  const auto model = std::make_shared<const MoLoraModel>(std::move(loaded));
  opened.model = model;
  opened.config = model->base.config;
  opened.scorer = MakeModelScorer(ScoredModelOf(*model), NumThreads());
  return opened;
}

absl::StatusOr<Opened> OpenInProcess(const std::string& dir) {
  const std::string adapter = absl::GetFlag(FLAGS_adapter);
  if (!adapter.empty() && IsMoLora(adapter)) return OpenMoLora(dir, adapter);
  ASSIGN_OR_RETURN(const MixtralWeights weights,
                   LoadMixtral({.model_dir = dir,
                                .adapter_dir = adapter,
                                .experts_per_token = absl::GetFlag(FLAGS_experts_per_token)}));
  ASSIGN_OR_RETURN(const at::Device device, DeviceOfFlags());
  ReferenceModel loaded = ReferenceFrom(weights);
  MoveTo(device, &loaded.parameters);
  Opened opened;
  const auto model = std::make_shared<const ReferenceModel>(std::move(loaded));
  opened.model = model;
  opened.config = model->config;
  opened.scorer = MakeModelScorer(ScoredModelOf(*model), NumThreads());
  return opened;
}

absl::StatusOr<Opened> OpenServer(const std::string& target, const std::string& dir,
                                  int32_t baseline) {
  if (!absl::GetFlag(FLAGS_adapter).empty() || absl::GetFlag(FLAGS_experts_per_token) != 0) {
    return absl::InvalidArgumentError(
        "--adapter and --experts_per_token are the server's own flags where --target is given");
  }
  const std::string path = dir + "/config.json";
  ASSIGN_OR_RETURN(const std::string json, ReadTextFile(path));
  Opened opened;
  ASSIGN_OR_RETURN(opened.config, ParseModelConfig(json, path));
  ASSIGN_OR_RETURN(opened.scorer, ConnectScorer(target, opened.config, baseline));
  return opened;
}

}  // namespace

absl::Status RunEvaluate() {
  ASSIGN_OR_RETURN(const Source source, SourceOfFlags());
  ASSIGN_OR_RETURN(const EvaluateOptions options, OptionsOfFlags());
  const std::string dir = absl::GetFlag(FLAGS_model);
  if (dir.empty()) return absl::InvalidArgumentError("--model is missing");
  const std::string target = absl::GetFlag(FLAGS_target);
  ASSIGN_OR_RETURN(const Opened opened,
                   target.empty() ? OpenInProcess(dir)
                                  : OpenServer(target, dir, options.baseline_experts_per_token));
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(dir));
  if (opened.config.bos_token_id < 0) {
    return absl::InvalidArgumentError(absl::StrCat(dir, ": has no bos_token_id"));
  }
  const Vocabulary vocabulary = {tokenizer.get(), opened.config.bos_token_id,
                                 opened.config.vocab_size};
  const auto evaluate = source.is_text ? &EvaluateText : &EvaluateChoices;
  ASSIGN_OR_RETURN(const Evaluation evaluation,
                   evaluate(source.path, vocabulary, *opened.scorer, options));
  std::printf("%s\n", ToLine(evaluation).c_str());
  const std::string json = absl::GetFlag(FLAGS_json);
  return json.empty() ? absl::OkStatus() : WriteFileAtomically(json, ToJson(evaluation));
}

}  // namespace adamoe
