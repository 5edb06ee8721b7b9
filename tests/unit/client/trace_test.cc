#include "client/bench/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdio>
#include <fstream>

namespace adamoe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string TempFile(const std::string& name) { return testing::TempDir() + "trace_test_" + name; }

std::string ErrorOf(const std::string& csv) {
  const auto arrivals = ParseTrace(csv, "t.csv");
  EXPECT_FALSE(arrivals.ok()) << csv;
  EXPECT_EQ(arrivals.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(arrivals.status().message());
}

TEST(ParseTraceTest, ReadsLinesAndSkipsNamesCommentsAndBlanks) {
  const auto arrivals = ParseTrace(
      "arrival,prompt,output\r\n# a comment\n0, 12,3\r\n\n1.5,7,900,more,columns\n", "t.csv");
  ASSERT_TRUE(arrivals.ok()) << arrivals.status();
  ASSERT_EQ(arrivals->size(), 2u);
  EXPECT_EQ((*arrivals)[0].at, absl::ZeroDuration());
  EXPECT_EQ((*arrivals)[0].prompt_tokens, 12u);
  EXPECT_EQ((*arrivals)[0].output_tokens, 3u);
  EXPECT_EQ((*arrivals)[1].at, absl::Milliseconds(1500));
  EXPECT_EQ((*arrivals)[1].prompt_tokens, 7u);
  EXPECT_EQ((*arrivals)[1].output_tokens, 900u);
}

TEST(ParseTraceTest, ErrorsNameTheLineAndTheValue) {
  EXPECT_THAT(ErrorOf("0,1,1\n1,2\n"), AllOf(HasSubstr("t.csv:2"), HasSubstr("'1,2'")));
  EXPECT_THAT(ErrorOf("0,1,1\nsoon,2,3\n"), AllOf(HasSubstr("t.csv:2"), HasSubstr("'soon'")));
  EXPECT_THAT(ErrorOf("-1,2,3\n"), AllOf(HasSubstr("t.csv:1"), HasSubstr("'-1'")));
  EXPECT_THAT(ErrorOf("0,1,1\nnan,2,3\n"), HasSubstr("t.csv:2"));
  EXPECT_THAT(ErrorOf("1e300,2,3\n"), HasSubstr("t.csv:1"));
  EXPECT_THAT(ErrorOf("0,0,3\n"), AllOf(HasSubstr("prompt length"), HasSubstr("'0'")));
  EXPECT_THAT(ErrorOf("0,2,4294967296\n"),
              AllOf(HasSubstr("output length"), HasSubstr("4294967296")));
  EXPECT_THAT(ErrorOf("2,1,1\n1,1,1\n"), HasSubstr("t.csv:2"));
}

TEST(ParseTraceTest, ATraceWithoutRequestsIsAnError) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("no requests"));
  EXPECT_THAT(ErrorOf("a,b,c\n"), HasSubstr("no requests"));
}

TEST(ParseTraceTest, OnlyTheTopMayHoldColumnNames) {
  EXPECT_THAT(ErrorOf("a,b,c\na,b,c\n"), HasSubstr("t.csv:2"));
}

TEST(ReadTraceTest, PlainAndCompressedFilesReadAlike) {
  const std::string csv = "0,5,6\n0.25,7,8\n";
  const std::string plain = TempFile("plain.csv"), compressed = TempFile("compressed.csv.gz");
  std::ofstream(plain) << csv;
  gzFile out = gzopen(compressed.c_str(), "wb");
  ASSERT_EQ(gzwrite(out, csv.data(), csv.size()), static_cast<int>(csv.size()));
  ASSERT_EQ(gzclose(out), Z_OK);
  for (const std::string& file : {plain, compressed}) {
    const auto arrivals = ReadTrace(file);
    ASSERT_TRUE(arrivals.ok()) << arrivals.status();
    ASSERT_EQ(arrivals->size(), 2u);
    EXPECT_EQ((*arrivals)[1].prompt_tokens, 7u);
    std::remove(file.c_str());
  }
}

TEST(ReadTraceTest, TruncatedCompressionAndMissingFilesAreErrors) {
  std::string csv;
  for (int i = 0; i < 2000; ++i)
    csv += std::to_string(i) + "," + std::to_string(i * i % 97 + 1) + ",3\n";
  const std::string whole = TempFile("whole.gz"), cut = TempFile("cut.gz");
  gzFile out = gzopen(whole.c_str(), "wb");
  gzwrite(out, csv.data(), csv.size());
  gzclose(out);
  std::ifstream in(whole, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  std::ofstream(cut, std::ios::binary) << bytes.substr(0, bytes.size() / 2);
  EXPECT_EQ(ReadTrace(cut).status().code(), absl::StatusCode::kDataLoss);
  std::remove(whole.c_str());
  std::remove(cut.c_str());
  EXPECT_EQ(ReadTrace(cut).status().code(), absl::StatusCode::kNotFound);
}

TEST(PoissonArrivalsTest, SameSeedSameTimesAndTheMeanRate) {
  const auto a = PoissonArrivals(50, 10000, absl::InfiniteDuration(), 3, 1, 2);
  const auto b = PoissonArrivals(50, 10000, absl::InfiniteDuration(), 3, 1, 2);
  const auto c = PoissonArrivals(50, 10000, absl::InfiniteDuration(), 4, 1, 2);
  ASSERT_EQ(a.size(), 10000u);
  EXPECT_EQ(a.back().at, b.back().at);
  EXPECT_NE(a.back().at, c.back().at);
  // The sum of 10,000 gaps of 20 ms has a standard deviation of 1 %.
  EXPECT_NEAR(absl::ToDoubleSeconds(a.back().at), 200, 10);
}

TEST(PoissonArrivalsTest, EndsWithTheDuration) {
  const auto arrivals = PoissonArrivals(1000, 1000000, absl::Seconds(1), 1, 1, 1);
  ASSERT_FALSE(arrivals.empty());
  EXPECT_NEAR(static_cast<double>(arrivals.size()), 1000, 200);
  EXPECT_LT(arrivals.back().at, absl::Seconds(1));
}

}  // namespace
}  // namespace adamoe
