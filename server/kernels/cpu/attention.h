// Attention and the writing of the paged cache, on the CPU.
#ifndef ADAMOE_SERVER_KERNELS_CPU_ATTENTION_H_
#define ADAMOE_SERVER_KERNELS_CPU_ATTENTION_H_

#include <cstdint>

#include "server/kernels/cpu/product.h"
#include "server/kernels/ops.h"

namespace adamoe {

// See Ops::AppendKv.
void AppendToCache(const CpuContext& context, const float* keys, const float* values,
                   const int32_t* slots, int64_t num_tokens, const KvLayer& cache);

// See Ops::Attention.
void RunAttention(const CpuContext& context, const float* q, const KvLayer& cache,
                  const AttentionBatch& batch, int32_t num_heads, float* out);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_ATTENTION_H_
