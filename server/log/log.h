// The server's log: spdlog, to stderr, written by a thread of its own. A caller never waits for
// whoever reads stderr: when kMaxQueuedLines wait, the oldest is dropped and counted.
#ifndef ADAMOE_SERVER_LOG_LOG_H_
#define ADAMOE_SERVER_LOG_LOG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "server/log/request_line.h"

namespace spdlog {
class logger;
}  // namespace spdlog

namespace adamoe {

inline constexpr size_t kMaxQueuedLines = 8192;

// From here on spdlog's default logger is this log. `level` as spdlog names it. Call once, at
// start.
void StartLog(const std::string& level, LogFormat format);

// Waits until what was logged before is written, for at most `timeout`. Thread-safe.
void FlushLog(absl::Duration timeout);

// Thread-safe.
uint64_t NumDroppedLogLines();

// One line per request. Thread-safe.
class RequestLog {
 public:
  struct Options {
    LogFormat format = LogFormat::kText;
    bool prompts = false;  // lines hold the start of the prompt
  };

  // Into the log of StartLog, which has been called with the same format.
  explicit RequestLog(Options options);
  // Into `logger`, whose name is kRequestLogger.
  RequestLog(Options options, std::shared_ptr<spdlog::logger> logger);

  bool wants_prompts() const { return options_.prompts; }

  // At level error where the outcome is "error", else at info.
  void Write(const RequestLine& line) const;

 private:
  const Options options_;
  const std::shared_ptr<spdlog::logger> logger_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_LOG_LOG_H_
