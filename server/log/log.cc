#include "server/log/log.h"

#include <spdlog/async.h>
#include <spdlog/sinks/sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/log/line_formatter.h"

namespace adamoe {
namespace {

// Learns when the log's thread has come to a flush: everything queued before it is written then.
class FlushMark final : public spdlog::sinks::sink {
 public:
  void log(const spdlog::details::log_msg&) override {}
  void flush() override ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    ++num_flushes_;
  }
  void set_pattern(const std::string&) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter>) override {}

  uint64_t num_flushes() const ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    return num_flushes_;
  }
  void AwaitMoreThan(uint64_t count, absl::Duration timeout) const ABSL_LOCKS_EXCLUDED(mu_) {
    const auto more = [this, count]()
                          ABSL_SHARED_LOCKS_REQUIRED(mu_) { return num_flushes_ > count; };
    absl::MutexLock lock(&mu_);
    mu_.AwaitWithTimeout(absl::Condition(&more), timeout);
  }

 private:
  mutable absl::Mutex mu_;
  uint64_t num_flushes_ ABSL_GUARDED_BY(mu_) = 0;
};

std::shared_ptr<FlushMark>& Mark() {
  static std::shared_ptr<FlushMark> mark = std::make_shared<FlushMark>();
  return mark;
}

std::shared_ptr<spdlog::logger> MakeLogger(const std::string& name,
                                           const std::vector<spdlog::sink_ptr>& sinks) {
  auto logger = std::make_shared<spdlog::async_logger>(
      name, sinks.begin(), sinks.end(), spdlog::thread_pool(),
      spdlog::async_overflow_policy::overrun_oldest);
  spdlog::register_logger(logger);
  return logger;
}

}  // namespace

void StartLog(const std::string& level, LogFormat format) {
  spdlog::init_thread_pool(kMaxQueuedLines, 1);
  const auto to_stderr = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(
      format == LogFormat::kJson ? spdlog::color_mode::never : spdlog::color_mode::automatic);
  to_stderr->set_formatter(std::make_unique<LineFormatter>(format));
  spdlog::set_default_logger(MakeLogger("adamoe_server", {to_stderr, Mark()}));
  MakeLogger(kRequestLogger, {to_stderr});
  spdlog::set_level(spdlog::level::from_str(level));
}

void FlushLog(absl::Duration timeout) {
  const uint64_t before = Mark()->num_flushes();
  spdlog::default_logger_raw()->flush();
  Mark()->AwaitMoreThan(before, timeout);
}

uint64_t NumDroppedLogLines() {
  const auto pool = spdlog::thread_pool();
  return pool == nullptr ? 0 : pool->overrun_counter();
}

RequestLog::RequestLog(Options options) : RequestLog(options, spdlog::get(kRequestLogger)) {}

RequestLog::RequestLog(Options options, std::shared_ptr<spdlog::logger> logger)
    : options_(options), logger_(std::move(logger)) {}

void RequestLog::Write(const RequestLine& line) const {
  const auto level = line.outcome == "error" ? spdlog::level::err : spdlog::level::info;
  if (logger_->should_log(level)) logger_->log(level, FormatRequestLine(line, options_.format));
}

}  // namespace adamoe
