#include "server/kv_cache/kv_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <string>

namespace adamoe {
namespace {

using testing::HasSubstr;

KvStoreShape Small() {
  return {.num_layers = 3,
          .num_blocks = 5,
          .block_size = 2,
          .num_kv_heads = 1,
          .head_dim = 3,
          .dtype = DType::kBFloat16};
}

size_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total = 0;
  size_t resident = 0;
  statm >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

TEST(KvStoreTest, LayersAndTheirKeysAndValuesDoNotOverlap) {
  const auto store = KvStore::Create(Small());
  ASSERT_TRUE(store.ok()) << store.status();
  constexpr size_t kBytes = 5 * 2 * 1 * 3 * 2;
  for (int layer = 0; layer < 3; ++layer) {
    std::memset((*store)->keys(layer), 2 * layer + 1, kBytes);
    std::memset((*store)->values(layer), 2 * layer + 2, kBytes);
  }
  for (int layer = 0; layer < 3; ++layer) {
    const std::string keys(static_cast<const char*>((*store)->keys(layer)), kBytes);
    const std::string values(static_cast<const char*>((*store)->values(layer)), kBytes);
    EXPECT_EQ(keys, std::string(kBytes, static_cast<char>(2 * layer + 1)));
    EXPECT_EQ(values, std::string(kBytes, static_cast<char>(2 * layer + 2)));
  }
}

TEST(KvStoreTest, EveryLayerIsAligned) {
  const auto store = KvStore::Create(Small());
  ASSERT_TRUE(store.ok()) << store.status();
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*store)->keys(layer)) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*store)->values(layer)) % 64, 0u);
  }
}

TEST(KvStoreTest, ALargeCacheReadsZeroAndCostsWhatIsTouched) {
  const size_t before = ResidentBytes();
  const auto store = KvStore::Create({.num_layers = 8,
                                      .num_blocks = 4096,
                                      .block_size = 16,
                                      .num_kv_heads = 8,
                                      .head_dim = 128,
                                      .dtype = DType::kFloat32});
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->num_bytes(), size_t{8} * 2 * 4096 * 16 * 8 * 128 * 4);
  for (int layer = 0; layer < 8; ++layer) {
    float* keys = static_cast<float*>((*store)->keys(layer));
    EXPECT_EQ(keys[123], 0.0f);
    keys[123] = 1.0f;
  }
  // At most one page of 2 MiB each.
  EXPECT_LT(ResidentBytes(), before + (size_t{24} << 20));
}

TEST(KvStoreTest, RefusesEmptyDimensions) {
  KvStoreShape shape = Small();
  shape.num_kv_heads = 0;
  const absl::Status status = KvStore::Create(shape).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("num_kv_heads is 0"));
}

TEST(KvStoreTest, RefusesMoreThanTheAddressSpace) {
  constexpr int32_t kHuge = std::numeric_limits<int32_t>::max();
  KvStoreShape shape = Small();
  shape.num_blocks = kHuge;
  shape.num_kv_heads = kHuge;
  EXPECT_EQ(KvStore::Create(shape).status().code(), absl::StatusCode::kResourceExhausted);
  shape.head_dim = kHuge;
  EXPECT_EQ(KvStore::Create(shape).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace adamoe
