#include "server/serving/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace adamoe {
namespace {

struct Read {
  std::string text;
  std::string stop;     // the one that matched
  size_t num_read = 0;  // bytes taken in when it did
};

// What comes out of `text` cut at random.
Read Feed(const std::vector<std::string>& stops, const std::string& text, std::mt19937& random,
          size_t max_piece) {
  StopMatcher matcher(stops);
  Read read;
  while (read.num_read < text.size() && read.stop.empty()) {
    const size_t size = 1 + random() % max_piece;
    const std::string piece = text.substr(read.num_read, size);
    read.num_read += piece.size();
    const auto result = matcher.Push(piece, true);
    read.text += result.text;
    if (result.stop != nullptr) read.stop = *result.stop;
  }
  if (read.stop.empty()) read.text += matcher.Flush();
  return read;
}

// The text before the stop string that ends first, the longest of those that end there.
Read Slow(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      const bool ends =
          stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends) longest = std::max(longest, stop.size());
    }
    if (longest > 0)
      return {text.substr(0, end - longest), text.substr(end - longest, longest), end};
  }
  return {text, "", text.size()};
}

TEST(StopMatcherTest, WithoutStopsNothingIsHeld) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Push("anything", true).text, "anything");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, HoldsBackAStartAndLetsItGo) {
  StopMatcher matcher({"</end>"});
  EXPECT_EQ(matcher.Push("text</e", true).text, "text");
  EXPECT_EQ(matcher.Push("m>", true).text, "</em>");
  EXPECT_EQ(matcher.Push("<", true).text, "");
  EXPECT_EQ(matcher.Flush(), "<");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, MatchesAcrossPieces) {
  StopMatcher matcher({"\n\nQ:"});
  EXPECT_EQ(matcher.Push("answer\n", true).text, "answer");
  EXPECT_EQ(matcher.Push("\nQ", true).text, "");
  const auto result = matcher.Push(": more", true);
  ASSERT_NE(result.stop, nullptr);
  EXPECT_EQ(*result.stop, "\n\nQ:");
  EXPECT_EQ(result.text, "");
}

TEST(StopMatcherTest, DoesNotStopBeforeItMay) {
  StopMatcher matcher({"ab"});
  auto result = matcher.Push("xaby", false);
  EXPECT_EQ(result.stop, nullptr);
  EXPECT_EQ(result.text, "xaby");
  // It starts before and ends after.
  EXPECT_EQ(matcher.Push("za", false).text, "z");
  result = matcher.Push("bz", true);
  EXPECT_NE(result.stop, nullptr);
  EXPECT_EQ(result.text, "");
}

TEST(StopMatcherTest, AnEarlierEndThatDidNotCountStaysUncounted) {
  // "b" ended in a piece that could not stop, and is held back as the start of "abc".
  StopMatcher matcher({"b", "abc"});
  EXPECT_EQ(matcher.Push("ab", false).text, "");
  const auto result = matcher.Push("d", true);
  EXPECT_EQ(result.stop, nullptr);
  EXPECT_EQ(result.text, "abd");
}

TEST(StopMatcherTest, AgreesWithTheSlowSearchHoweverTheTextIsCut) {
  std::mt19937 random(7);
  const auto word = [&](size_t max_size, int letters) {
    std::string text(1 + random() % max_size, ' ');
    for (char& c : text) c = static_cast<char>('a' + random() % letters);
    return text;
  };
  int num_matched = 0;
  for (int round = 0; round < 5000; ++round) {
    const int letters = 2 + round % 3;
    std::vector<std::string> stops(1 + random() % 4);
    for (std::string& stop : stops) stop = word(6, letters);
    const std::string text = word(30, letters);
    const Read expected = Slow(stops, text);
    const Read read = Feed(stops, text, random, 1 + random() % 8);
    ASSERT_EQ(read.text, expected.text) << text;
    ASSERT_EQ(read.stop, expected.stop) << text;
    ASSERT_GE(read.num_read, expected.num_read) << text;
    num_matched += !expected.stop.empty();
  }
  EXPECT_GT(num_matched, 1000);
  EXPECT_LT(num_matched, 4900);
}

}  // namespace
}  // namespace adamoe
