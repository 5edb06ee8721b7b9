// Finds and opens a device plugin (device_plugin.h). Thread-safe.
#ifndef ADAMOE_SERVER_DEVICE_PLUGIN_LOADER_H_
#define ADAMOE_SERVER_DEVICE_PLUGIN_LOADER_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/device/device_plugin.h"

namespace adamoe {

// Where the CUDA plugin is looked for: `flag` unless it is empty, else the environment variable
// ADAMOE_CUDA_PLUGIN, else libadamoe_cuda.so in the folder of this program.
std::string CudaPluginPath(const std::string& flag);

// Opens the library at `path` for the rest of the process. FAILED_PRECONDITION, naming the file,
// when it is not there, does not load (with the loader's reason), exports no plugin, or was built
// otherwise than this program (with both builds).
absl::StatusOr<const DevicePlugin*> OpenDevicePlugin(const std::string& path);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_DEVICE_PLUGIN_LOADER_H_
