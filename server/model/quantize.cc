#include "server/model/quantize.h"

#include <memory>
#include <utility>
#include <vector>

#include "server/base/huge_buffer.h"
#include "server/kernels/packed.h"
#include "server/model/tensors.h"

namespace adamoe {
namespace {

constexpr int64_t kCacheLine = 64;

// What the views of quantised weights point into.
struct Memory {
  Memory(std::shared_ptr<const void> owner, int64_t num_bytes)
      : loaded(std::move(owner)), packed(static_cast<size_t>(num_bytes)) {}

  const std::shared_ptr<const void> loaded;
  const HugeBuffer packed;
};

// A matrix to quantise, and where it goes.
struct Job {
  TensorView* view;
  DType dtype;
  PackedSize size;
  int64_t data;  // offsets in bytes
  int64_t scales;
};

class Plan {
 public:
  void Add(DType dtype, TensorView& view) {
    const Matrix w = AsMatrix(view);
    const PackedSize size = PackedSizeOf(dtype, w.rows, w.cols);
    const int64_t data = Take(size.num_blocks * size.bytes_per_block);
    const int64_t scales =
        Take(size.num_blocks * size.scales_per_block * int64_t{sizeof(uint16_t)});
    jobs_.push_back({&view, dtype, size, data, scales});
  }

  const std::vector<Job>& jobs() const { return jobs_; }
  int64_t num_bytes() const { return num_bytes_; }

 private:
  int64_t Take(int64_t num_bytes) {
    const int64_t begin = num_bytes_;
    num_bytes_ += (num_bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    return begin;
  }

  std::vector<Job> jobs_;
  int64_t num_bytes_ = 0;
};

void Run(const Job& job, uint8_t* memory, ThreadPool& pool) {
  const Matrix w = AsMatrix(*job.view);
  uint8_t* data = memory + job.data;
  auto* scales = reinterpret_cast<uint16_t*>(memory + job.scales);
  pool.ParallelFor(job.size.num_blocks, 1, [&](int64_t first, int64_t last) {
    Pack(w, job.dtype, first, last, data, scales);
  });
  job.view->data = data;
  job.view->dtype = job.dtype;
  job.view->scales = scales;
  job.view->in_file = false;
}

}  // namespace

void Quantize(DType dtype, ThreadPool& pool, MixtralWeights& weights) {
  Plan plan;
  for (MixtralLayerWeights& layer : weights.layers) {
    for (TensorView* view : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj})
      plan.Add(dtype, *view);
    for (MixtralLayerWeights::Expert& expert : layer.experts) {
      for (TensorView* view : {&expert.w1, &expert.w2, &expert.w3}) plan.Add(dtype, *view);
    }
  }
  plan.Add(DType::kInt8, weights.lm_head);
  auto memory = std::make_shared<Memory>(std::move(weights.owner), plan.num_bytes());
  for (const Job& job : plan.jobs()) Run(job, memory->packed.data(), pool);
  weights.owner = std::move(memory);
}

}  // namespace adamoe
