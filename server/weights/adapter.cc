#include "server/weights/adapter.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "server/weights/json_reader.h"

namespace adamoe {
namespace {

using nlohmann::json;

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr int64_t kMaxRank = 65536;

enum class Factor { kA, kB };

std::string FactorName(const TensorSpec& spec, Factor factor) {
  const std::string layer(absl::StripSuffix(spec.name, ".weight"));
  return absl::StrCat("base_model.model.", layer,
                      factor == Factor::kA ? ".lora_A.weight" : ".lora_B.weight");
}

// Variants of LoRA that compute something else, and per-layer ranks.
void RefuseVariants(JsonFields& fields) {
  if (fields.String("peft_type", "LORA") != "LORA") fields.Fail("peft_type", "\"LORA\"");
  for (const char* key : {"use_rslora", "use_dora", "use_qalora", "lora_bias"}) {
    if (fields.Bool(key, false)) fields.Fail(key, "false: only plain LoRA is served");
  }
  if (fields.String("bias", "none") != "none") fields.Fail("bias", "\"none\"");
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    if (fields.Has(key) && !fields.Find(key)->empty()) fields.Fail(key, "empty");
  }
  for (const char* key : {"layer_replication", "modules_to_save"}) {
    if (fields.Has(key) && !fields.Find(key)->empty()) fields.Fail(key, "null");
  }
  // Initialisations that change the base weights as well leave an adapter that does not fit the
  // base folder.
  const json* init = fields.Find("init_lora_weights");
  if (init != nullptr && init->is_string() && *init != "gaussian" && *init != "eva" &&
      *init != "orthogonal") {
    fields.Fail("init_lora_weights", "one that leaves the base weights alone");
  }
}

// out += scale * B A, with B A summed on its own first. A: [rank, cols]; B: [rows, rank]; out:
// [rows, cols].
void AddProduct(const std::vector<float>& b, const std::vector<float>& a, int64_t rank,
                int64_t cols, float scale, int64_t rows, float* out) {
  std::vector<float> delta(cols);
  for (int64_t row = 0; row < rows; ++row) {
    std::fill(delta.begin(), delta.end(), 0.0f);
    for (int64_t r = 0; r < rank; ++r) {
      const float factor = b[row * rank + r];
      const float* a_row = a.data() + r * cols;
      for (int64_t col = 0; col < cols; ++col) delta[col] += factor * a_row[col];
    }
    float* out_row = out + row * cols;
    for (int64_t col = 0; col < cols; ++col) out_row[col] += scale * delta[col];
  }
}

std::vector<float> AsFloat32(const TensorView& view) {
  std::vector<float> values(view.num_elements());
  CopyToFloat32(view, 0, view.num_elements(), values.data());
  return values;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Adapter>> Adapter::Open(const std::string& dir) {
  const std::string config_path = (std::filesystem::path(dir) / "adapter_config.json").string();
  ASSIGN_OR_RETURN(const std::string text, ReadTextFile(config_path, kMaxConfigBytes));
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, config_path));
  JsonFields fields(object, config_path);
  RefuseVariants(fields);
  std::unique_ptr<Adapter> adapter(new Adapter);
  adapter->rank_ = fields.Int("r", 1, kMaxRank);
  adapter->scale_ = fields.PositiveNumber("lora_alpha", 1e6) / static_cast<double>(adapter->rank_);
  RETURN_IF_ERROR(fields.status());
  const std::string path = (std::filesystem::path(dir) / "adapter_model.safetensors").string();
  ASSIGN_OR_RETURN(adapter->files_, CheckpointFiles::OpenFile(path));
  return adapter;
}

bool Adapter::Changes(const TensorSpec& spec) const {
  return TakesAdapter(spec.role) && (files_->Contains(FactorName(spec, Factor::kA)) ||
                                     files_->Contains(FactorName(spec, Factor::kB)));
}

absl::StatusOr<int32_t> Adapter::NumNullExperts(const ModelConfig& config, int32_t layer) const {
  const TensorSpec spec = SpecOf(TensorRole::kGate2, config, layer);
  if (!Changes(spec)) return 0;
  const std::string name = FactorName(spec, Factor::kB);
  ASSIGN_OR_RETURN(const TensorView b, files_->Find(name));
  if (b.shape.size() != 2 || b.shape[0] < 1 || b.shape[0] > kMaxExperts) {
    return absl::InvalidArgumentError(absl::StrCat(
        files_->source(), ": tensor \"", name,
        "\": expected 2 dimensions, the first (null experts) from 1 to ", kMaxExperts));
  }
  return static_cast<int32_t>(b.shape[0]);
}

absl::Status Adapter::CheckTargets(const std::vector<TensorSpec>& specs) const {
  std::set<std::string> known;
  for (const TensorSpec& spec : specs) {
    if (!TakesAdapter(spec.role)) continue;
    known.insert(FactorName(spec, Factor::kA));
    known.insert(FactorName(spec, Factor::kB));
  }
  for (const std::string& name : files_->Names()) {
    if (known.count(name) > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        files_->source(), ": tensor \"", absl::CEscape(name),
        "\" is not known, expected lora_A and lora_B of gate, gate2, experts' w1, w2, w3 or "
        "self_attn projections in layers and experts that the model has"));
  }
  return absl::OkStatus();
}

absl::Status Adapter::AddTo(const TensorSpec& spec, float* weights) const {
  const int64_t rows = spec.shape[0];
  const int64_t cols = spec.shape[1];
  ASSIGN_OR_RETURN(const TensorView a, files_->Find(FactorName(spec, Factor::kA), {rank_, cols}));
  ASSIGN_OR_RETURN(const TensorView b, files_->Find(FactorName(spec, Factor::kB), {rows, rank_}));
  AddProduct(AsFloat32(b), AsFloat32(a), rank_, cols, static_cast<float>(scale_), rows, weights);
  return absl::OkStatus();
}

}  // namespace adamoe
