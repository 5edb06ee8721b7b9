#include "server/base/huge_buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <new>

namespace adamoe {
namespace {

TEST(HugeBufferTest, IsAlignedZeroAndWritableFromEndToEnd) {
  for (const size_t num_bytes : {size_t{1}, size_t{2} << 20, (size_t{5} << 20) + 7}) {
    const HugeBuffer buffer(num_bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % (2 << 20), 0u);
    EXPECT_TRUE(std::all_of(buffer.data(), buffer.data() + num_bytes,
                            [](uint8_t byte) { return byte == 0; }));
    std::fill_n(buffer.data(), num_bytes, uint8_t{255});
    EXPECT_EQ(buffer.data()[num_bytes - 1], 255);
  }
}

TEST(HugeBufferTest, WhatCannotBeHadThrows) {
  EXPECT_THROW(HugeBuffer(size_t{1} << 60), std::bad_alloc);
}

}  // namespace
}  // namespace adamoe
