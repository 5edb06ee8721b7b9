#include "client/flags_help.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"

namespace adamoe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(FlagsHelpTest, IsAskedForBeforeALoneDash) {
  EXPECT_TRUE(AsksForHelp({"prog", "--help"}));
  EXPECT_TRUE(AsksForHelp({"prog", "generate", "-h"}));
  EXPECT_FALSE(AsksForHelp({"prog", "--", "--help"}));
  EXPECT_FALSE(AsksForHelp({"prog", "help"}));
}

TEST(FlagsHelpTest, ListsTheFlagsOfAFolderWithTheirDefaults) {
  std::ostringstream out;
  PrintHelp("what it is", {"client/cli/"}, out);
  EXPECT_THAT(out.str(), testing::StartsWith("what it is\n"));
  EXPECT_THAT(out.str(), HasSubstr("  --min_p=0\n      Keeps tokens"));
  EXPECT_THAT(out.str(), HasSubstr("  --seed\n"));
  EXPECT_THAT(out.str(), Not(HasSubstr("--flagfile")));
}

TEST(FlagsHelpTest, EveryFlagExplainsItselfAndAnEmptyDefaultIsNamed) {
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (!absl::StrContains(flag->Filename(), "client/cli/")) continue;
    EXPECT_FALSE(flag->Help().empty()) << name;
    if (flag->DefaultValue().empty()) {
      EXPECT_THAT(flag->Help(), HasSubstr("Default: ")) << name;
    }
  }
}

}  // namespace
}  // namespace adamoe
