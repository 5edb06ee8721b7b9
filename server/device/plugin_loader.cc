#include "server/device/plugin_loader.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace adamoe {
namespace {

absl::Status Refused(const std::string& path, absl::string_view problem) {
  return absl::FailedPreconditionError(absl::StrCat("device plugin ", path, ": ", problem));
}

}  // namespace

std::string CudaPluginPath(const std::string& flag) {
  if (!flag.empty()) return flag;
  const char* const variable = std::getenv("ADAMOE_CUDA_PLUGIN");
  if (variable != nullptr && *variable != '\0') return variable;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (program.parent_path() / "libadamoe_cuda.so").string();
}

absl::StatusOr<const DevicePlugin*> OpenDevicePlugin(const std::string& path) {
  // A name without a slash would have dlopen look elsewhere.
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(path, error).string();
  if (!std::filesystem::is_regular_file(absolute, error)) {
    return Refused(absolute, "there is no such file");
  }
  void* const library = dlopen(absolute.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Refused(absolute, absl::StrCat("does not load: ", dlerror()));
  auto* const function =
      reinterpret_cast<DevicePluginFunction*>(dlsym(library, kDevicePluginSymbol));
  const DevicePlugin* const plugin = function != nullptr ? function() : nullptr;
  if (plugin == nullptr || plugin->build == nullptr) {
    return Refused(absolute, absl::StrCat("is no device plugin: it has no ", kDevicePluginSymbol));
  }
  if (absl::string_view(plugin->build) != kDevicePluginBuild) {
    return Refused(absolute, absl::StrCat("was built as '", plugin->build, "', this server as '",
                                          kDevicePluginBuild, "': build both together"));
  }
  if (plugin->layout != kDevicePluginLayout) {
    return Refused(absolute,
                   absl::StrCat("was built from other sources (layout ", plugin->layout,
                                ", this server ", kDevicePluginLayout, "): build both together"));
  }
  return plugin;
}

}  // namespace adamoe
