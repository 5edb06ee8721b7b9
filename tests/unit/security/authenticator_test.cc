#include "server/security/authenticator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/fakes/temp_folder.h"

namespace adamoe {
namespace {

using testing::HasSubstr;
using testing::Not;

class AuthenticatorTest : public testing::Test {
 protected:
  void Write(const std::string& content) { std::ofstream(path_) << content; }

  std::unique_ptr<Authenticator> Open(const std::string& content, int limit = 0) {
    Write(content);
    auto authenticator = Authenticator::Open(path_, limit);
    EXPECT_TRUE(authenticator.ok()) << authenticator.status();
    return *std::move(authenticator);
  }

  // The name of whose token it is, or the code's.
  static std::string Ask(const Authenticator& authenticator, std::vector<std::string> values) {
    const auto caller = authenticator.Authenticate(values);
    return caller.ok() ? (*caller)->name() : absl::StatusCodeToString(caller.status().code());
  }

  const TempFolder folder_;
  const std::string path_ = folder_ / "tokens";
};

TEST_F(AuthenticatorTest, KnowsItsTokens) {
  const auto authenticator = Open("a secret-1\nb secret-2\n");
  EXPECT_EQ(authenticator->num_tokens(), 2);
  EXPECT_EQ(Ask(*authenticator, {"Bearer secret-1"}), "a");
  EXPECT_EQ(Ask(*authenticator, {"bearer secret-2"}), "b");
  EXPECT_EQ(Ask(*authenticator, {"BEARER   secret-2 "}), "b");
  for (const std::vector<std::string>& values : std::vector<std::vector<std::string>>{
           {},
           {""},
           {"Bearer"},
           {"Bearer "},
           {"secret-1"},
           {"Basic secret-1"},
           {"Bearersecret-1"},
           {"Bearer secret-"},
           {"Bearer secret-12"},
           {"Bearer Secret-1"},
           {"Bearer a"},
           {"Bearer a secret-1"},
           {"Bearer secret-1", "Bearer secret-1"},
           {"Bearer secret-1", "Bearer other"},
           {std::string("Bearer secret-1\0", 16)},
       }) {
    EXPECT_EQ(Ask(*authenticator, values), "UNAUTHENTICATED") << testing::PrintToString(values);
  }
}

TEST_F(AuthenticatorTest, ErrorsSayOnlyMissingOrInvalid) {
  const auto authenticator = Open("secret-1\n");
  EXPECT_THAT(std::string(authenticator->Authenticate({}).status().message()),
              HasSubstr("a token is needed"));
  EXPECT_EQ(authenticator->Authenticate({"Bearer secret-2"}).status().message(),
            "the token is not valid");
  EXPECT_EQ(authenticator->Authenticate({"Basic secret-1"}).status().message(),
            "the token is not valid");
}

TEST_F(AuthenticatorTest, AFileThatCannotBeUsedIsNamed) {
  EXPECT_THAT(std::string(Authenticator::Open(path_, 0).status().message()),
              HasSubstr(path_ + ": cannot be opened"));
  Write("a b c\n");
  EXPECT_THAT(std::string(Authenticator::Open(path_, 0).status().message()),
              HasSubstr(path_ + ": line 1"));
}

TEST_F(AuthenticatorTest, ANewFileHoldsFromItsReloadOn) {
  const auto authenticator = Open("a old\nb kept\n");
  EXPECT_EQ(*authenticator->Reload(), false);
  Write("a new\nb kept\n");
  EXPECT_EQ(Ask(*authenticator, {"Bearer new"}), "UNAUTHENTICATED");
  EXPECT_EQ(*authenticator->Reload(), true);
  EXPECT_EQ(*authenticator->Reload(), false);
  EXPECT_EQ(Ask(*authenticator, {"Bearer new"}), "a");
  EXPECT_EQ(Ask(*authenticator, {"Bearer kept"}), "b");
  EXPECT_EQ(Ask(*authenticator, {"Bearer old"}), "UNAUTHENTICATED");
}

TEST_F(AuthenticatorTest, ABrokenFileLeavesTheTokensAsTheyWere) {
  const auto authenticator = Open("a good\n");
  for (const char* content : {"", "# gone\n", "a b c\n", "x y\nz y\n"}) {
    Write(content);
    const auto reloaded = authenticator->Reload();
    EXPECT_TRUE(absl::IsInvalidArgument(reloaded.status())) << content;
    EXPECT_THAT(std::string(reloaded.status().message()), HasSubstr(path_));
    EXPECT_EQ(Ask(*authenticator, {"Bearer good"}), "a");
  }
  std::remove(path_.c_str());
  EXPECT_FALSE(authenticator->Reload().ok());
  EXPECT_EQ(Ask(*authenticator, {"Bearer good"}), "a");
}

TEST_F(AuthenticatorTest, EachTokenHasItsOwnPlaces) {
  const auto authenticator = Open("team one\nteam two\n", 2);
  const auto caller = [&](const std::string& token) {
    return *authenticator->Authenticate({"Bearer " + token});
  };
  auto first = Caller::Enter(caller("one"));
  auto second = Caller::Enter(caller("one"));
  ASSERT_TRUE(first.ok() && second.ok());
  const auto third = Caller::Enter(caller("one"));
  EXPECT_TRUE(absl::IsResourceExhausted(third.status()));
  EXPECT_THAT(std::string(third.status().message()), Not(HasSubstr("one")));
  EXPECT_TRUE(Caller::Enter(caller("two")).ok());
  *first = nullptr;
  EXPECT_TRUE(Caller::Enter(caller("one")).ok());  // and out again
  EXPECT_TRUE(Caller::Enter(caller("one")).ok());
}

TEST_F(AuthenticatorTest, PlacesOutliveReloads) {
  const auto authenticator = Open("a one\nb gone\n", 1);
  const auto one = Caller::Enter(*authenticator->Authenticate({"Bearer one"}));
  const auto gone = Caller::Enter(*authenticator->Authenticate({"Bearer gone"}));
  ASSERT_TRUE(one.ok() && gone.ok());
  Write("a one\n");
  ASSERT_EQ(*authenticator->Reload(), true);
  // The token is still there, and so is its request.
  EXPECT_FALSE(Caller::Enter(*authenticator->Authenticate({"Bearer one"})).ok());
}

TEST_F(AuthenticatorTest, ReloadsWhileItIsAsked) {
  const auto authenticator = Open("a one\nb two\n", 1000);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 300; ++n) {
        const auto caller = authenticator->Authenticate({"Bearer one"});
        ASSERT_TRUE(caller.ok());
        ASSERT_TRUE(Caller::Enter(*caller).ok());
      }
    });
  }
  for (int n = 0; n < 100; ++n) {
    Write(n % 2 == 0 ? "a one\n" : "a one\nb two\n");
    EXPECT_TRUE(authenticator->Reload().ok());
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace adamoe
