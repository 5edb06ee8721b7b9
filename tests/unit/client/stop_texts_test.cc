#include "client/cli/stop_texts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adamoe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Parse(absl::string_view text) {
  StopTexts stop;
  std::string error;
  EXPECT_TRUE(AbslParseFlag(text, &stop, &error)) << error;
  return stop.texts;
}

TEST(StopTextsTest, CommasDivideAndBackslashesEscape) {
  EXPECT_THAT(Parse(""), IsEmpty());
  EXPECT_THAT(Parse("one"), ElementsAre("one"));
  EXPECT_THAT(Parse("one,two"), ElementsAre("one", "two"));
  EXPECT_THAT(Parse(R"(a\,b,\n\n,\t,\\n)"), ElementsAre("a,b", "\n\n", "\t", R"(\n)"));
}

TEST(StopTextsTest, AnUnknownEscapeIsAnError) {
  StopTexts stop;
  std::string error;
  EXPECT_FALSE(AbslParseFlag(R"(a\x)", &stop, &error));
  EXPECT_THAT(error, HasSubstr("backslash"));
  EXPECT_FALSE(AbslParseFlag("a\\", &stop, &error));
}

TEST(StopTextsTest, UnparsingParsesBack) {
  const StopTexts stop = {{"a,b", "\n", "\\", "\t,", "x"}};
  EXPECT_EQ(Parse(AbslUnparseFlag(stop)), stop.texts);
}

TEST(JoinRepeatedFlagTest, JoinsEveryFormInOrder) {
  EXPECT_THAT(JoinRepeatedFlag({"prog", "--stop=a", "generate", "-stop", "b", "--stop=c,d", "text"},
                               "stop"),
              ElementsAre("prog", "--stop=a,b,c,d", "generate", "text"));
}

TEST(JoinRepeatedFlagTest, LeavesOtherArgumentsAlone) {
  const std::vector<std::string> arguments = {"prog", "--stop_token_ids=3", "stop",    "--nostop",
                                              "--",   "--stop=a",           "--stop=b"};
  EXPECT_EQ(JoinRepeatedFlag(arguments, "stop"), arguments);
  EXPECT_THAT(JoinRepeatedFlag({"prog", "--stop"}, "stop"), ElementsAre("prog", "--stop"));
}

}  // namespace
}  // namespace adamoe
