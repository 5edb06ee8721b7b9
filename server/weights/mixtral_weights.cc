#include "server/weights/mixtral_weights.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/weights/adapter.h"
#include "server/weights/checkpoint_files.h"
#include "server/weights/json_reader.h"
#include "server/weights/tensor_table.h"
#include "spdlog/spdlog.h"

namespace adamoe {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr size_t kMaxNamesInWarning = 8;

// What the views of a MixtralWeights point into.
struct Memory {
  std::unique_ptr<CheckpointFiles> files;
  std::vector<std::unique_ptr<float[]>> merged;
};

// Where a tensor of the table goes.
TensorView& SlotOf(const TensorSpec& spec, MixtralWeights& weights) {
  if (spec.role == TensorRole::kEmbedTokens) return weights.embed_tokens;
  if (spec.role == TensorRole::kNorm) return weights.norm;
  if (spec.role == TensorRole::kLmHead) return weights.lm_head;
  MixtralLayerWeights& layer = weights.layers[spec.layer];
  switch (spec.role) {
    case TensorRole::kInputNorm:
      return layer.input_norm;
    case TensorRole::kQProj:
      return layer.q_proj;
    case TensorRole::kKProj:
      return layer.k_proj;
    case TensorRole::kVProj:
      return layer.v_proj;
    case TensorRole::kOProj:
      return layer.o_proj;
    case TensorRole::kPostAttnNorm:
      return layer.post_attn_norm;
    case TensorRole::kGate:
      return layer.gate;
    case TensorRole::kGate2:
      return layer.gate2;
    case TensorRole::kW1:
      return layer.experts[spec.expert].w1;
    case TensorRole::kW2:
      return layer.experts[spec.expert].w2;
    default:
      return layer.experts[spec.expert].w3;
  }
}

class Loader {
 public:
  explicit Loader(const LoadOptions& options) : options_(options) {}

  absl::StatusOr<MixtralWeights> Load() {
    RETURN_IF_ERROR(ReadConfig());
    ASSIGN_OR_RETURN(memory_->files, CheckpointFiles::OpenFolder(options_.model_dir));
    if (!options_.adapter_dir.empty()) {
      ASSIGN_OR_RETURN(adapter_, Adapter::Open(options_.adapter_dir));
    }
    RETURN_IF_ERROR(InferNullExperts());
    RETURN_IF_ERROR(ChooseExpertsPerToken());
    RETURN_IF_ERROR(CheckTensors());
    files().ReadAhead();
    const std::vector<TensorSpec> specs = MixtralTensors(config());
    if (adapter_ != nullptr) RETURN_IF_ERROR(adapter_->CheckTargets(specs));
    weights_.layers.resize(config().num_layers);
    for (MixtralLayerWeights& layer : weights_.layers) layer.experts.resize(config().num_experts);
    for (const TensorSpec& spec : specs) RETURN_IF_ERROR(LoadTensor(spec));
    if (config().tie_word_embeddings) weights_.lm_head = weights_.embed_tokens;
    WarnOfUnknown(specs);
    weights_.owner = std::move(memory_);
    return std::move(weights_);
  }

 private:
  ModelConfig& config() { return weights_.config; }
  const CheckpointFiles& files() const { return *memory_->files; }
  std::string PathOf(const std::string& name) const {
    return (std::filesystem::path(options_.model_dir) / name).string();
  }

  absl::Status ReadConfig() {
    const std::string path = PathOf("config.json");
    ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxConfigBytes));
    ASSIGN_OR_RETURN(config(), ParseModelConfig(text, path));
    const std::string generation_path = PathOf("generation_config.json");
    const absl::StatusOr<std::string> generation = ReadTextFile(generation_path, kMaxConfigBytes);
    if (absl::IsNotFound(generation.status())) return absl::OkStatus();
    RETURN_IF_ERROR(generation.status());
    return MergeGenerationConfig(*generation, generation_path, config());
  }

  // Rows of gate2 in one layer, 0 when it has none.
  absl::StatusOr<int32_t> NumNullExperts(int32_t layer) {
    const std::string name = SpecOf(TensorRole::kGate2, config(), layer).name;
    int32_t from_adapter = 0;
    if (adapter_ != nullptr) {
      ASSIGN_OR_RETURN(from_adapter, adapter_->NumNullExperts(config(), layer));
    }
    if (!files().Contains(name)) return from_adapter;
    ASSIGN_OR_RETURN(const TensorView gate2, files().Find(name));
    if (gate2.shape.size() != 2 || gate2.shape[0] < 1 || gate2.shape[0] > kMaxExperts) {
      return absl::InvalidArgumentError(absl::StrCat(
          files().PathOf(name), ": tensor \"", name, "\" has shape [",
          absl::StrJoin(gate2.shape, ", "), "], expected [null experts, hidden], with 1 to ",
          kMaxExperts, " null experts"));
    }
    if (from_adapter != 0 && from_adapter != gate2.shape[0]) {
      return absl::InvalidArgumentError(
          absl::StrCat(options_.adapter_dir, ": lora_B of \"", name, "\" has ", from_adapter,
                       " rows, expected ", gate2.shape[0], " as in ", files().PathOf(name)));
    }
    return static_cast<int32_t>(gate2.shape[0]);
  }

  absl::Status InferNullExperts() {
    ASSIGN_OR_RETURN(const int32_t first, NumNullExperts(0));
    for (int32_t layer = 1; layer < config().num_layers; ++layer) {
      ASSIGN_OR_RETURN(const int32_t rows, NumNullExperts(layer));
      if (rows == first) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(files().source(), ": tensor \"",
                       SpecOf(TensorRole::kGate2, config(), layer).name, "\" gives layer ", layer,
                       " ", rows, " null experts, expected ", first, " as in layer 0"));
    }
    if (config().num_experts + first > kMaxExperts) {
      return absl::InvalidArgumentError(
          absl::StrCat(options_.model_dir, ": ", config().num_experts, " experts and ", first,
                       " null experts, expected at most ", kMaxExperts, " together"));
    }
    config().num_null_experts = first;
    return absl::OkStatus();
  }

  absl::Status ChooseExpertsPerToken() {
    const bool overridden = options_.experts_per_token != 0;
    const int32_t k = overridden ? options_.experts_per_token : config().experts_per_token;
    const int32_t limit =
        std::min(config().num_experts + config().num_null_experts, kMaxExpertsPerToken);
    if (k < 1 || k > limit) {
      return absl::InvalidArgumentError(absl::StrCat(
          overridden ? "experts_per_token" : PathOf("config.json") + ": num_experts_per_tok",
          " is ", k, ", expected 1 to ", limit, ": the model in ", options_.model_dir, " has ",
          config().num_experts, " experts and ", config().num_null_experts, " null experts"));
    }
    config().experts_per_token = k;
    return absl::OkStatus();
  }

  // Whether the files hold every tensor, before anything is made in the size that config.json
  // claims.
  absl::Status CheckTensors() {
    return ForEachTensor(config(), [this](const TensorSpec& spec) {
      if (IsTiled(spec)) return absl::OkStatus();
      return files().Find(spec.name, spec.shape).status();
    });
  }

  // True for a gate2 that only the adapter has.
  bool IsTiled(const TensorSpec& spec) const {
    return spec.role == TensorRole::kGate2 && !files().Contains(spec.name);
  }

  absl::Status LoadTensor(const TensorSpec& spec) {
    TensorView& slot = SlotOf(spec, weights_);
    if (IsTiled(spec)) return TileGate(spec, slot);
    ASSIGN_OR_RETURN(slot, files().Find(spec.name, spec.shape));
    if (adapter_ == nullptr || !adapter_->Changes(spec)) return absl::OkStatus();
    auto merged = std::make_unique_for_overwrite<float[]>(slot.num_elements());
    CopyToFloat32(slot, 0, slot.num_elements(), merged.get());
    return FinishMerge(spec, std::move(merged), slot);
  }

  // The base of an adapter's gate2 that the folder does not hold: the base model's gate rows, over
  // and over.
  absl::Status TileGate(const TensorSpec& spec, TensorView& slot) {
    const TensorSpec gate_spec = SpecOf(TensorRole::kGate, config(), spec.layer);
    ASSIGN_OR_RETURN(const TensorView gate, files().Find(gate_spec.name, gate_spec.shape));
    const int64_t hidden = spec.shape[1];
    auto merged = std::make_unique_for_overwrite<float[]>(spec.shape[0] * hidden);
    for (int64_t row = 0; row < spec.shape[0]; ++row) {
      CopyToFloat32(gate, row % gate.shape[0] * hidden, hidden, merged.get() + row * hidden);
    }
    return FinishMerge(spec, std::move(merged), slot);
  }

  // Adds the adapter's delta to `base` and points `slot` at the result.
  absl::Status FinishMerge(const TensorSpec& spec, std::unique_ptr<float[]> base,
                           TensorView& slot) {
    RETURN_IF_ERROR(adapter_->AddTo(spec, base.get()));
    slot = {base.get(), DType::kFloat32, spec.shape};
    memory_->merged.push_back(std::move(base));
    return absl::OkStatus();
  }

  void WarnOfUnknown(const std::vector<TensorSpec>& specs) const {
    std::set<std::string> known;
    for (const TensorSpec& spec : specs) known.insert(spec.name);
    size_t count = 0;
    std::vector<std::string> shown;
    for (const std::string& name : files().Names()) {
      if (known.count(name) > 0 || IsDerivedTensor(name)) continue;
      if (++count <= kMaxNamesInWarning) shown.push_back(absl::CEscape(name));
    }
    if (count == 0) return;
    spdlog::warn("{}: {} tensors that the model does not use: {}{}", files().source(), count,
                 absl::StrJoin(shown, ", "), count > shown.size() ? ", ..." : "");
  }

  const LoadOptions& options_;
  MixtralWeights weights_;
  std::shared_ptr<Memory> memory_ = std::make_shared<Memory>();
  std::unique_ptr<Adapter> adapter_;
};

}  // namespace

absl::StatusOr<MixtralWeights> LoadMixtral(const LoadOptions& options) {
  return Loader(options).Load();
}

}  // namespace adamoe
