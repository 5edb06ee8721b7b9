// A device plugin that runs the model on the CPU: what the server does with a plugin, on machines
// without a GPU. FAKE_PLUGIN_BUILD, FAKE_PLUGIN_LAYOUT: what it claims to have been built as.
#include <cstdlib>
#include <memory>
#include <utility>

#include "server/base/thread_pool.h"
#include "server/device/device_plugin.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/model/mixtral_model.h"

namespace adamoe {
namespace {

// Its own pool, which outlives the model.
class ModelOnThePluginsDevice : public Model {
 public:
  ModelOnThePluginsDevice(std::unique_ptr<ThreadPool> pool, std::unique_ptr<Model> model)
      : pool_(std::move(pool)), model_(std::move(model)) {}

  const ModelDimensions& dimensions() const override { return model_->dimensions(); }
  absl::Status Forward(const ForwardBatch& batch, ForwardResult* result) override {
    if (lost_) return absl::InternalError("the fake device is lost");
    // A prompt of 7 ids that all are 7 breaks the device.
    lost_ = batch.token_ids == std::vector<int32_t>(7, 7);
    if (lost_) return absl::InternalError("the fake device broke");
    return model_->Forward(batch, result);
  }
  bool lost() const override { return lost_; }

 private:
  bool lost_ = false;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Model> model_;
};

absl::StatusOr<std::unique_ptr<Model>> CreateModel(const MixtralWeights& weights,
                                                   const DeviceModelOptions& options) {
  if (options.device != 1) return absl::InternalError("the fake device is number 1");
  auto pool = std::make_unique<ThreadPool>(1);
  auto model = MixtralModel::Create(
      weights, CreateCpuOps({.pool = pool.get(), .precision = Precision::kFloat32}),
      {.kv_cache_tokens = options.kv_cache_tokens > 0 ? options.kv_cache_tokens : 4096,
       .block_size = options.block_size});
  if (!model.ok()) return model.status();
  return std::make_unique<ModelOnThePluginsDevice>(std::move(pool), *std::move(model));
}

}  // namespace
}  // namespace adamoe

extern "C" const adamoe::DevicePlugin* adamoe_device_plugin() {
  static adamoe::DevicePlugin plugin{adamoe::kDevicePluginBuild, adamoe::kDevicePluginLayout,
                                     adamoe::CreateModel};
  if (const char* build = std::getenv("FAKE_PLUGIN_BUILD")) plugin.build = build;
  if (const char* layout = std::getenv("FAKE_PLUGIN_LAYOUT")) plugin.layout = std::atoi(layout);
  return &plugin;
}
