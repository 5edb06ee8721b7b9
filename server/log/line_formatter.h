// Every line the server logs, in the format the operator chose.
//
// kText: "[time] [adamoe_server] [level] message", in which a byte that is not printable ASCII
// stands as \xNN, so that no message makes two lines or moves a terminal's cursor. kJson: one
// object a line, {"time": RFC 3339 in UTC, "level", "message"} and, for lines of RequestLog, its
// fields.
//
// As spdlog's formatters: one per sink, used under the sink's lock.
#ifndef ADAMOE_SERVER_LOG_LINE_FORMATTER_H_
#define ADAMOE_SERVER_LOG_LINE_FORMATTER_H_

#include <spdlog/formatter.h>
#include <spdlog/pattern_formatter.h>

#include <memory>

#include "server/log/request_line.h"

namespace adamoe {

// Lines of the logger with this name are FormatRequestLine's.
inline constexpr char kRequestLogger[] = "request";

class LineFormatter final : public spdlog::formatter {
 public:
  explicit LineFormatter(LogFormat format);

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override;
  std::unique_ptr<spdlog::formatter> clone() const override;

 private:
  const LogFormat format_;
  spdlog::pattern_formatter text_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_LOG_LINE_FORMATTER_H_
