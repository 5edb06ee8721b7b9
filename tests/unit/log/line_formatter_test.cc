#include "server/log/line_formatter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <string>

#include "server/log/log.h"

namespace adamoe {
namespace {

using nlohmann::json;
using std::string_literals::operator""s;

// A logger into a string.
class Lines {
 public:
  Lines(const std::string& name, LogFormat format) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_st>(out_);
    logger_ = std::make_shared<spdlog::logger>(name, std::move(sink));
    logger_->set_formatter(std::make_unique<LineFormatter>(format));
    logger_->set_level(spdlog::level::debug);
  }
  const std::shared_ptr<spdlog::logger>& logger() { return logger_; }
  std::string text() const { return out_.str(); }

 private:
  std::ostringstream out_;
  std::shared_ptr<spdlog::logger> logger_;
};

const std::string kHostile = "two\nlines \x1b[31m \"quoted\" \xff \xc2\x9b end\0."s;

TEST(LineFormatterTest, JsonIsAnObjectALine) {
  Lines lines("adamoe_server", LogFormat::kJson);
  lines.logger()->warn(kHostile);
  lines.logger()->info("plain");
  std::istringstream in(lines.text());
  std::string line;
  ASSERT_TRUE(std::getline(in, line));
  const json first = json::parse(line);
  EXPECT_EQ(first["level"], "warning");
  EXPECT_EQ(first["message"].get<std::string>().substr(0, 10), "two\nlines ");
  const std::regex rfc3339(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)");
  EXPECT_TRUE(std::regex_match(first["time"].get<std::string>(), rfc3339)) << line;
  ASSERT_TRUE(std::getline(in, line));
  EXPECT_EQ(json::parse(line)["message"], "plain");
  EXPECT_FALSE(std::getline(in, line));
}

TEST(LineFormatterTest, TextIsPrintableOnOneLine) {
  Lines lines("adamoe_server", LogFormat::kText);
  lines.logger()->error(kHostile);
  const std::string text = lines.text();
  EXPECT_THAT(text,
              testing::HasSubstr("] [adamoe_server] [error] two\\x0alines \\x1b[31m \"quoted\" "
                                 "\\xff \\xc2\\x9b end\\x00.\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST(RequestLogTest, FieldsStandBesideTheMessage) {
  Lines lines(kRequestLogger, LogFormat::kJson);
  RequestLine line;
  line.request_id = kHostile;
  line.outcome = "ok";
  RequestLog({LogFormat::kJson, false}, lines.logger()).Write(line);
  const json fields = json::parse(lines.text());
  EXPECT_EQ(fields["message"], "request");
  EXPECT_EQ(fields["level"], "info");
  EXPECT_EQ(fields["outcome"], "ok");
  EXPECT_TRUE(fields.contains("time") && fields.contains("request_id"));
}

TEST(RequestLogTest, TheServersOwnFaultsAreErrors) {
  Lines lines(kRequestLogger, LogFormat::kText);
  lines.logger()->set_level(spdlog::level::err);
  const RequestLog log({LogFormat::kText, false}, lines.logger());
  RequestLine line;
  line.outcome = "invalid";
  log.Write(line);
  EXPECT_EQ(lines.text(), "");
  line.outcome = "error";
  log.Write(line);
  EXPECT_THAT(lines.text(), testing::HasSubstr("[error] request request_id="));
}

}  // namespace
}  // namespace adamoe
