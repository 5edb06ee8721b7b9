#include "train/trainer.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <spdlog/spdlog.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/status_macros.h"
#include "train/matrix_time.h"
#include "train/threads.h"

namespace adamoe {
namespace {

std::vector<at::Tensor> Handles(const NamedTensors& named) {
  std::vector<at::Tensor> handles;
  for (const auto& [name, tensor] : named) handles.push_back(tensor);
  return handles;
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

std::vector<Examples> Split(const Examples& examples, int64_t rows) {
  std::vector<Examples> parts;
  for (int64_t begin = 0; begin < examples.tokens.size(0); begin += rows) {
    Examples part{examples.tokens.narrow(0, begin, rows), {}};
    if (examples.counted.defined()) part.counted = examples.counted.narrow(0, begin, rows);
    parts.push_back(std::move(part));
  }
  return parts;
}

double NumCounted(const Examples& examples) {
  if (examples.counted.defined()) return examples.counted.sum().item<double>();
  return static_cast<double>(examples.tokens.size(0) * (examples.tokens.size(1) - 1));
}

}  // namespace

absl::Status CheckTrainerOptions(const TrainerOptions& options) {
  if (options.max_steps <= 0 && !(options.max_seconds > 0)) {
    return absl::InvalidArgumentError("max_steps or max_seconds must be above 0");
  }
  if (options.share < 1 || options.batch < 1 || options.batch % options.share != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("batch ", options.batch, " must be a multiple of share ", options.share));
  }
  if (!(options.learning_rate > 0)) {
    return absl::InvalidArgumentError("learning_rate must be above 0");
  }
  if (!(options.warmup >= 0 && options.warmup < 1)) {
    return absl::InvalidArgumentError("warmup must be in [0, 1)");
  }
  if (!(options.alpha.first > 0 && options.alpha.last > 0)) {
    return absl::InvalidArgumentError("first_alpha and last_alpha must be above 0");
  }
  if (options.checkpoint_steps < 1 || options.log_steps < 1) {
    return absl::InvalidArgumentError("checkpoint_steps and log_steps must be above 0");
  }
  return absl::OkStatus();
}

Trainer::Trainer(const TrainerOptions& options, ExampleSource* examples, const Trainable* model)
    : options_(options),
      examples_(*examples),
      model_(*model),
      parameters_(model->Parameters()),
      optimizer_(Handles(parameters_), {.weight_decay = options.weight_decay}) {
  int64_t num_parameters = 0;
  for (const auto& [name, tensor] : parameters_) num_parameters += tensor.numel();
  spdlog::info("{} trained parameters", num_parameters);
}

absl::Status Trainer::Resume() {
  ASSIGN_OR_RETURN(progress_, LoadTrainingState(options_.out_dir, parameters_, &optimizer_));
  examples_.Skip(progress_.num_rows);
  spdlog::info("resumed at step {}", progress_.num_steps);
  return absl::OkStatus();
}

absl::Status Trainer::Run(const volatile bool* stop) {
  const absl::Time begin = absl::Now();
  const double seconds_before = progress_.seconds;
  last_log_ = Here();
  while (ShareDone() < 1 && !*stop) {
    ASSIGN_OR_RETURN(const Report report, Step());
    progress_.seconds = seconds_before + absl::ToDoubleSeconds(absl::Now() - begin);
    if (progress_.num_steps % options_.log_steps == 0) Log(report);
    if (progress_.num_steps % options_.checkpoint_steps == 0) RETURN_IF_ERROR(Save());
  }
  return Save();
}

absl::StatusOr<Trainer::Report> Trainer::Step() {
  Examples examples = examples_.Draw(options_.batch);
  const at::Device device = parameters_.front().second.device();
  examples.tokens = examples.tokens.to(device);
  if (examples.counted.defined()) examples.counted = examples.counted.to(device);
  std::vector<Share> shares = ComputeShares(examples);
  const double num_counted = NumCounted(examples);
  Report report;
  for (const Share& share : shares) {
    const double weight = share.num_counted / num_counted;
    report.loss += share.loss * weight;
    report.router_loss += share.router_loss * weight;
    report.load += share.load * weight;
  }
  const std::vector<at::Tensor> gradients = SumGradients(&shares);
  report.gradient_norm = ClipGradients(gradients, options_.max_gradient_norm);
  if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm)) {
    return absl::InternalError(absl::StrCat("step ", progress_.num_steps + 1, ": loss ",
                                            report.loss, ", gradient ", report.gradient_norm,
                                            ": not finite; a lower --learning_rate may help"));
  }
  optimizer_.Begin();
  const double rate = LearningRate();
  ForEach(options_.num_threads, gradients.size(),
          [&](size_t i) { optimizer_.Update(i, gradients[i], rate); });
  ++progress_.num_steps;
  progress_.num_rows += options_.batch;
  progress_.num_tokens += examples.tokens.size(0) * (examples.tokens.size(1) - 1);
  return report;
}

std::vector<Trainer::Share> Trainer::ComputeShares(const Examples& examples) const {
  const TrainingPass pass = model_.BeginPass();
  const std::vector<Examples> parts = Split(examples, options_.share);
  const double num_counted = NumCounted(examples);
  std::vector<Share> shares(parts.size());
  ForEach(options_.num_threads, parts.size(), [&](size_t i) {
    shares[i].num_counted = NumCounted(parts[i]);
    ComputeShare(pass, parts[i], shares[i].num_counted / num_counted, &shares[i]);
  });
  return shares;
}

void Trainer::ComputeShare(const TrainingPass& pass, const Examples& examples, double weight,
                           Share* share) const {
  const c10::AutoGradMode with_gradients(true);
  const int64_t length = examples.tokens.size(1) - 1;
  const ReferenceOutput output = pass.forward(examples.tokens.narrow(1, 0, length));
  const at::Tensor loss =
      NextTokenLoss(output.logits, examples.tokens.narrow(1, 1, length), examples.counted);
  const std::vector<RouterOutput> routing = WithoutPadding(output.routing, examples.counted);
  at::Tensor total = loss;
  if (options_.router_loss != RouterLoss::kNone) {
    const at::Tensor balance = MeanBalanceLoss(options_.router_loss, routing, model_.num_experts());
    total = total + Alpha() * balance;
    share->router_loss = balance.item<double>();
  }
  share->gradients =
      torch::autograd::grad({total * weight}, pass.leaves, {}, /*retain_graph=*/false,
                            /*create_graph=*/false, /*allow_unused=*/true);
  share->loss = loss.item<double>();
  share->load = MeanLoad(routing, model_.num_experts());
}

std::vector<at::Tensor> Trainer::SumGradients(std::vector<Share>* shares) const {
  std::vector<at::Tensor> sums(parameters_.size());
  ForEach(options_.num_threads, sums.size(), [&](size_t i) {
    for (Share& share : *shares) {
      at::Tensor& gradient = share.gradients[i];
      if (!gradient.defined()) continue;
      if (sums[i].defined()) {
        AddTo(sums[i], gradient);
      } else {
        sums[i] = gradient.to(at::kFloat).contiguous();
      }
      gradient.reset();
    }
    if (!sums[i].defined()) sums[i] = at::zeros_like(parameters_[i].second);
  });
  return sums;
}

double Trainer::ShareDone() const {
  double share = 0;
  if (options_.max_steps > 0) {
    share = static_cast<double>(progress_.num_steps) / static_cast<double>(options_.max_steps);
  }
  if (options_.max_seconds > 0) share = std::max(share, progress_.seconds / options_.max_seconds);
  return share;
}

double Trainer::LearningRate() const {
  const double done = ShareDone();
  if (done < options_.warmup) {
    // Above 0: the first step must not be lost.
    return options_.learning_rate * std::max(done / options_.warmup, 0.01);
  }
  const double phase = std::min((done - options_.warmup) / (1 - options_.warmup), 1.0);
  const double floor = options_.min_learning_rate_ratio;
  return options_.learning_rate * (floor + (1 - floor) * 0.5 * (1 + std::cos(M_PI * phase)));
}

double Trainer::Alpha() const { return AlphaAt(options_.alpha, std::min(ShareDone(), 1.0)); }

Trainer::Moment Trainer::Here() const {
  return {absl::Now(), progress_.num_tokens, ShareDone(), MatrixProductSeconds()};
}

void Trainer::Log(const Report& report) {
  const Moment here = Here();
  const double seconds = absl::ToDoubleSeconds(here.time - last_log_.time);
  const double share_a_second = std::max(here.share_done - last_log_.share_done, 1e-9) / seconds;
  spdlog::info(
      "step {} loss {:.4f} router_loss {:.4f} load {:.3f} gradient {:.3f} rate {:.2e} alpha "
      "{:.1e} {:.0f} tokens/s, {:.0f} % in matrix products, {:.1f} M tokens, {:.0f} s left",
      progress_.num_steps, report.loss, report.router_loss, report.load, report.gradient_norm,
      LearningRate(), Alpha(),
      static_cast<double>(here.num_tokens - last_log_.num_tokens) / seconds,
      100 * (here.matrix_seconds - last_log_.matrix_seconds) / (seconds * options_.num_threads),
      static_cast<double>(here.num_tokens) / 1e6,
      std::max(1 - here.share_done, 0.0) / share_a_second);
  last_log_ = here;
}

absl::Status Trainer::Save() const {
  RETURN_IF_ERROR(model_.Save(options_.out_dir));
  RETURN_IF_ERROR(SaveTrainingState(options_.out_dir, progress_, parameters_, optimizer_));
  spdlog::info("saved step {} to {}", progress_.num_steps, options_.out_dir);
  return absl::OkStatus();
}

}  // namespace adamoe
