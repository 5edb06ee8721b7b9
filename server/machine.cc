#include "server/machine.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

namespace adamoe {
namespace {

// The number at the start of a file; -1 when there is none ("max").
int64_t ReadNumber(const char* path) {
  int64_t number = -1;
  std::ifstream(path) >> number;
  return number > 0 ? number : -1;
}

// Free memory and what the page cache would give back, of the whole machine.
int64_t MachineMemoryBytes() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::string rest;
  int64_t kilobytes = 0;
  while (file >> key >> kilobytes && std::getline(file, rest)) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

// What the control group leaves, of version 2 or 1; as much as can be when it sets no limit. Its
// usage holds the page cache too, so this is on the safe side.
int64_t ControlGroupBytes() {
  const struct {
    const char* limit;
    const char* usage;
  } versions[] = {{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
                  {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
                   "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
  for (const auto& version : versions) {
    const int64_t limit = ReadNumber(version.limit);
    if (limit > 0)
      return std::max<int64_t>(0, limit - std::max<int64_t>(0, ReadNumber(version.usage)));
  }
  return std::numeric_limits<int64_t>::max();
}

}  // namespace

int NumCores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int64_t AvailableMemoryBytes() { return std::min(MachineMemoryBytes(), ControlGroupBytes()); }

void RaiseOpenFilesLimit() {
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

int64_t DefaultKvCacheTokens(const ModelConfig& config, int64_t element_bytes,
                             int64_t available_bytes) {
  const int64_t bytes_per_token =
      int64_t{2} * config.num_layers * config.num_kv_heads * config.head_dim * element_bytes;
  const int64_t context = config.max_position_embeddings;
  const int64_t fits = available_bytes / bytes_per_token;
  const int64_t one_context = std::min(context, fits / 2);
  const int64_t wanted = std::min(8 * context, fits / 4);
  constexpr int64_t kMaxTokens = 1 << 30;
  return std::clamp<int64_t>(std::max(one_context, wanted), 1, kMaxTokens);
}

}  // namespace adamoe
