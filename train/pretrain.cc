#include "train/pretrain.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <spdlog/spdlog.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/tokenizer.h"
#include "train/adamw.h"
#include "train/losses.h"
#include "train/mixtral_parameters.h"
#include "train/model_folder.h"
#include "train/text_files.h"
#include "train/threads.h"
#include "train/training_state.h"
#include "train/window_sampler.h"

namespace adamoe {
namespace {

// Where TokenizerJson puts them.
constexpr int32_t kBosId = 1;
constexpr int32_t kEosId = 2;

struct TextFile {
  std::string path;
  double weight = 1;
};

absl::StatusOr<TextFile> ParseTextFile(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return TextFile{text, 1};
  TextFile file{text.substr(0, colon), 0};
  if (!absl::SimpleAtod(text.substr(colon + 1), &file.weight) || !(file.weight > 0)) {
    return absl::InvalidArgumentError(absl::StrCat(text, ": expected PATH or PATH:WEIGHT"));
  }
  return file;
}

absl::StatusOr<TokenSource> ReadSource(const TextFile& file, int64_t window,
                                       const Tokenizer& tokenizer) {
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file.path));
  TokenSource source;
  source.weight = file.weight;
  for (absl::string_view document : SplitDocuments(text)) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                     tokenizer.Encode(document, {.add_special_tokens = false}));
    source.tokens.push_back(kBosId);
    source.tokens.insert(source.tokens.end(), ids.begin(), ids.end());
    source.tokens.push_back(kEosId);
  }
  if (static_cast<int64_t>(source.tokens.size()) <= window + 1) {
    return absl::InvalidArgumentError(absl::StrCat(file.path, ": shorter than one window"));
  }
  spdlog::info("{}: {} tokens of {} bytes, weight {}", file.path, source.tokens.size(), text.size(),
               file.weight);
  return source;
}

absl::StatusOr<WindowSampler> MakeSampler(const PretrainOptions& options,
                                          const Tokenizer& tokenizer) {
  std::vector<TokenSource> sources;
  for (const std::string& text : options.text) {
    ASSIGN_OR_RETURN(const TextFile file, ParseTextFile(text));
    ASSIGN_OR_RETURN(TokenSource source, ReadSource(file, options.window, tokenizer));
    sources.push_back(std::move(source));
  }
  return WindowSampler(std::move(sources), options.window, options.seed);
}

// sum += addend, which may be of another type: piece by piece, so that the converted piece stays in
// the cache.
void AddTo(const at::Tensor& sum, const at::Tensor& addend) {
  constexpr int64_t kPiece = 1 << 16;
  const at::Tensor flat_sum = sum.view(-1);
  const at::Tensor flat = addend.reshape(-1);
  for (int64_t begin = 0; begin < flat.numel(); begin += kPiece) {
    const int64_t size = std::min(kPiece, flat.numel() - begin);
    flat_sum.narrow(0, begin, size).add_(flat.narrow(0, begin, size).to(at::kFloat));
  }
}

// What one step reports.
struct StepReport {
  double loss = 0;
  double balance_loss = 0;
  double load = 0;
  double gradient_norm = 0;
};

class Trainer {
 public:
  Trainer(const PretrainOptions& options, WindowSampler sampler)
      : options_(options),
        sampler_(std::move(sampler)),
        parameters_(RandomParameters(options.config, options.seed)),
        optimizer_(Handles(), {.weight_decay = options.weight_decay}) {
    const bool has_bfloat16 = __builtin_cpu_supports("avx512bf16");
    dtype_ = options.use_bfloat16 && has_bfloat16 ? at::kBFloat16 : at::kFloat;
    spdlog::info("{} parameters, {} tokens of text, matrices in {}", NumParameters(),
                 sampler_.num_tokens(), dtype_ == at::kBFloat16 ? "bfloat16" : "float32");
  }

  absl::Status Resume() {
    ASSIGN_OR_RETURN(progress_, LoadTrainingState(options_.out_dir, &parameters_, &optimizer_));
    sampler_.Skip(progress_.num_windows);
    spdlog::info("resumed at step {}", progress_.num_steps);
    return absl::OkStatus();
  }

  absl::Status Run(const volatile bool* stop) {
    const absl::Time begin = absl::Now();
    const double seconds_before = progress_.seconds;
    last_log_ = begin;
    while (ShareDone() < 1 && !*stop) {
      const StepReport report = Step();
      progress_.seconds = seconds_before + absl::ToDoubleSeconds(absl::Now() - begin);
      if (progress_.num_steps % options_.log_steps == 0) Log(report);
      if (progress_.num_steps % options_.checkpoint_steps == 0) RETURN_IF_ERROR(Save());
    }
    return Save();
  }

 private:
  // The gradient of one thread's windows.
  struct Share {
    double loss = 0;
    double balance_loss = 0;
    double load = 0;
    std::vector<at::Tensor> gradients;
  };

  std::vector<at::Tensor> Handles() {
    std::vector<at::Tensor> handles;
    for (const at::Tensor* tensor : AllTensors(&parameters_)) handles.push_back(*tensor);
    return handles;
  }

  int64_t NumParameters() {
    int64_t sum = 0;
    for (const at::Tensor& tensor : Handles()) sum += tensor.numel();
    return sum;
  }

  double ShareDone() const {
    double share = 0;
    if (options_.max_steps > 0) {
      share = static_cast<double>(progress_.num_steps) / static_cast<double>(options_.max_steps);
    }
    if (options_.max_seconds > 0) {
      share = std::max(share, progress_.seconds / options_.max_seconds);
    }
    return share;
  }

  double LearningRate() const {
    const double done = ShareDone();
    if (done < options_.warmup) {
      // By steps too: the first ones must not be taken at rate 0.
      return options_.learning_rate * std::max(done / options_.warmup, 0.01);
    }
    const double phase = std::min((done - options_.warmup) / (1 - options_.warmup), 1.0);
    const double floor = options_.min_learning_rate_ratio;
    return options_.learning_rate * (floor + (1 - floor) * 0.5 * (1 + std::cos(M_PI * phase)));
  }

  double Alpha() const {
    const double done = std::min(ShareDone(), 1.0);
    return options_.first_alpha * std::pow(options_.last_alpha / options_.first_alpha, done);
  }

  void ComputeShare(MixtralParameters* copy, const at::Tensor& windows, Share* share) const {
    const c10::AutoGradMode with_gradients(true);
    const int64_t length = windows.size(1) - 1;
    const ReferenceOutput output =
        ReferenceForward(options_.config, *copy, windows.narrow(1, 0, length));
    const at::Tensor loss = NextTokenLoss(output.logits, windows.narrow(1, 1, length));
    const at::Tensor balance = MeanNullBalanceLoss(output.routing, options_.config.num_experts);
    std::vector<at::Tensor> leaves;
    for (const at::Tensor* tensor : AllTensors(copy)) leaves.push_back(*tensor);
    share->gradients = torch::autograd::grad({loss + Alpha() * balance}, leaves, {},
                                             /*retain_graph=*/false, /*create_graph=*/false,
                                             /*allow_unused=*/true);
    share->loss = loss.item<double>();
    share->balance_loss = balance.item<double>();
    share->load = MeanLoad(output.routing, options_.config.num_experts);
  }

  std::vector<Share> ComputeShares(const at::Tensor& windows) {
    MixtralParameters copy = ComputeCopy(parameters_, dtype_);
    const std::vector<at::Tensor> parts = windows.split(options_.share);
    std::vector<Share> shares(parts.size());
    ForEach(options_.num_threads, parts.size(),
            [&](size_t i) { ComputeShare(&copy, parts[i], &shares[i]); });
    return shares;
  }

  // The mean over shares, float32; zeros for a parameter no share used.
  std::vector<at::Tensor> MeanGradients(const std::vector<Share>& shares) {
    const std::vector<at::Tensor> parameters = Handles();
    std::vector<at::Tensor> means(parameters.size());
    ForEach(options_.num_threads, means.size(), [&](size_t i) {
      means[i] = at::zeros_like(parameters[i]);
      for (const Share& share : shares) {
        if (share.gradients[i].defined()) AddTo(means[i], share.gradients[i]);
      }
      means[i].div_(static_cast<double>(shares.size()));
    });
    return means;
  }

  StepReport Step() {
    const std::vector<Share> shares = ComputeShares(sampler_.Draw(options_.batch));
    StepReport report;
    for (const Share& share : shares) {
      report.loss += share.loss / static_cast<double>(shares.size());
      report.balance_loss += share.balance_loss / static_cast<double>(shares.size());
      report.load += share.load / static_cast<double>(shares.size());
    }
    const std::vector<at::Tensor> gradients = MeanGradients(shares);
    report.gradient_norm = ClipGradients(gradients, options_.max_gradient_norm);
    optimizer_.Begin();
    const double rate = LearningRate();
    ForEach(options_.num_threads, gradients.size(),
            [&](size_t i) { optimizer_.Update(i, gradients[i], rate); });
    ++progress_.num_steps;
    progress_.num_windows = sampler_.num_drawn();
    progress_.num_tokens += options_.batch * options_.window;
    return report;
  }

  void Log(const StepReport& report) {
    const absl::Time now = absl::Now();
    const double seconds = absl::ToDoubleSeconds(now - last_log_);
    const int64_t tokens = options_.log_steps * options_.batch * options_.window;
    const double done = std::max(ShareDone(), 1e-9);
    spdlog::info(
        "step {} loss {:.4f} balance {:.4f} load {:.3f} gradient {:.3f} rate {:.2e} alpha {:.1e} "
        "{:.0f} tokens/s, {:.1f} M tokens, {:.0f} s left",
        progress_.num_steps, report.loss, report.balance_loss, report.load, report.gradient_norm,
        LearningRate(), Alpha(), static_cast<double>(tokens) / seconds,
        static_cast<double>(progress_.num_tokens) / 1e6, progress_.seconds * (1 - done) / done);
    last_log_ = now;
  }

  absl::Status Save() {
    RETURN_IF_ERROR(
        WriteModelFolder(options_.out_dir, options_.config, parameters_, at::kBFloat16));
    RETURN_IF_ERROR(SaveTrainingState(options_.out_dir, progress_, parameters_, optimizer_));
    spdlog::info("saved step {} to {}", progress_.num_steps, options_.out_dir);
    return absl::OkStatus();
  }

  const PretrainOptions& options_;
  WindowSampler sampler_;
  MixtralParameters parameters_;
  AdamW optimizer_;
  at::ScalarType dtype_ = at::kFloat;
  TrainingProgress progress_;
  absl::Time last_log_;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& dir) {
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(dir));
  if (tokenizer->TokenId("<s>") != kBosId || tokenizer->TokenId("</s>") != kEosId) {
    return absl::InvalidArgumentError(absl::StrCat(
        dir, "/tokenizer.json: expected <s> and </s> to be ", kBosId, " and ", kEosId));
  }
  return tokenizer;
}

absl::Status CheckOptions(const PretrainOptions& options) {
  if (options.max_steps <= 0 && options.max_seconds <= 0) {
    return absl::InvalidArgumentError("max_steps or max_seconds must be above 0");
  }
  if (options.share < 1 || options.batch < 1 || options.batch % options.share != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("batch ", options.batch, " must be a multiple of share ", options.share));
  }
  const ModelConfig& config = options.config;
  if (config.num_null_experts < 0 ||
      config.experts_per_token > config.num_experts + config.num_null_experts) {
    return absl::InvalidArgumentError(absl::StrCat(
        "experts_per_token ", config.experts_per_token, ": expected at most num_experts ",
        config.num_experts, " + num_null_experts ", config.num_null_experts));
  }
  if (options.window < 1) return absl::InvalidArgumentError("window must be above 0");
  if (options.text.empty()) return absl::InvalidArgumentError("text names no file");
  return absl::OkStatus();
}

}  // namespace

absl::Status Pretrain(const PretrainOptions& options, const volatile bool* stop) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(options.tokenizer_dir));
  PretrainOptions complete = options;
  complete.config.vocab_size = tokenizer->vocab_size();
  complete.config.bos_token_id = kBosId;
  complete.config.eos_token_ids = {kEosId};
  // The checks are those of a reader of what will be written.
  RETURN_IF_ERROR(
      ParseModelConfig(ConfigJson(complete.config, at::kBFloat16), "the model's shape").status());
  ASSIGN_OR_RETURN(WindowSampler sampler, MakeSampler(complete, *tokenizer));
  std::error_code error;
  std::filesystem::create_directories(options.out_dir, error);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    ASSIGN_OR_RETURN(const std::string content,
                     ReadTextFile(absl::StrCat(options.tokenizer_dir, "/", name)));
    RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(options.out_dir, "/", name), content));
  }
  at::set_num_threads(1);
  Trainer trainer(complete, std::move(sampler));
  if (options.resume) RETURN_IF_ERROR(trainer.Resume());
  return trainer.Run(stop);
}

}  // namespace adamoe
