#include "client/cli/generation.h"

#include <gtest/gtest.h>

namespace adamoe {
namespace {

TEST(PrintableTextTest, ControlCharactersBecomeVisible) {
  EXPECT_EQ(PrintableText("a\x1b[31mb\r\a\x7f"), "a\uFFFD[31mb\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(PrintableText("line\n\ttab é 日"), "line\n\ttab é 日");
}

TEST(ToJsonTest, OneLineWithTheFieldNamesOfTheProto) {
  v1::GenerateResponse message;
  message.set_request_id("r");
  message.set_text("two\nlines");
  v1::Token* token = message.add_tokens();
  token->set_id(3);
  const std::string json = ToJson(message);
  EXPECT_EQ(json.find('\n'), std::string::npos);
  EXPECT_NE(json.find(R"("request_id":"r")"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("experts":0)"), std::string::npos) << json;
  EXPECT_EQ(json.find("logprob\""), std::string::npos) << json;
}

}  // namespace
}  // namespace adamoe
