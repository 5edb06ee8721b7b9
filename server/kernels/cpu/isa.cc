#include "server/kernels/cpu/isa.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

#if defined(__x86_64__)
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool HasAvx512Vnni() { return HasAvx512() && __builtin_cpu_supports("avx512vnni"); }

bool HasAvx512Bf16() { return HasAvx512Vnni() && __builtin_cpu_supports("avx512bf16"); }

bool HasAmx() {
#if defined(__linux__)
  static const bool has_amx = [] {
    constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;  // of leaf 7, EDX
    constexpr int kRequestPermission = 0x1023, kTileData = 18;    // of arch_prctl
    unsigned a, b, c, d;
    return HasAvx512Bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAmxBf16) != 0 &&
           (d & kAmxTile) != 0 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return has_amx;
#else
  return false;
#endif
}
#else
bool HasAvx2() { return false; }
bool HasAvx512() { return false; }
bool HasAvx512Vnni() { return false; }
bool HasAvx512Bf16() { return false; }
bool HasAmx() { return false; }
#endif

}  // namespace

const char* Name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "unknown";
}

bool IsaSupported(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return HasAvx2();
    case Isa::kAvx512:
      return HasAvx512();
    case Isa::kAvx512Vnni:
      return HasAvx512Vnni();
    case Isa::kAvx512Bf16:
      return HasAvx512Bf16();
    case Isa::kAmx:
      return HasAmx();
  }
  return false;
}

Isa BestIsa() {
  Isa best = Isa::kScalar;
  for (Isa isa : kAllIsas) {
    if (IsaSupported(isa)) best = isa;
  }
  return best;
}

absl::StatusOr<Isa> ParseIsa(absl::string_view name) {
  for (Isa isa : kAllIsas) {
    if (name != Name(isa)) continue;
    if (IsaSupported(isa)) return isa;
    return absl::FailedPreconditionError(
        absl::StrCat("this processor does not run the instruction set ", name));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown instruction set '", name,
                   "': want scalar, avx2, avx512, avx512vnni, avx512bf16 or amx"));
}

Precision FastestPrecision(Isa isa) {
  return isa >= Isa::kAvx512Bf16 ? Precision::kBFloat16 : Precision::kFloat32;
}

}  // namespace adamoe
