#include "server/log/request_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace adamoe {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

RequestLine Full() {
  RequestLine line;
  line.request_id = "req-7";
  line.rpc = "Generate";
  line.outcome = "ok";
  line.usage.prompt_tokens = 16;
  line.usage.cached_prompt_tokens = 4;
  line.usage.completion_tokens = 9;
  line.usage.positions = 20;
  line.usage.slots = {62, 50, 8};
  line.usage.queue_time = absl::Microseconds(1250);
  line.usage.prefill_time = absl::Milliseconds(30);
  line.usage.decode_time = absl::Seconds(2) + absl::Nanoseconds(1);
  line.num_layers = 2;
  line.duration = absl::Milliseconds(2040);
  line.peer = "ipv4:127.0.0.1:4711";
  line.caller = "team-a";
  line.trace =
      TraceContext{"0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"};
  return line;
}

TEST(FormatRequestLineTest, Text) {
  EXPECT_EQ(FormatRequestLine(Full(), LogFormat::kText),
            "request_id=req-7 rpc=Generate outcome=ok code=OK prompt_tokens=16 "
            "cached_prompt_tokens=4 completion_tokens=9 experts_per_token=1.55 true_slots=62 "
            "null_slots=50 dropped_slots=8 queue_seconds=0.00125 prefill_seconds=0.03 "
            "decode_seconds=2.0 duration_seconds=2.04 peer=ipv4:127.0.0.1:4711 token=team-a "
            "trace_id=0af7651916cd43dd8448eb211c80319c span_id=00f067aa0ba902b7 "
            "parent_id=b7ad6b7169203331");
}

TEST(FormatRequestLineTest, Json) {
  EXPECT_EQ(FormatRequestLine(Full(), LogFormat::kJson),
            R"({"request_id":"req-7","rpc":"Generate","outcome":"ok","code":"OK",)"
            R"("prompt_tokens":16,"cached_prompt_tokens":4,"completion_tokens":9,)"
            R"("experts_per_token":1.55,"true_slots":62,"null_slots":50,"dropped_slots":8,)"
            R"("queue_seconds":0.00125,"prefill_seconds":0.03,"decode_seconds":2.0,)"
            R"("duration_seconds":2.04,"peer":"ipv4:127.0.0.1:4711","token":"team-a",)"
            R"("trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"00f067aa0ba902b7",)"
            R"("parent_id":"b7ad6b7169203331"})");
}

TEST(FormatRequestLineTest, LeavesOutWhatThereIsNot) {
  RequestLine line;
  line.rpc = "Score";
  line.outcome = "invalid";
  line.status = absl::UnauthenticatedError("the token is not valid");
  const json fields = json::parse(FormatRequestLine(line, LogFormat::kJson));
  EXPECT_EQ(fields["code"], "UNAUTHENTICATED");
  EXPECT_EQ(fields["status"], "the token is not valid");
  EXPECT_EQ(fields["experts_per_token"], 0.0);  // nothing ran
  for (const char* key : {"token", "trace_id", "span_id", "parent_id", "prompt"}) {
    EXPECT_FALSE(fields.contains(key)) << key;
  }
  const std::string text = FormatRequestLine(line, LogFormat::kText);
  EXPECT_THAT(text, testing::StartsWith(R"(request_id="" rpc=Score )"));
  EXPECT_THAT(text, HasSubstr(R"(status="the token is not valid")"));
}

TEST(FormatRequestLineTest, NoBytesBreakALine) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  for (const std::string& hostile :
       {all, std::string("a\nb\r\n{\"level\":\"error\"}"), std::string("\x1b[2J\x9b\x31m"),
        std::string("\xc2\x9b\xe2\x80\xa8\xff\xc0\x80"), std::string("a\0b", 3)}) {
    RequestLine line = Full();
    line.request_id = line.peer = line.caller = line.rpc = hostile;
    line.prompt = hostile;
    line.status = absl::InvalidArgumentError(hostile);
    const std::string as_json = FormatRequestLine(line, LogFormat::kJson);
    EXPECT_TRUE(json::accept(as_json)) << as_json;
    EXPECT_THAT(as_json, Not(HasSubstr("\n")));
    const std::string text = FormatRequestLine(line, LogFormat::kText);
    for (const unsigned char c : text) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << int{c};
    EXPECT_EQ(json::parse(as_json)["outcome"], "ok");
  }
}

TEST(FormatRequestLineTest, NoValuePassesForAnotherKey) {
  RequestLine line = Full();
  line.request_id = "x outcome=error";
  EXPECT_THAT(FormatRequestLine(line, LogFormat::kText),
              testing::StartsWith("request_id=\"x outcome=error\" rpc=Generate outcome=ok "));
  line.request_id = "\" outcome=\"error";
  EXPECT_THAT(FormatRequestLine(line, LogFormat::kText),
              testing::StartsWith(R"(request_id="\" outcome=\"error" rpc=)"));
}

TEST(FormatRequestLineTest, LongStringsAreCutBetweenCharacters) {
  RequestLine line = Full();
  line.request_id = std::string(100000, 'x');
  line.prompt = std::string(kMaxLoggedPromptBytes - 1, 'x') + "\xc3\xa4\xc3\xa4";
  const json fields = json::parse(FormatRequestLine(line, LogFormat::kJson));
  EXPECT_LT(fields["request_id"].get<std::string>().size(), 400);
  EXPECT_EQ(fields["prompt"], std::string(kMaxLoggedPromptBytes - 1, 'x') + "...");
  line.prompt = std::string(kMaxLoggedPromptBytes, 'x');
  EXPECT_EQ(json::parse(FormatRequestLine(line, LogFormat::kJson))["prompt"], *line.prompt);
}

}  // namespace
}  // namespace adamoe
