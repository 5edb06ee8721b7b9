// The instruction sets the CPU kernels are compiled for, and which of them this processor runs.
// Pure and thread-safe.
#ifndef ADAMOE_SERVER_KERNELS_CPU_ISA_H_
#define ADAMOE_SERVER_KERNELS_CPU_ISA_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/kernels/ops.h"

namespace adamoe {

// Each includes the ones before it.
enum class Isa : uint8_t {
  kScalar,      // what the compiler emits without flags; runs everywhere
  kAvx2,        // AVX2, FMA and F16C
  kAvx512,      // AVX-512 F, BW, DQ and VL
  kAvx512Vnni,  // and its integer dot product
  kAvx512Bf16,  // and its bfloat16 dot product
  kAmx          // and AMX tiles with products of bfloat16
};
constexpr Isa kAllIsas[] = {Isa::kScalar,     Isa::kAvx2,       Isa::kAvx512,
                            Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAmx};

// "scalar", "avx2", "avx512", "avx512vnni", "avx512bf16" or "amx".
const char* Name(Isa isa);

// Whether this build has the kernels and this processor and operating system run them. Asks the
// operating system for the use of tiles, which a process must before its first.
bool IsaSupported(Isa isa);

// The last supported one.
Isa BestIsa();

// The instruction set of that name. INVALID_ARGUMENT for another name, FAILED_PRECONDITION when it
// is not supported here.
absl::StatusOr<Isa> ParseIsa(absl::string_view name);

// bfloat16 where products of bfloat16 are the faster ones, else float32.
Precision FastestPrecision(Isa isa);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_ISA_H_
