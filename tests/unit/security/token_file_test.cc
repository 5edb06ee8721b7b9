#include "server/security/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace adamoe {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(ParseTokenFileTest, TakesTokensWithAndWithoutNames) {
  const auto entries = ParseTokenFile(
      "# all of them\n"
      "\n"
      "team-a   secret1\r\n"
      "\t secret2 # the old one\n"
      "team-a secret3#and more\n"
      "secret4");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 4);
  const struct {
    const char* name;
    const char* token;
  } expected[] = {
      {"team-a", "secret1"}, {"line-4", "secret2"}, {"team-a", "secret3"}, {"line-6", "secret4"}};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ((*entries)[i].name, expected[i].name);
    EXPECT_EQ((*entries)[i].digest, DigestOf(expected[i].token)) << i;
  }
}

TEST(ParseTokenFileTest, DigestIsSha256) {
  const TokenDigest digest = DigestOf("abc");  // FIPS 180's own example
  EXPECT_EQ(digest[0], 0xba);
  EXPECT_EQ(digest[1], 0x78);
  EXPECT_EQ(digest[31], 0xad);
}

TEST(ParseTokenFileTest, ErrorsNameTheLineAndKeepTheSecret) {
  const struct {
    std::string content;
    const char* words;
  } cases[] = {
      {"", "no token"},
      {"# nothing\n \n", "no token"},
      {"ok\na b sEcReT\n", "line 2: more than a name and a token"},
      {"\n\nsEcReT\nname sEcReT", "line 4: the same token as in line 3"},
      {"sEcReT\xc3\xa4", "line 1: a character that is not visible ASCII"},
      {std::string("sEcReT\0x", 8), "line 1: a character that is not visible ASCII"},
      {"n\x01me sEcReT", "line 1: a character that is not visible ASCII"},
      {"sEcReT" + std::string(5000, 'x'), "line 1: a token of 5006 bytes, at most 4096"},
      {std::string(200, 'n') + " sEcReT", "line 1: a name of 200 bytes, at most 128"},
  };
  for (const auto& c : cases) {
    const absl::Status status = ParseTokenFile(c.content).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.words;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.words));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("sEcReT")));
  }
}

TEST(ParseTokenFileTest, TheirNumberIsBounded) {
  std::string content;
  for (int i = 0; i < 10001; ++i) content += "token" + std::to_string(i) + "\n";
  EXPECT_THAT(std::string(ParseTokenFile(content).status().message()),
              HasSubstr("line 10001: more than 10000 tokens"));
}

}  // namespace
}  // namespace adamoe
