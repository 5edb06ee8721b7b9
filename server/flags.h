// The command line of adamoe_server: its flags, their checks and --help. Not thread-safe; main's
// own.
#ifndef ADAMOE_SERVER_FLAGS_H_
#define ADAMOE_SERVER_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/dtype.h"
#include "server/kernels/ops.h"
#include "server/log/request_line.h"
#include "server/security/tls_files.h"

namespace adamoe {

// "HOST:PORT"; an IPv6 host stands in brackets.
struct Endpoint {
  std::string host;
  int port = 0;
};

// INVALID_ARGUMENT says what is wrong with `text`.
absl::StatusOr<Endpoint> ParseEndpoint(absl::string_view text);

enum class DeviceChoice { kAuto, kCpu, kCuda };

// The flags, checked: the listeners are such as may be served. 0 where the server is to choose.
struct ServerFlags {
  std::string model_dir;
  std::string adapter_dir;
  int32_t experts_per_token = 0;
  std::string listen;
  std::string http_listen;     // empty: no HTTP service
  std::string metrics_listen;  // empty: no metrics endpoint
  DeviceChoice device = DeviceChoice::kAuto;
  std::string device_plugin;  // empty: the usual places
  std::optional<Precision> activation_dtype;
  std::optional<DType> weight_dtype;  // kInt8 or kInt4; none: as the files have them
  int64_t kv_cache_tokens = 0;
  int32_t block_size = 0;
  int32_t max_batch_tokens = 0;
  int32_t max_running_requests = 0;
  int32_t max_queued_requests = 0;
  int32_t prefill_chunk_tokens = 0;
  bool prefix_caching = true;
  absl::Duration grammar_compile_timeout;
  int64_t grammar_cache_bytes = 0;
  int32_t threads = 0;
  absl::Duration drain_delay;
  absl::Duration drain_timeout;
  uint32_t baseline_experts_per_token = 0;
  bool per_expert_metrics = false;
  std::string health_listen;           // empty: no health endpoint of its own
  std::optional<TlsPaths> tls;         // none: plaintext
  std::string auth_tokens_file;        // empty: no tokens are wanted
  int32_t max_requests_per_token = 0;  // 0: no limit
  std::string log_level;
  LogFormat log_format = LogFormat::kText;
  bool log_requests = true;
  bool log_prompts = false;
};

// Parses the command line. Ends the process after --help (status 0) and on a flag that does not
// exist or does not parse (status 1). INVALID_ARGUMENT names the flag, its value and what is
// allowed.
absl::StatusOr<ServerFlags> ReadFlags(int argc, char** argv);

// --log_format, for errors of ReadFlags; kText when it is not one.
LogFormat RequestedLogFormat();

}  // namespace adamoe

#endif  // ADAMOE_SERVER_FLAGS_H_
