// The experts of a layer over routed tokens: rows_out[row] = w2 (silu(w1 x) * w3 x) of the row's
// token, unweighted; CombineRmsNorm (elementwise.h) brings them home. The contracts at the top of
// cuda_types.h hold.
//
// Two forms with the same arguments and the same roundings, chosen by the host from the number of
// tokens. Both read the routing on the device: an expert without rows costs no weight bytes, a null
// pick appears nowhere. Rows at and past expert_begin[n] are neither read nor written.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_EXPERTS_H_
#define ADAMOE_SERVER_KERNELS_CUDA_EXPERTS_H_

#include <cstddef>
#include <cstdint>

#include "server/kernels/cuda/cuda_types.h"
#include "server/kernels/cuda/router.h"

namespace adamoe::cuda {

struct ExpertsArgs {
  int32_t hidden = 0;         // a multiple of 8
  int32_t intermediate = 0;   // a multiple of 8
  const Bf16* w1 = nullptr;   // [n, intermediate, hidden]
  const Bf16* w3 = nullptr;   // [n, intermediate, hidden]
  const Bf16* w2 = nullptr;   // [n, hidden, intermediate]
  const Bf16* x = nullptr;    // [num_tokens, hidden]
  Bf16* inner = nullptr;      // [max_rows, intermediate], scratch
  float* rows_out = nullptr;  // [max_rows, hidden]
  // Counts, added to where the work happens; the caller clears them at the start of a step.
  // Of this layer and token t at executed[t * slot_stride]: for ForwardResult's [num_tokens,
  // num_layers], pass base + layer and num_layers. Bytes are counted by adding to the 4-byte word
  // around them, so `executed` less its offset, and the whole buffer's size, are multiples of 4.
  uint8_t* executed = nullptr;
  int64_t slot_stride = 0;
  uint32_t* expert_rows = nullptr;  // [n], of this layer (4-byte aligned)
};

// Up to this many tokens, ExpertsDecode is the faster one (expected; tests/gpu measures).
constexpr int32_t kDecodeExpertsMaxTokens = 128;

// Bound by reading each active expert's weights once per 64 of its rows. Right for any number of
// tokens.
cudaError_t ExpertsDecode(const ExpertsArgs& args, const DeviceRouting& routing,
                          cudaStream_t stream);

// Which instructions multiply in ExpertsPrefill. kMmaSync runs on every device since sm_80 and is
// what kWgmma is compared with; kWgmma needs sm_90a and is several times faster.
enum class GemmInstruction : uint8_t { kWgmma, kMmaSync };

// Bound by multiplying: 128 rows by 256 outputs at a time. Right for any number of tokens.
cudaError_t ExpertsPrefill(const ExpertsArgs& args, const DeviceRouting& routing,
                           GemmInstruction instruction, cudaStream_t stream);

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_EXPERTS_H_
