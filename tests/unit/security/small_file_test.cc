#include "server/security/small_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/fakes/temp_folder.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

TEST(ReadSmallFileTest, ReadsWhatIsThere) {
  const TempFolder folder;
  const std::string content = std::string(40000, 'x') + std::string("\0\n", 2);
  std::ofstream(folder / "file") << content;
  const auto read = ReadSmallFile(folder / "file");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, content);
}

TEST(ReadSmallFileTest, RefusesTheRest) {
  const TempFolder folder;
  std::ofstream(folder / "large") << std::string(kMaxSmallFileBytes + 1, 'x');
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);  // nobody will ever write to it
  const struct {
    std::string path;
    const char* words;
  } cases[] = {
      {folder / "none", "cannot be opened"},   {folder / "large", "more than 1048576 bytes"},
      {folder / "pipe", "not a regular file"}, {folder.path(), "not a regular file"},
      {"/dev/zero", "not a regular file"},
  };
  for (const auto& c : cases) {
    const absl::Status status = ReadSmallFile(c.path).status();
    EXPECT_FALSE(status.ok()) << c.path;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.path));
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.words));
  }
}

}  // namespace
}  // namespace adamoe
