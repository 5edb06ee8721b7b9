// Attention over a paged cache whose blocks lie in disorder among blocks of NaN.
#include <algorithm>
#include <numeric>
#include <random>

#include "server/kernels/cuda/attention.h"
#include "tests/fakes/reference_ops.h"
#include "tests/gpu/kernels/check_values.h"
#include "tests/gpu/kernels/checks.h"
#include "tests/gpu/kernels/device_memory.h"

namespace adamoe {
namespace {

struct Heads {
  int32_t heads, kv_heads, head_dim;
};

// Tokens in this step and keys before them, of one sequence.
struct Chunk {
  int32_t tokens, before;
};

// A batch of chunks, its cache and its queries, on the host and on the device.
class Case {
 public:
  Case(const Heads& heads, const std::vector<Chunk>& chunks, int32_t block_size, int32_t window)
      : heads_(heads), block_size_(block_size), window_(window) {
    int32_t num_blocks = 0;
    token_begin_.push_back(0);
    for (const Chunk& chunk : chunks) {
      const int32_t blocks = (chunk.before + chunk.tokens + block_size - 1) / block_size;
      max_blocks_ = std::max(max_blocks_, blocks);
      num_blocks += blocks;
      token_begin_.push_back(token_begin_.back() + chunk.tokens);
      for (int32_t i = 0; i < chunk.tokens; ++i) positions_.push_back(chunk.before + i);
    }
    num_blocks_ = 2 * num_blocks;
    PlaceBlocks(chunks);
    queries_ = RandomFloats(num_tokens() * stride(), 11, 2.0f);
  }

  // Makes the queries numbers of bfloat16, as the tensor cores round them anyway: what is left of
  // the differences is the rounding of probabilities.
  void RoundQueries() { queries_ = ToFloat(ToBf16(queries_)); }

  int64_t num_tokens() const { return token_begin_.back(); }
  int64_t stride() const { return int64_t{heads_.heads + 2 * heads_.kv_heads} * heads_.head_dim; }
  const std::vector<int32_t>& token_begin() const { return token_begin_; }

  // Runs the plan's decode part with `splits`, then its prefill part; the rest stays untouched.
  std::vector<uint16_t> RunOnDevice(const cuda::AttentionPlan& plan, int32_t splits) const {
    const DeviceArray<float> queries(queries_);
    const DeviceArray<uint16_t> keys(keys_);
    const DeviceArray<uint16_t> values(values_);
    const DeviceArray<int32_t> positions(positions_);
    const DeviceArray<int32_t> tables(tables_);
    const DeviceArray<uint16_t> out(num_tokens() * heads_.heads * heads_.head_dim);
    std::vector<cuda::AttentionWork> decode_work = plan.decode;
    decode_work.push_back({0, 0, 0});  // a graph's spare entry
    const DeviceArray<cuda::AttentionWork> decode(decode_work);
    const DeviceArray<cuda::AttentionWork> prefill(plan.prefill);
    const auto num_decode = static_cast<int32_t>(decode_work.size());
    const DeviceArray<uint8_t> workspace(static_cast<int64_t>(
        cuda::AttentionWorkspaceBytes(num_decode, heads_.heads, heads_.head_dim, splits)));
    const cuda::AttentionArgs args{
        .queries = queries.get(),
        .query_stride = stride(),
        .num_heads = heads_.heads,
        .cache = {keys.get(), values.get(), block_size_, heads_.kv_heads, heads_.head_dim},
        .positions = positions.get(),
        .block_tables = tables.get(),
        .max_blocks = max_blocks_,
        .sliding_window = window_,
        .out = out.get()};
    ExpectLaunched(
        cuda::AttendDecode(args, decode.get(), num_decode, splits, workspace.get(), nullptr),
        "decode");
    if (!plan.prefill.empty()) {
      ExpectLaunched(cuda::AttendPrefill(args, prefill.get(),
                                         static_cast<int32_t>(plan.prefill.size()), nullptr),
                     "prefill");
    }
    return out.ToHost();
  }

  std::vector<float> Expected() const {
    std::vector<float> q;
    for (int64_t t = 0; t < num_tokens(); ++t) {
      const auto row = queries_.begin() + t * stride();
      q.insert(q.end(), row, row + int64_t{heads_.heads} * heads_.head_dim);
    }
    KvLayer cache{const_cast<uint16_t*>(keys_.data()),
                  const_cast<uint16_t*>(values_.data()),
                  DType::kBFloat16,
                  block_size_,
                  heads_.kv_heads,
                  heads_.head_dim};
    AttentionBatch batch{static_cast<int32_t>(token_begin_.size()) - 1,
                         token_begin_.data(),
                         positions_.data(),
                         tables_.data(),
                         max_blocks_,
                         window_};
    std::vector<float> out(q.size());
    ReferenceOps().Attention(q.data(), cache, batch, heads_.heads, out.data());
    return out;
  }

 private:
  // Every second block at random is a sequence's; the others, and slots past a context, are NaN.
  void PlaceBlocks(const std::vector<Chunk>& chunks) {
    const int64_t slot_size = int64_t{heads_.kv_heads} * heads_.head_dim;
    const int64_t size = int64_t{num_blocks_} * block_size_ * slot_size;
    keys_.assign(size, 0xffff);
    values_.assign(size, 0xffff);
    std::vector<int32_t> order(num_blocks_);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(3));
    tables_.assign(chunks.size() * max_blocks_, 0);
    size_t next = 0;
    for (size_t s = 0; s < chunks.size(); ++s) {
      const int32_t context = chunks[s].before + chunks[s].tokens;
      for (int32_t p = 0; p < context; ++p) {
        int32_t& block = tables_[s * max_blocks_ + p / block_size_];
        if (p % block_size_ == 0) block = order[next++];
        const int64_t at = (int64_t{block} * block_size_ + p % block_size_) * slot_size;
        const auto seed = static_cast<uint32_t>(1000 * s + p);
        const auto key = RandomBf16(slot_size, 2 * seed);
        const auto value = RandomBf16(slot_size, 2 * seed + 1);
        std::copy(key.begin(), key.end(), keys_.begin() + at);
        std::copy(value.begin(), value.end(), values_.begin() + at);
      }
    }
  }

  const Heads heads_;
  const int32_t block_size_;
  const int32_t window_;
  int32_t num_blocks_ = 0;
  int32_t max_blocks_ = 0;
  std::vector<int32_t> token_begin_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> tables_;
  std::vector<uint16_t> keys_, values_;
  std::vector<float> queries_;
};

cuda::AttentionPlan PlanOf(const Case& c, const Heads& heads) {
  cuda::AttentionPlan plan;
  cuda::PlanAttention(c.token_begin().data(), static_cast<int32_t>(c.token_begin().size()) - 1,
                      heads.heads, heads.kv_heads, heads.head_dim, &plan);
  return plan;
}

std::string Name(const Heads& h, int32_t window, int32_t splits) {
  return "attention of " + std::to_string(h.heads) + "/" + std::to_string(h.kv_heads) +
         " heads of " + std::to_string(h.head_dim) + ", window " + std::to_string(window) +
         ", splits " + std::to_string(splits);
}

}  // namespace

// Results are rounded to bfloat16; values lie in (-1, 1).
constexpr double kDecodeTolerance = 0.005;
constexpr double kPrefillTolerance = 0.02;  // queries and probabilities are rounded as well

void CheckDecodeAttention() {
  for (const Heads& h : {Heads{4, 2, 8},
                         {8, 4, 32},
                         {2, 2, 64},
                         {4, 1, 128},
                         {8, 1, 128},
                         {6, 2, 24},
                         {3, 1, 80},
                         {2, 1, 256}}) {
    for (int32_t window : {0, 5}) {
      for (int32_t splits : {1, 3}) {
        const Case c(h, {{1, 0}, {1, 36}, {1, 7}, {1, 130}}, 16, window);
        ExpectNear(ToFloat(c.RunOnDevice(PlanOf(c, h), splits)), c.Expected(), kDecodeTolerance,
                   Name(h, window, splits));
      }
    }
  }
}

void CheckPrefillAttention() {
  for (const Heads& h : {Heads{8, 4, 32}, {4, 1, 64}, {3, 1, 128}, {2, 2, 128}}) {
    for (int32_t window : {0, 20}) {
      const Case c(h, {{37, 0}, {2, 70}, {70, 3}}, 5, window);
      const cuda::AttentionPlan plan = PlanOf(c, h);
      Expect(plan.decode.empty() && plan.prefill.size() >= 3, "chunks are tiles");
      ExpectNear(ToFloat(c.RunOnDevice(plan, 1)), c.Expected(), kPrefillTolerance,
                 Name(h, window, 0));
    }
  }
}

// Windows that begin and end at any place of a tile of keys (64), over several tiles of keys and of
// queries, and reach back beyond this step. A key too many or too few of a hundred moves some
// output by 0.01 and more; probabilities and outputs are rounded to a 256th of themselves or less.
void CheckWindowedPrefillAttention() {
  constexpr double kTolerance = 0.006;
  const auto check = [](const Heads& h, int32_t window) {
    Case c(h, {{3, 61}, {140, 130}, {66, 0}, {2, 190}}, 16, window);
    c.RoundQueries();
    ExpectNear(ToFloat(c.RunOnDevice(PlanOf(c, h), 1)), c.Expected(), kTolerance,
               Name(h, window, 0));
  };
  for (int32_t window : {1, 2, 24, 63, 64, 65, 100, 128}) check({2, 2, 32}, window);
  for (int32_t window : {24, 64, 65, 100}) check({8, 2, 32}, window);
  for (const Heads& h : {Heads{5, 1, 32}, {2, 1, 64}, {2, 1, 128}}) check(h, 65);
}

void CheckMixedAttention() {
  // A head the tensor cores do not take: chunks are decoded, token by token.
  for (const Heads& h : {Heads{4, 2, 64}, {4, 2, 48}}) {
    const Case c(h, {{1, 40}, {9, 3}, {1, 0}, {3, 0}}, 4, 0);
    ExpectNear(ToFloat(c.RunOnDevice(PlanOf(c, h), 2)), c.Expected(), kPrefillTolerance,
               Name(h, 0, 2));
  }
}

}  // namespace adamoe
