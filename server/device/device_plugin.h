// What a device brings along: a shared library with one C symbol, adamoe_device_plugin, that makes
// a Model whose memory and kernels are the device's. The server opens it at run time, so that it
// needs neither the device nor its libraries to start.
//
// C++ types cross the boundary: Model and its batches, MixtralWeights, absl::Status. So both sides
// must be built from one source by one compiler against one Abseil (shared, as Debian's): the
// server compares kDevicePluginBuild and kDevicePluginLayout before it calls anything else, and
// refuses a plugin that differs. Everything else of the plugin is its own: it exports no other
// symbol. Thread-safe: constants.
#ifndef ADAMOE_SERVER_DEVICE_DEVICE_PLUGIN_H_
#define ADAMOE_SERVER_DEVICE_DEVICE_PLUGIN_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/base/config.h"
#include "absl/status/statusor.h"
#include "server/model/model.h"
#include "server/weights/mixtral_weights.h"

namespace adamoe {

struct DeviceModelOptions {
  int32_t device = 0;              // the driver's number of it
  int64_t kv_cache_tokens = 0;     // rounded up to whole blocks; 0: as many as its memory leaves
  int32_t block_size = 16;         // positions per KV block
  int32_t max_batch_tokens = 512;  // positions per step at most
  int32_t max_sequences = 64;      // sequences per step at most
};

struct DevicePlugin {
  const char* build;  // kDevicePluginBuild of the plugin: first, whatever follows
  uint64_t layout;    // kDevicePluginLayout of the plugin

  // Copies the weights to the device, which may be let go afterwards, and takes its memory for
  // good. INVALID_ARGUMENT for a model or option that the device does not serve;
  // RESOURCE_EXHAUSTED, with what was needed and what there is; INTERNAL naming a call of the
  // device that failed.
  absl::StatusOr<std::unique_ptr<Model>> (*create)(const MixtralWeights& weights,
                                                   const DeviceModelOptions& options);
};

// Raised with every change of a type or meaning that crosses the boundary.
#define ADAMOE_DEVICE_PLUGIN_VERSION "1"

#define ADAMOE_STRING2(x) #x
#define ADAMOE_STRING(x) ADAMOE_STRING2(x)
inline constexpr char kDevicePluginBuild[] =
    "adamoe device plugin " ADAMOE_DEVICE_PLUGIN_VERSION
    ", Abseil " ADAMOE_STRING(ABSL_LTS_RELEASE_VERSION) ", compiler " __VERSION__;

// The sizes of what crosses, folded into one number.
constexpr uint64_t DevicePluginLayout() {
  uint64_t layout = 0;
  for (const size_t size :
       {sizeof(ModelDimensions), sizeof(ForwardBatch), sizeof(ForwardResult), sizeof(ModelConfig),
        sizeof(MixtralWeights), sizeof(MixtralLayerWeights), sizeof(DeviceModelOptions),
        sizeof(DevicePlugin)}) {
    layout = layout * 1000003 + size;
  }
  return layout;
}
inline constexpr uint64_t kDevicePluginLayout = DevicePluginLayout();

// The plugin's symbol and its type.
inline constexpr char kDevicePluginSymbol[] = "adamoe_device_plugin";
using DevicePluginFunction = const DevicePlugin*();

}  // namespace adamoe

#endif  // ADAMOE_SERVER_DEVICE_DEVICE_PLUGIN_H_
