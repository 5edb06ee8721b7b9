// Attention over the paged cache, against plain loops and against itself in other batches.
#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/reference_ops.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace adamoe {
namespace {

struct Shape {
  int32_t num_heads = 4;
  int32_t num_kv_heads = 2;
  int32_t head_dim = 16;
  int32_t block_size = 16;
  int32_t sliding_window = 0;
  DType dtype = DType::kFloat32;
};

// Positions [begin, end) of a sequence are in the batch; [0, end) are in the cache.
struct Span {
  int32_t begin;
  int32_t end;
};

// Sequences with caches whose unused slots, and blocks that no token sees, hold NaN.
class Scene {
 public:
  Scene(const Shape& shape, const std::vector<Span>& spans, int32_t max_blocks = 0)
      : shape_(shape), spans_(spans), max_blocks_(max_blocks) {
    for (const Span& span : spans) {
      max_blocks_ = std::max(max_blocks_, (span.end + shape.block_size - 1) / shape.block_size);
    }
    num_blocks_ = static_cast<int32_t>(spans.size()) * max_blocks_;
    const int64_t size = static_cast<int64_t>(num_blocks_) * shape.block_size * SlotSize();
    keys_ = std::make_unique<GuardedTensor>(GuardedTensor::Poisoned(size, shape.dtype));
    values_ = std::make_unique<GuardedTensor>(GuardedTensor::Poisoned(size, shape.dtype));
    FillTables();
    FillCache();
    FillQueries();
  }

  std::vector<float> Run(Ops* ops) const {
    const AttentionBatch batch{.num_sequences = static_cast<int32_t>(spans_.size()),
                               .token_begin = token_begin_.data(),
                               .positions = positions_.data(),
                               .block_tables = tables_.data(),
                               .max_blocks = max_blocks_,
                               .sliding_window = shape_.sliding_window};
    GuardedTensor out = GuardedTensor::Poisoned(static_cast<int64_t>(queries_.size()));
    GuardedTensor q = GuardedTensor::Poisoned(static_cast<int64_t>(queries_.size()));
    std::copy(queries_.begin(), queries_.end(), q.floats());
    ops->Attention(q.floats(), Cache(), batch, shape_.num_heads, out.floats());
    return out.ToVector();
  }

  // Output rows of one sequence's position.
  std::vector<float> At(const std::vector<float>& out, int32_t sequence, int32_t position) const {
    const int64_t width = shape_.num_heads * shape_.head_dim;
    const auto row =
        out.begin() + (token_begin_[sequence] + position - spans_[sequence].begin) * width;
    return std::vector<float>(row, row + width);
  }

 private:
  int64_t SlotSize() const { return static_cast<int64_t>(shape_.num_kv_heads) * shape_.head_dim; }

  KvLayer Cache() const {
    return {keys_->data(),     values_->data(),     shape_.dtype,
            shape_.block_size, shape_.num_kv_heads, shape_.head_dim};
  }

  // Blocks in shuffled order. Block ids of what no token sees any more are invalid.
  void FillTables() {
    tables_.resize(num_blocks_);
    std::iota(tables_.begin(), tables_.end(), 0);
    std::shuffle(tables_.begin(), tables_.end(), std::mt19937(17));
  }

  void FillCache() {
    for (size_t s = 0; s < spans_.size(); ++s) {
      const int32_t w = shape_.sliding_window;
      const int32_t first_seen = w > 0 ? std::max(spans_[s].begin - w + 1, 0) : 0;
      for (int32_t p = first_seen; p < spans_[s].end; ++p) {
        const int32_t slot = tables_[s * max_blocks_ + p / shape_.block_size] * shape_.block_size +
                             p % shape_.block_size;
        const std::vector<float> key = RandomRow(1000 * s + p, SlotSize());
        const std::vector<float> value = RandomRow(500000 + 1000 * s + p, SlotSize());
        ReferenceOps().AppendKv(key.data(), value.data(), &slot, 1, Cache());
      }
      for (int32_t b = 0; b < first_seen / shape_.block_size; ++b) {
        tables_[s * max_blocks_ + b] = -1000000000;
      }
    }
  }

  void FillQueries() {
    token_begin_.push_back(0);
    for (size_t s = 0; s < spans_.size(); ++s) {
      for (int32_t p = spans_[s].begin; p < spans_[s].end; ++p) {
        positions_.push_back(p);
        const std::vector<float> q =
            RandomRow(900000 + 1000 * s + p, shape_.num_heads * shape_.head_dim);
        queries_.insert(queries_.end(), q.begin(), q.end());
      }
      token_begin_.push_back(static_cast<int32_t>(positions_.size()));
    }
  }

  static std::vector<float> RandomRow(uint32_t seed, int64_t n) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> row(n);
    for (float& x : row) x = normal(random);
    return row;
  }

  const Shape shape_;
  const std::vector<Span> spans_;
  int32_t max_blocks_;
  int32_t num_blocks_ = 0;
  std::unique_ptr<GuardedTensor> keys_, values_;
  std::vector<int32_t> tables_;
  std::vector<int32_t> token_begin_;
  std::vector<int32_t> positions_;
  std::vector<float> queries_;
};

class AttentionTest : public DeviceTest {
 protected:
  void Check(const Shape& shape, const std::vector<Span>& spans) {
    SCOPED_TRACE(testing::Message()
                 << shape.num_heads << " heads on " << shape.num_kv_heads << ", head_dim "
                 << shape.head_dim << ", block " << shape.block_size << ", window "
                 << shape.sliding_window << ", " << Name(shape.dtype));
    const Scene scene(shape, spans);
    ReferenceOps reference;
    EXPECT_LE(LargestError(scene.Run(ops_.operator->()), scene.Run(&reference)), 1e-5);
  }

  TestOps ops_{GetParam()};
};

const std::vector<Span> kMixed = {{0, 1},     {0, 33}, {40, 41},  {63, 66},
                                  {130, 140}, {0, 0},  {200, 201}};

TEST_P(AttentionTest, AgreesOverHeadShapes) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (int32_t head_dim : {2, 6, 16, 30, 64, 80, 128}) {
      Check({.head_dim = head_dim, .dtype = dtype}, kMixed);
    }
    Check({.num_heads = 1, .num_kv_heads = 1, .dtype = dtype}, kMixed);
    Check({.num_heads = 6, .num_kv_heads = 6, .dtype = dtype}, kMixed);
    Check({.num_heads = 10, .num_kv_heads = 2, .dtype = dtype}, kMixed);
    Check({.num_heads = 71, .num_kv_heads = 1, .head_dim = 8, .dtype = dtype}, kMixed);
  }
}

TEST_P(AttentionTest, AgreesOverBlockSizes) {
  for (int32_t block_size : {1, 3, 8, 16, 32, 100}) Check({.block_size = block_size}, kMixed);
}

TEST_P(AttentionTest, AgreesOverWindows) {
  for (int32_t window : {1, 2, 5, 16, 63, 64, 65, 1000}) {
    Check({.sliding_window = window}, kMixed);
    Check({.block_size = 3, .sliding_window = window, .dtype = DType::kBFloat16}, kMixed);
  }
}

TEST_P(AttentionTest, AgreesOnALongContext) { Check({}, {{2990, 3000}, {0, 200}}); }

// Also when a row of the block table is longer than any context.
TEST_P(AttentionTest, IsTheSameInChunksAloneAndOnAnyNumberOfThreads) {
  for (int32_t window : {0, 20}) {
    const Shape shape{.num_heads = 6, .head_dim = 24, .sliding_window = window};
    const Scene whole(shape, {{0, 150}, {0, 90}});
    const std::vector<float> expected = whole.Run(ops_.operator->());
    for (int threads : {1, 3}) {
      TestOps ops(GetParam(), threads);
      for (const auto& [begin, end] :
           {std::pair<int32_t, int32_t>{0, 1}, {0, 64}, {64, 150}, {1, 98}, {149, 150}, {77, 80}}) {
        const Scene part(shape, {{begin, end}}, 40);
        const std::vector<float> actual = part.Run(ops.operator->());
        for (int32_t p = begin; p < end; ++p) {
          ASSERT_EQ(part.At(actual, 0, p), whole.At(expected, 0, p))
              << "position " << p << " of [" << begin << ", " << end << ")";
        }
      }
    }
  }
}

TEST_P(AttentionTest, ReadsNoScratchItHasNotWritten) {
  for (int32_t window : {0, 20}) {
    const Scene scene({.head_dim = 30, .sliding_window = window}, kMixed);
    const std::vector<float> expected = scene.Run(ops_.operator->());
    TestOps ops(GetParam(), 1);
    PoisonScratch();
    EXPECT_EQ(scene.Run(ops.operator->()), expected) << "window " << window;
  }
}

TEST_P(AttentionTest, OfOneKeyIsItsValue) {
  const std::vector<float> q(8, 100.0f), key(8, -100.0f);
  std::vector<float> keys(key), values = {1, 2, 3, 4, 5, 6, 7, 8}, out(8);
  const std::vector<int32_t> token_begin = {0, 1}, positions = {0}, table = {0};
  ops_->Attention(q.data(), {keys.data(), values.data(), DType::kFloat32, 1, 1, 8},
                  {1, token_begin.data(), positions.data(), table.data(), 1, 0}, 1, out.data());
  EXPECT_EQ(out, values);
}

TEST_P(AttentionTest, OfNoSequencesDoesNothing) {
  const int32_t zero = 0;
  ops_->Attention(nullptr, {nullptr, nullptr, DType::kFloat32, 16, 2, 8},
                  {0, &zero, nullptr, nullptr, 0, 0}, 4, nullptr);
}

ADAMOE_ON_ALL_DEVICES(AttentionTest);

}  // namespace
}  // namespace adamoe
