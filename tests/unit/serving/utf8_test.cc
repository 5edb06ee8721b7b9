#include "server/serving/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace adamoe {
namespace {

const std::string kReplacement = "\xef\xbf\xbd";

TEST(Utf8Test, FindsTheFirstIllFormedByte) {
  EXPECT_EQ(FirstInvalidUtf8(""), 0);
  EXPECT_EQ(FirstInvalidUtf8("h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"), 12);
  EXPECT_EQ(FirstInvalidUtf8("ab\xff"), 2);
  EXPECT_EQ(FirstInvalidUtf8("a\xe2\x82"), 1);             // cut off
  EXPECT_EQ(FirstInvalidUtf8("\xc0\x80"), 0);              // overlong
  EXPECT_EQ(FirstInvalidUtf8("x\xed\xa0\x80"), 1);         // a surrogate
  EXPECT_EQ(FirstInvalidUtf8("\xf4\x90\x80\x80"), 0);      // above U+10FFFF
  EXPECT_EQ(FirstInvalidUtf8(std::string("a\0b", 3)), 3);  // a zero is a character
}

TEST(Utf8Test, MendsWhatIsIllFormed) {
  EXPECT_EQ(MendUtf8("plain \xe2\x82\xac"), "plain \xe2\x82\xac");
  EXPECT_EQ(MendUtf8("\xff"), kReplacement);
  EXPECT_EQ(MendUtf8("a\xe2\x82z"), "a" + kReplacement + kReplacement + "z");
  EXPECT_EQ(MendUtf8("\x80"), kReplacement);
}

TEST(Utf8Test, CountsTrailingSpace) {
  EXPECT_EQ(TrailingSpaceBytes(""), 0);
  EXPECT_EQ(TrailingSpaceBytes("a b"), 0);
  EXPECT_EQ(TrailingSpaceBytes("a b  "), 2);
  EXPECT_EQ(TrailingSpaceBytes("a\n\t "), 3);
  EXPECT_EQ(TrailingSpaceBytes("   "), 3);
  EXPECT_EQ(TrailingSpaceBytes("a\xc2\xa0"), 2);       // no-break space
  EXPECT_EQ(TrailingSpaceBytes("a\xe3\x80\x80 "), 4);  // ideographic space
  EXPECT_EQ(TrailingSpaceBytes("a\xe2\x80\x8b"), 0);   // zero width: not white space
  EXPECT_EQ(TrailingSpaceBytes("\xc3\xa9"), 0);
}

}  // namespace
}  // namespace adamoe
