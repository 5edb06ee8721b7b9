#include "server/cuda/cuda_model.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/cuda/layout.h"
#include "server/cuda/memory_plan.h"
#include "server/cuda/weight_layout.h"
#include "server/model/dimensions.h"

namespace adamoe::cuda {
namespace {

static_assert(sizeof(AttentionWork) == kWorkBytes);

absl::Status CheckShape(const ModelConfig& config) {
  const char* const problem = UnsupportedBecause({.hidden = config.hidden_size,
                                                  .intermediate = config.intermediate_size,
                                                  .num_heads = config.num_heads,
                                                  .num_kv_heads = config.num_kv_heads,
                                                  .head_dim = config.head_dim,
                                                  .num_experts = config.num_experts,
                                                  .num_null_experts = config.num_null_experts,
                                                  .experts_per_token = config.experts_per_token});
  if (problem == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("no CUDA kernels for this model: ", problem));
}

absl::Status CheckOptions(const CudaModel::Options& options) {
  for (const auto& [name, value] : {std::pair{"block_size", options.block_size},
                                    std::pair{"max_batch_tokens", options.max_batch_tokens},
                                    std::pair{"max_sequences", options.max_sequences}}) {
    if (value < 1 || value > 1 << 20) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is ", value, ", expected 1 to ", 1 << 20));
    }
  }
  return absl::OkStatus();
}

// No position of a context is beyond the model's limit or the whole cache.
int32_t MaxContext(const ModelConfig& config, const CudaModel::Options& options) {
  const int64_t limit = config.max_position_embeddings;
  if (options.kv_cache_tokens <= 0) return static_cast<int32_t>(limit);
  return static_cast<int32_t>(std::min(limit, options.kv_cache_tokens + options.block_size));
}

std::vector<float> InverseFrequencies(const ModelConfig& config) {
  std::vector<float> frequencies(config.head_dim / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    frequencies[i] = 1.0f / std::pow(config.rope_theta, exponent);
  }
  return frequencies;
}

// `values` to `to` on the device, through `pinned`.
absl::Status CopyNow(Gpu& gpu, const std::vector<float>& values, std::byte* pinned, void* to) {
  const auto num_bytes = static_cast<int64_t>(values.size() * sizeof(float));
  std::memcpy(pinned, values.data(), num_bytes);
  RETURN_IF_ERROR(gpu.CopyToDevice(to, pinned, num_bytes));
  return gpu.Synchronize();
}

AttentionWorkBytes AsBytes(const AttentionPlan& plan) {
  const auto bytes = [](const std::vector<AttentionWork>& work) {
    return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(work.data()),
                               work.size() * sizeof(AttentionWork));
  };
  return {bytes(plan.decode), bytes(plan.prefill)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaModel>> CudaModel::Create(std::unique_ptr<Gpu> gpu,
                                                             const ModelConfig& config,
                                                             FillWeights fill,
                                                             const Options& options) {
  RETURN_IF_ERROR(CheckShape(config));
  RETURN_IF_ERROR(CheckOptions(options));
  RETURN_IF_ERROR(gpu->MakeCurrent());
  const StepLimits limits = LimitsOf(MaxContext(config, options), options.block_size,
                                     options.max_batch_tokens, options.max_sequences);
  const int32_t multiprocessors = gpu->num_multiprocessors();
  const StepBuffers sizes(config, limits, multiprocessors, nullptr);
  const std::vector<float> frequencies = InverseFrequencies(config);
  const MemoryNeeds needs{
      .weight_bytes = LayOutWeights(config).num_bytes,
      .step_bytes = sizes.num_bytes + int64_t{config.head_dim} * 4 + Layout::kAlignment,
      .kv_block_bytes = KvBlockBytes(config, options.block_size),
      .block_size = options.block_size,
      .kv_cache_tokens = options.kv_cache_tokens,
      .max_kv_cache_tokens = int64_t{2} * limits.num_sequences * config.max_position_embeddings};
  ASSIGN_OR_RETURN(const int64_t free_bytes, gpu->FreeBytes());
  ASSIGN_OR_RETURN(const int32_t num_blocks, PlanKvBlocks(needs, free_bytes));

  Layout layout;
  const int64_t weights = layout.Add(needs.weight_bytes);
  const int64_t cache = layout.Add(num_blocks * needs.kv_block_bytes);
  const int64_t step = layout.Add(sizes.num_bytes);
  const int64_t rope = layout.Add(static_cast<int64_t>(frequencies.size()) * 4);
  ASSIGN_OR_RETURN(std::byte* const memory, gpu->Allocate(layout.num_bytes()));
  const int64_t pinned_bytes = std::max<int64_t>(sizes.input_bytes, config.head_dim * 4);
  ASSIGN_OR_RETURN(std::byte* const pinned_inputs, gpu->AllocatePinned(pinned_bytes));
  ASSIGN_OR_RETURN(std::byte* const pinned_counts, gpu->AllocatePinned(sizes.count_bytes));
  ASSIGN_OR_RETURN(std::byte* const pinned_logits,
                   gpu->AllocatePinned(int64_t{limits.num_logit_rows} * config.vocab_size * 4));
  const StepBuffers buffers(config, limits, multiprocessors, memory + step);
  ASSIGN_OR_RETURN(std::unique_ptr<DenseLinear> linear,
                   DenseLinear::Create(buffers.linear_workspace));
  RETURN_IF_ERROR(fill(*gpu, memory + weights));
  // What a kernel reads beside what it needs, and multiplies by 0, has to be a number.
  RETURN_IF_ERROR(gpu->Clear(memory + cache, num_blocks * needs.kv_block_bytes));
  RETURN_IF_ERROR(gpu->Clear(memory + step, sizes.num_bytes));
  RETURN_IF_ERROR(CopyNow(*gpu, frequencies, pinned_inputs, memory + rope));
  Parts parts{.gpu = std::move(gpu),
              .linear = std::move(linear),
              .dimensions = DimensionsOf(config, num_blocks, options.block_size),
              .limits = limits,
              .buffers = buffers,
              .memory = {.weights = memory + weights,
                         .inverse_frequency = reinterpret_cast<float*>(memory + rope),
                         .kv_cache = memory + cache,
                         .num_kv_blocks = num_blocks,
                         .block_size = options.block_size},
              .pinned_inputs = pinned_inputs,
              .pinned_counts = pinned_counts,
              .pinned_logits = reinterpret_cast<float*>(pinned_logits)};
  return std::unique_ptr<CudaModel>(new CudaModel(std::move(parts), config, options));
}

CudaModel::CudaModel(Parts parts, const ModelConfig& config, const Options& options)
    : config_(config),
      use_graphs_(options.use_graphs),
      gpu_(std::move(parts.gpu)),
      linear_(std::move(parts.linear)),
      dimensions_(parts.dimensions),
      limits_(parts.limits),
      buffers_(parts.buffers),
      pass_(config, parts.memory, buffers_, gpu_->num_multiprocessors(), linear_.get()),
      pinned_inputs_(parts.pinned_inputs),
      pinned_counts_(parts.pinned_counts),
      pinned_logits_(parts.pinned_logits) {}

// Nothing may be under way in memory that goes; an error has been reported before.
CudaModel::~CudaModel() {
  gpu_->MakeCurrent().IgnoreError();
  gpu_->Synchronize().IgnoreError();
}

int CudaModel::num_graphs() const {
  return static_cast<int>(std::count_if(graphs_.begin(), graphs_.end(), [](const auto& entry) {
    return entry.second.graph != nullptr;
  }));
}

absl::Status CudaModel::Forward(const ForwardBatch& batch, ForwardResult* result) {
  if (lost_) {
    return absl::InternalError(absl::StrCat("the GPU was lost before: ", lost_because_));
  }
  RETURN_IF_ERROR(checked_.Load(batch, dimensions_, config_.sliding_window));
  RETURN_IF_ERROR(CheckLimits(batch));
  absl::Status status = TryForward(batch, result);
  if (!status.ok() && !gpu_->Alive()) {
    lost_ = true;
    lost_because_ = std::string(status.message());
    spdlog::critical("the GPU is lost, this server can serve no more: {}", lost_because_);
  }
  return status;
}

// Beyond model.h's contract: what is written to memory of a fixed size.
absl::Status CudaModel::CheckLimits(const ForwardBatch& batch) const {
  if (checked_.attention().max_blocks > limits_.max_blocks) {
    return absl::InternalError(absl::StrCat("a block table of ", checked_.attention().max_blocks,
                                            " blocks, memory was taken for ", limits_.max_blocks));
  }
  if (batch.logit_rows.size() > batch.token_ids.size()) {
    return absl::InternalError(absl::StrCat(batch.logit_rows.size(), " rows of logits of ",
                                            batch.num_tokens(), " tokens"));
  }
  if (batch.num_tokens() <= limits_.num_tokens && batch.num_sequences() <= limits_.num_sequences) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat(
      "a batch of ", batch.num_tokens(), " tokens of ", batch.num_sequences(),
      " sequences, memory was taken for ", limits_.num_tokens, " of ", limits_.num_sequences));
}

absl::Status CudaModel::TryForward(const ForwardBatch& batch, ForwardResult* result) {
  RETURN_IF_ERROR(gpu_->MakeCurrent());
  std::optional<DecodeGraphKey> key;
  if (use_graphs_) key = DecodeGraphFor(batch, limits_.num_tokens);
  const ForwardPass::Step step = PrepareStep(batch, key);
  WriteInputs(batch, AsBytes(attention_), step.shape, pinned_inputs_);
  RETURN_IF_ERROR(key.has_value() ? RunGraph(*key, step) : EnqueueStep(step));
  return ReadResult(batch, step, result);
}

ForwardPass::Step CudaModel::PrepareStep(const ForwardBatch& batch,
                                         const std::optional<DecodeGraphKey>& key) {
  PlanAttention(batch.token_begin.data(), batch.num_sequences(), config_.num_heads,
                config_.num_kv_heads, config_.head_dim, &attention_);
  if (key.has_value()) {
    const int64_t context = int64_t{key->max_blocks} * dimensions_.kv_block_size;
    return {.shape = {.num_tokens = key->num_tokens,
                      .num_sequences = key->num_tokens,
                      .max_blocks = key->max_blocks,
                      .num_decode_work = key->num_tokens,
                      .num_prefill_work = 0,
                      .num_logit_rows = key->num_tokens},
            .max_context = static_cast<int32_t>(std::min<int64_t>(context, limits_.max_context))};
  }
  return {.shape = {.num_tokens = PaddedRows(batch.num_tokens()),
                    .num_sequences = batch.num_sequences(),
                    .max_blocks = checked_.attention().max_blocks,
                    .num_decode_work = static_cast<int32_t>(attention_.decode.size()),
                    .num_prefill_work = static_cast<int32_t>(attention_.prefill.size()),
                    .num_logit_rows = PaddedRows(static_cast<int32_t>(batch.logit_rows.size()))},
          .max_context = *std::max_element(batch.context_lens.begin(), batch.context_lens.end())};
}

absl::Status CudaModel::EnqueueStep(const ForwardPass::Step& step) {
  const StepShape& shape = step.shape;
  const int64_t count_bytes =
      CountLayout(shape.num_tokens, config_.num_layers, config_.num_experts).num_bytes;
  RETURN_IF_ERROR(
      gpu_->CopyToDevice(buffers_.inputs, pinned_inputs_, InputLayout(shape).num_bytes));
  RETURN_IF_ERROR(gpu_->Clear(buffers_.counts, count_bytes));
  RETURN_IF_ERROR(pass_.EnqueueLayers(step, gpu_->stream()));
  RETURN_IF_ERROR(gpu_->CopyToHost(pinned_counts_, buffers_.counts, count_bytes));
  return EnqueueLogits(shape, 0);
}

absl::Status CudaModel::EnqueueLogits(const StepShape& shape, int32_t begin) {
  const int32_t rows = std::min(shape.num_logit_rows - begin, limits_.num_logit_rows);
  if (rows == 0) return absl::OkStatus();
  RETURN_IF_ERROR(pass_.EnqueueLogits(shape, begin, rows, gpu_->stream()));
  return gpu_->CopyToHost(pinned_logits_, buffers_.logits, int64_t{rows} * config_.vocab_size * 4);
}

absl::Status CudaModel::RunGraph(const DecodeGraphKey& key, const ForwardPass::Step& step) {
  const auto [entry, first] = graphs_.try_emplace(key);
  DecodeGraph& graph = entry->second;
  if (first) return EnqueueStep(step);
  if (graph.graph == nullptr && !graph.failed) RETURN_IF_ERROR(Record(step, graph));
  return graph.graph != nullptr ? graph.graph->Launch() : EnqueueStep(step);
}

// A step that cannot be recorded still runs kernel by kernel, if the device can go on.
absl::Status CudaModel::Record(const ForwardPass::Step& step, DecodeGraph& graph) {
  auto recorded = gpu_->Capture([this, step] { return EnqueueStep(step); });
  if (recorded.ok()) {
    graph.graph = *std::move(recorded);
    return absl::OkStatus();
  }
  if (!gpu_->Alive()) return recorded.status();
  spdlog::warn("steps of {} tokens run without a graph: {}", step.shape.num_tokens,
               std::string(recorded.status().message()));
  graph.failed = true;
  return absl::OkStatus();
}

absl::Status CudaModel::ReadResult(const ForwardBatch& batch, const ForwardPass::Step& step,
                                   ForwardResult* result) {
  const StepShape& shape = step.shape;
  const int64_t vocab = config_.vocab_size;
  const auto wanted = static_cast<int32_t>(batch.logit_rows.size());
  RETURN_IF_ERROR(gpu_->Synchronize());
  ReadCounts(pinned_counts_, CountLayout(shape.num_tokens, config_.num_layers, config_.num_experts),
             batch.num_tokens(), dimensions_, result);
  result->logits.resize(wanted * vocab);
  for (int32_t begin = 0; begin < wanted; begin += limits_.num_logit_rows) {
    const int32_t count = std::min(wanted - begin, limits_.num_logit_rows);
    if (begin > 0) {  // the first came with the step
      RETURN_IF_ERROR(EnqueueLogits(shape, begin));
      RETURN_IF_ERROR(gpu_->Synchronize());
    }
    std::memcpy(result->logits.data() + begin * vocab, pinned_logits_, count * vocab * 4);
  }
  return absl::OkStatus();
}

}  // namespace adamoe::cuda
