// Text files, and how they become training windows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <map>
#include <numeric>

#include "tests/unit/train/tiny_model.h"
#include "train/text_files.h"
#include "train/window_sampler.h"

namespace adamoe {
namespace {

TEST(ReadTextFileTest, ReadsPlainAndGzip) {
  const TestFolder folder("text");
  const std::string text(3 << 20, 'x');
  std::ofstream(folder.File("plain.txt")) << text;
  gzFile zipped = gzopen(folder.File("zipped.gz").c_str(), "wb");
  gzwrite(zipped, text.data(), static_cast<unsigned>(text.size()));
  gzclose(zipped);
  for (const char* name : {"plain.txt", "zipped.gz"}) {
    const auto read = ReadTextFile(folder.File(name));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_TRUE(*read == text) << name;
  }
}

TEST(ReadTextFileTest, NamesTheFileThatCannotBeRead) {
  const TestFolder folder("broken");
  const auto missing = ReadTextFile(folder.File("missing.txt"));
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), testing::HasSubstr("missing.txt"));
  gzFile zipped = gzopen(folder.File("cut.gz").c_str(), "wb");
  for (int i = 0; i < 100000; ++i) gzprintf(zipped, "%d ", i * 7919 % 10007);
  gzclose(zipped);
  std::filesystem::resize_file(folder.File("cut.gz"), 5000);
  EXPECT_EQ(ReadTextFile(folder.File("cut.gz")).status().code(), absl::StatusCode::kDataLoss);
}

TEST(SplitDocumentsTest, CutsAtSeparatingLinesOnly) {
  EXPECT_THAT(SplitDocuments("a\nb\n<|endoftext|>\n<|endoftext|>\nc <|endoftext|>\n"),
              testing::ElementsAre("a\nb", "c <|endoftext|>\n"));
  EXPECT_THAT(SplitDocuments("whole\n\n"), testing::ElementsAre("whole\n\n"));
  EXPECT_THAT(SplitDocuments("a\n<|endoftext|>"), testing::ElementsAre("a"));
  EXPECT_THAT(SplitDocuments(""), testing::IsEmpty());
}

TokenSource Count(int32_t first, int32_t num_tokens, double weight) {
  TokenSource source;
  source.tokens.resize(num_tokens);
  std::iota(source.tokens.begin(), source.tokens.end(), first);
  source.weight = weight;
  return source;
}

TEST(WindowSamplerTest, APassCoversASourceWithoutOverlap) {
  WindowSampler sampler({Count(0, 1001, 1)}, 10, 3);
  std::map<int64_t, int> seen;
  const at::Tensor windows = sampler.Draw(99).tokens;
  for (int64_t i = 0; i < windows.size(0); ++i) {
    const int64_t begin = windows[i][0].item<int64_t>();
    for (int64_t j = 0; j <= 10; ++j) EXPECT_EQ(windows[i][j].item<int64_t>(), begin + j);
    for (int64_t j = 0; j < 10; ++j) ++seen[begin + j];
  }
  EXPECT_EQ(seen.size(), 990u);
}

TEST(WindowSamplerTest, DrawsByWeightTimesLength) {
  WindowSampler sampler({Count(0, 1000, 1), Count(100000, 500, 6)}, 10, 3);
  const at::Tensor first = sampler.Draw(4000).tokens.select(1, 0);
  const double share = (first >= 100000).to(at::kFloat).mean().item<double>();
  EXPECT_NEAR(share, 0.75, 0.03);
}

TEST(WindowSamplerTest, SkippingEqualsDrawing) {
  const auto make = [] { return WindowSampler({Count(0, 300, 1), Count(900, 200, 2)}, 7, 5); };
  WindowSampler drawn = make();
  drawn.Draw(123);
  WindowSampler skipped = make();
  skipped.Skip(123);
  EXPECT_TRUE(drawn.Draw(50).tokens.equal(skipped.Draw(50).tokens));
}

}  // namespace
}  // namespace adamoe
