// The index arithmetic of the CUDA kernels: nothing twice, nothing left out, nothing past the end.
#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/kernels/cuda/attention.h"
#include "server/kernels/cuda/attention_index.h"
#include "server/kernels/cuda/expert_tiles.h"
#include "server/kernels/cuda/mma_layout.h"
#include "server/kernels/cuda/router.h"
#include "server/kernels/cuda/routing_index.h"

namespace adamoe::cuda {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::NotNull;

// --- tiles of experts ---

// Rows of each expert, some none.
std::vector<int32_t> ExpertBegin(std::mt19937* random, int32_t num_experts, int32_t largest) {
  std::vector<int32_t> begin = {0};
  for (int32_t e = 0; e < num_experts; ++e) {
    const bool empty = (*random)() % 3 == 0;
    begin.push_back(begin.back() + (empty ? 0 : static_cast<int32_t>((*random)() % (largest + 1))));
  }
  return begin;
}

TEST(PrefillTilesTest, CoverEveryRowAndOutputOnce) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const int32_t experts = static_cast<int32_t>(random() % 9 + 1);
    const int32_t outputs = static_cast<int32_t>(random() % 700 + 1);
    const int32_t tile_outputs = round % 2 == 0 ? 128 : 256;
    const std::vector<int32_t> begin = ExpertBegin(&random, experts, 400);
    const int64_t bound = MaxPrefillTiles(begin.back(), experts, outputs, tile_outputs);
    std::set<std::pair<int32_t, int32_t>> starts;
    int64_t area = 0;
    int64_t index = 0;
    for (;; ++index) {
      const PrefillTile tile = FindPrefillTile(begin.data(), experts, outputs, tile_outputs, index);
      if (tile.expert < 0) break;
      ASSERT_LT(tile.expert, experts);
      EXPECT_GE(tile.first_row, begin[tile.expert]);
      EXPECT_LE(tile.end_row, begin[tile.expert + 1]);
      EXPECT_LT(tile.first_row, tile.end_row);
      EXPECT_LE(tile.end_row - tile.first_row, kPrefillTileRows);
      EXPECT_LT(tile.first_output, outputs);
      EXPECT_TRUE(starts.insert({tile.first_row, tile.first_output}).second);
      area += int64_t{tile.end_row - tile.first_row} *
              std::min(tile_outputs, outputs - tile.first_output);
    }
    EXPECT_EQ(area, int64_t{begin.back()} * outputs);
    EXPECT_LE(index, bound);
  }
}

TEST(PrefillTilesTest, OfNoRowsAreNone) {
  const std::vector<int32_t> begin = {0, 0, 0};
  EXPECT_EQ(FindPrefillTile(begin.data(), 2, 256, 128, 0).expert, -1);
  EXPECT_EQ(MaxPrefillTiles(0, 2, 256, 128), 0);
}

TEST(PrefillTilesTest, NeighboursShareTheirWeights) {
  const std::vector<int32_t> begin = {0, 300};
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(FindPrefillTile(begin.data(), 1, 512, 128, i).first_output, 0);
  }
  EXPECT_EQ(FindPrefillTile(begin.data(), 1, 512, 128, 3).first_output, 128);
}

TEST(DecodeTilesTest, CoverEveryOutput) {
  EXPECT_EQ(DecodeTilesPerExpert(8), 1);
  EXPECT_EQ(DecodeTilesPerExpert(16), 1);
  EXPECT_EQ(DecodeTilesPerExpert(17), 2);
  EXPECT_EQ(DecodeTilesPerExpert(14336), 896);
}

// --- the counting sort ---

TEST(SegmentsTest, HoldEveryTokenAndFitTheCounts) {
  for (int32_t experts = 1; experts <= kMaxTrueExperts; ++experts) {
    const int32_t segments = NumSegments(experts);
    ASSERT_GE(segments, 1);
    EXPECT_LE(experts * segments, kMaxUnits);
    for (int32_t tokens : {1, 31, 32, 33, 1000, 8192}) {
      EXPECT_EQ(SegmentTokens(tokens, segments) % 32, 0);
      EXPECT_GE(int64_t{SegmentTokens(tokens, segments)} * segments, tokens);
    }
  }
}

TEST(SegmentsTest, ExpertsBelow) {
  EXPECT_EQ(ExpertsBelow(~uint64_t{0}, 0), 0u);
  EXPECT_EQ(ExpertsBelow(0b1011, 3), 0b11u);
  EXPECT_EQ(ExpertsBelow(~uint64_t{0}, 63), ~uint64_t{0} >> 1);
}

TEST(RoutingTest, PiecesDoNotOverlapAndAreAligned) {
  for (const auto& [tokens, n, k] : {std::tuple{1, 8, 2}, {33, 64, 128}, {8192, 8, 3}}) {
    const size_t size = RoutingBytes(tokens, n, k);
    std::vector<uint64_t> memory(size / 8 + 32);
    auto base = reinterpret_cast<uintptr_t>(memory.data());
    base = (base + 255) / 256 * 256;
    const DeviceRouting r = PlaceRouting(reinterpret_cast<void*>(base), tokens, n, k);
    EXPECT_EQ(r.max_picks, std::min(n, k));
    const size_t rows = static_cast<size_t>(tokens) * r.max_picks;
    std::vector<std::pair<uintptr_t, size_t>> pieces;
    const auto add = [&](const auto* piece, size_t count) {
      ASSERT_THAT(piece, NotNull());
      pieces.emplace_back(reinterpret_cast<uintptr_t>(piece), sizeof(*piece) * count);
    };
    add(r.expert_begin, n + 1);
    add(r.active_experts, n);
    add(r.num_active_experts, 1);
    add(r.row_token, rows);
    add(r.row_weight, rows);
    add(r.token_rows, rows);
    add(r.num_token_rows, tokens);
    add(r.kept_experts, tokens);
    add(r.kept_weights, rows);
    std::sort(pieces.begin(), pieces.end());
    uintptr_t end = base;
    for (const auto& [start, bytes] : pieces) {
      EXPECT_EQ(start % 256, 0u);
      EXPECT_GE(start, end);
      end = start + bytes;
    }
    EXPECT_LE(end, base + size);
  }
}

// --- tiles in shared memory ---

TEST(SwizzleTest, IsABijectionWithinItsRow) {
  for (int32_t row = 0; row < 16; ++row) {
    std::set<int32_t> offsets;
    for (int32_t piece = 0; piece < 8; ++piece) {
      const int32_t offset = SwizzledOffset(row, piece);
      EXPECT_EQ(offset / kTileRowBytes, row);
      EXPECT_EQ(offset % 16, 0);
      offsets.insert(offset);
    }
    EXPECT_EQ(offsets.size(), 8u);
  }
}

// ldmatrix reads the same piece of 8 rows at once, a copy the 8 pieces of a row: both must meet all
// 32 banks once.
TEST(SwizzleTest, MeetsNoBankTwice) {
  for (int32_t piece = 0; piece < 8; ++piece) {
    std::set<int32_t> banks;
    for (int32_t row = 8; row < 16; ++row) banks.insert(SwizzledOffset(row, piece) / 16 % 8);
    EXPECT_EQ(banks.size(), 8u);
  }
}

TEST(SwizzleTest, IsTheHardwaresOnAddresses) {
  for (int32_t row = 0; row < 128; ++row) {
    for (int32_t piece = 0; piece < 8; ++piece) {
      const int32_t plain = row * kTileRowBytes + piece * 16;
      EXPECT_EQ(SwizzledOffset(row, piece), plain ^ (((plain >> 7) & 7) << 4));
    }
  }
}

TEST(DescriptorTest, HasItsFieldsInPlace) {
  const uint64_t descriptor = TileDescriptor(0x2c020);
  EXPECT_EQ(descriptor & 0x3fff, 0x2c02u);
  EXPECT_EQ((descriptor >> 16) & 0x3fff, 1u);
  EXPECT_EQ((descriptor >> 32) & 0x3fff, 64u);  // 1024 bytes between groups of 8 rows
  EXPECT_EQ(descriptor >> 49 & 7, 0u);          // the tile starts at a multiple of 1024
  EXPECT_EQ(descriptor >> 62, 1u);
}

// --- attention ---

TEST(KeysTest, AWindowOfWHoldsWKeys) {
  EXPECT_EQ(SeenKeys(9, 0).begin, 0);
  EXPECT_EQ(SeenKeys(9, 0).end, 10);
  EXPECT_EQ(SeenKeys(9, 4).begin, 6);
  EXPECT_EQ(SeenKeys(2, 4).begin, 0);
  for (int32_t window : {0, 1, 3, 20}) {
    for (int32_t position = 0; position < 12; ++position) {
      const KeyRange keys = SeenKeys(position, window);
      for (int32_t key = 0; key < 14; ++key) {
        EXPECT_EQ(Sees(position, window, key), key >= keys.begin && key < keys.end);
      }
    }
  }
  EXPECT_FALSE(Sees(-1, 0, 0));  // a row that is not there
}

TEST(KeysTest, SplitsAreAPartitionInOrder) {
  for (int32_t begin : {0, 7}) {
    for (int32_t length : {1, 31, 32, 33, 100, 4096, 32768}) {
      for (int32_t splits : {1, 2, 3, 16, kMaxSplits}) {
        int32_t next = begin;
        for (int32_t s = 0; s < splits; ++s) {
          const KeyRange part = SplitKeys({begin, begin + length}, s, splits);
          EXPECT_EQ(part.begin, next);
          EXPECT_LE(part.begin, part.end);
          next = part.end;
        }
        EXPECT_EQ(next, begin + length);
      }
    }
  }
}

TEST(KeysTest, LieWhereTheBlockTableSays) {
  const std::vector<int32_t> table = {5, 0, 9};
  // Block 9, slot 2 of 4, key head 1 of 2, 8 dimensions.
  EXPECT_EQ(KeyOffset(table.data(), 10, 4, 2, 1, 8), ((9 * 4 + 2) * 2 + 1) * 8);
  EXPECT_EQ(KeyOffset(table.data(), 0, 4, 2, 0, 8), 5 * 4 * 2 * 8);
  // A large cache: past 2^31 elements.
  const std::vector<int32_t> far = {1 << 20};
  EXPECT_EQ(KeyOffset(far.data(), 0, 16, 8, 0, 128), int64_t{1} << 34);
}

TEST(SplitsTest, FillTheDeviceWithinBounds) {
  EXPECT_EQ(ChooseSplits(1, 8, 32768, 132), 64);
  EXPECT_EQ(ChooseSplits(1, 8, 100, 132), 1);
  EXPECT_EQ(ChooseSplits(64, 8, 32768, 132), 1);
  EXPECT_EQ(ChooseSplits(8, 8, 32768, 132), 8);
  EXPECT_EQ(ChooseSplits(0, 8, 0, 132), 1);
  EXPECT_EQ(AttentionWorkspaceBytes(4, 32, 128, 1), 0u);
  EXPECT_EQ(AttentionWorkspaceBytes(4, 32, 128, 8), size_t{4} * 32 * 8 * (128 + 2) * 4);
}

TEST(PlanTest, GivesEveryTokenToOnePieceOfWork) {
  const std::vector<int32_t> begin = {0, 1, 1, 80, 81, 113, 115};
  for (int32_t head_dim : {64, 48}) {
    AttentionPlan plan;
    plan.decode.push_back({7, 7, 7});  // replaced
    PlanAttention(begin.data(), 6, 32, 8, head_dim, &plan);
    std::vector<int> seen(115, 0);
    const auto check = [&](const AttentionWork& work) {
      for (int32_t t = work.first_token; t < work.first_token + work.num_tokens; ++t) {
        ++seen[t];
        EXPECT_GE(t, begin[work.sequence]);
        EXPECT_LT(t, begin[work.sequence + 1]);
      }
    };
    for (const AttentionWork& work : plan.decode) {
      EXPECT_EQ(work.num_tokens, 1);
      check(work);
    }
    for (const AttentionWork& work : plan.prefill) {
      EXPECT_LE(work.num_tokens, PrefillTileTokens(32, 8));
      check(work);
    }
    EXPECT_THAT(seen, Each(1));
    if (head_dim == 48) {
      EXPECT_THAT(plan.prefill, IsEmpty());
    } else {
      EXPECT_EQ(plan.decode.size(), 2u);
    }
  }
}

TEST(LimitsTest, NameWhatTheyWouldNeed) {
  const ModelShape mixtral = {.hidden = 4096,
                              .intermediate = 14336,
                              .num_heads = 32,
                              .num_kv_heads = 8,
                              .head_dim = 128,
                              .num_experts = 8,
                              .num_null_experts = 8,
                              .experts_per_token = 3};
  EXPECT_EQ(UnsupportedBecause(mixtral), nullptr);
  const auto refused = [&](auto change) {
    ModelShape shape = mixtral;
    change(&shape);
    return UnsupportedBecause(shape);
  };
  EXPECT_STREQ(refused([](ModelShape* s) { s->hidden = 100; }),
               "hidden_size must be a multiple of 8 up to 16384");
  EXPECT_THAT(refused([](ModelShape* s) { s->intermediate = 14; }), NotNull());
  EXPECT_THAT(refused([](ModelShape* s) { s->head_dim = 264; }), NotNull());
  EXPECT_THAT(refused([](ModelShape* s) { s->num_heads = 20; }), NotNull());
  EXPECT_THAT(refused([](ModelShape* s) { s->num_experts = 65; }), NotNull());
  EXPECT_THAT(refused([](ModelShape* s) { s->num_null_experts = 65; }), NotNull());
  EXPECT_THAT(refused([](ModelShape* s) { s->experts_per_token = 17; }), NotNull());
}

}  // namespace
}  // namespace adamoe::cuda
