#include "server/log/line_formatter.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/log/json_text.h"

namespace adamoe {
namespace {

constexpr char kTextPattern[] = "[%Y-%m-%d %H:%M:%S.%e] [adamoe_server] [%^%l%$] %v";

std::string Printable(spdlog::string_view_t text) {
  std::string printable;
  for (const char c : text) {
    if (absl::ascii_isprint(static_cast<unsigned char>(c))) {
      printable += c;
    } else {
      absl::StrAppend(&printable, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  return printable;
}

std::string JsonLine(const spdlog::details::log_msg& message) {
  const auto level = spdlog::level::to_string_view(message.level);
  nlohmann::ordered_json line;
  line["time"] = absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", absl::FromChrono(message.time),
                                  absl::UTCTimeZone());
  line["level"] = std::string(level.data(), level.size());
  const std::string payload(message.payload.data(), message.payload.size());
  if (message.logger_name != kRequestLogger) {
    line["message"] = payload;
    return JsonText(line);
  }
  line["message"] = "request";
  std::string text = JsonText(line);
  text.back() = ',';
  return text.append(payload, 1);  // less its brace
}

void Append(const std::string& text, spdlog::memory_buf_t& out) {
  out.append(text.data(), text.data() + text.size());
}

}  // namespace

LineFormatter::LineFormatter(LogFormat format) : format_(format), text_(kTextPattern) {}

void LineFormatter::format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) {
  if (format_ == LogFormat::kJson) return Append(absl::StrCat(JsonLine(message), "\n"), out);
  std::string text = Printable(message.payload);
  if (message.logger_name == kRequestLogger) text = absl::StrCat("request ", text);
  spdlog::details::log_msg printable = message;
  printable.payload = text;
  text_.format(printable, out);
  message.color_range_start = printable.color_range_start;
  message.color_range_end = printable.color_range_end;
}

std::unique_ptr<spdlog::formatter> LineFormatter::clone() const {
  return std::make_unique<LineFormatter>(format_);
}

}  // namespace adamoe
