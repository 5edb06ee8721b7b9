#include "server/http/json_document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/serving/utf8.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

TEST(ParseJsonObjectTest, KeepsTheOrderOfMembers) {
  const auto json =
      ParseJsonObject(R"({"z":1,"a":[true,null,-2,1.5,"\u00e9"],"m":{"b":{},"a":[]}})");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->dump(), R"({"z":1,"a":[true,null,-2,1.5,"é"],"m":{"b":{},"a":[]}})");
}

TEST(ParseJsonObjectTest, SaysWhatIsWrong) {
  const std::string nul(1, '\0');
  const struct {
    std::string text;
    std::string words;
  } cases[] = {
      {"", "at byte 1"},
      {"[]", "is no object"},
      {"3", "is no object"},
      {"null", "is no object"},
      {"{", "at byte 2"},
      {"{\"a\":1}x", "at byte 8"},
      {"{\"a\":1,}", "at byte 8"},
      {"{'a':1}", "at byte 2"},
      {"{\"a\":NaN}", "at byte 6"},
      {"{\"a\":Infinity}", "at byte 6"},
      {"{\"a\":1e999}", "number overflow"},
      {"{\"a\":01}", "at byte 7"},
      {"{\"a\":\"\\ud800\"}", "surrogate"},
      {"{\"a\":\"\xff\"}", "UTF-8"},
      {"{\"a\":\"\xed\xa0\x80\"}", "UTF-8"},
      {"{\"a\":\"" + nul + "\"}", "control character"},
      {"{\"a\":1,\"b\":{\"a\":1,\"c\":2,\"a\":3}}", "'a' is there twice"},
      {"{\"a\":1,\"\\u0061\":2}", "'a' is there twice"},
      {"{\"a\":" + std::string(64, '['), "nests deeper than 64"},
      {"{\"a\":" + std::string(1 << 20, '['), "nests deeper than 64"},
      {[] {
         std::string text;
         for (int i = 0; i < 100; ++i) text += "{\"a\":";
         return text;
       }(),
       "nests deeper than 64"},
  };
  for (const auto& [text, words] : cases) {
    const auto json = ParseJsonObject(text);
    ASSERT_TRUE(absl::IsInvalidArgument(json.status())) << text.substr(0, 100);
    const std::string message(json.status().message());
    EXPECT_THAT(message, HasSubstr(words));
    EXPECT_EQ(FirstInvalidUtf8(message), message.size());
    EXPECT_LT(message.size(), 1000u);
  }
}

TEST(ParseJsonObjectTest, AllowsWhatNestsAsDeepAsItMay) {
  const std::string text = "{\"a\":" + std::string(63, '[') + std::string(63, ']') + "}";
  EXPECT_TRUE(ParseJsonObject(text).ok());
}

// An object of many members takes no more than its share: 100 times as many would take 10,000 times
// as long where each is looked for among the others.
TEST(ParseJsonObjectTest, TakesTimeInProportion) {
  std::string text = "{";
  for (int i = 0; i < 500000; ++i) absl::StrAppend(&text, i == 0 ? "" : ",", "\"", i, "\":0");
  text += "}";
  const absl::Time start = absl::Now();
  const auto json = ParseJsonObject(text);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->size(), 500000u);
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
}

}  // namespace
}  // namespace adamoe
