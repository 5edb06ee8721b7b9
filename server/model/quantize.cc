#include "server/model/quantize.h"

#include <memory>
#include <utility>
#include <vector>

#include "server/kernels/packed.h"
#include "server/model/tensors.h"

namespace adamoe {
namespace {

struct alignas(64) CacheLine {
  uint8_t bytes[64];
};

// What the views of quantised weights point into.
struct Memory {
  std::shared_ptr<const void> loaded;
  std::vector<std::unique_ptr<CacheLine[]>> data;
  std::vector<std::unique_ptr<uint16_t[]>> scales;
};

class Quantizer {
 public:
  Quantizer(ThreadPool& pool, Memory& memory) : pool_(pool), memory_(memory) {}

  void Replace(DType dtype, TensorView& view) {
    const Matrix w = AsMatrix(view);
    const PackedSize size = PackedSizeOf(dtype, w.rows, w.cols);
    const int64_t num_bytes = size.num_blocks * size.bytes_per_block;
    memory_.data.push_back(
        std::make_unique_for_overwrite<CacheLine[]>(num_bytes / sizeof(CacheLine)));
    memory_.scales.push_back(
        std::make_unique_for_overwrite<uint16_t[]>(size.num_blocks * size.scales_per_block));
    auto* data = memory_.data.back()[0].bytes;
    uint16_t* scales = memory_.scales.back().get();
    pool_.ParallelFor(size.num_blocks, 1, [&](int64_t first, int64_t last) {
      Pack(w, dtype, first, last, data, scales);
    });
    view.data = data;
    view.dtype = dtype;
    view.scales = scales;
    view.in_file = false;
  }

 private:
  ThreadPool& pool_;
  Memory& memory_;
};

}  // namespace

void Quantize(DType dtype, ThreadPool& pool, MixtralWeights& weights) {
  auto memory = std::make_shared<Memory>();
  memory->loaded = std::move(weights.owner);
  Quantizer quantizer(pool, *memory);
  for (MixtralLayerWeights& layer : weights.layers) {
    for (TensorView* view : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj})
      quantizer.Replace(dtype, *view);
    for (MixtralLayerWeights::Expert& expert : layer.experts) {
      for (TensorView* view : {&expert.w1, &expert.w2, &expert.w3}) quantizer.Replace(dtype, *view);
    }
  }
  quantizer.Replace(DType::kInt8, weights.lm_head);
  weights.owner = std::move(memory);
}

}  // namespace adamoe
