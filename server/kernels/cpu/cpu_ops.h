// The operations of ops.h on the CPU. Weights are read where they lie, in any of their types.
#ifndef ADAMOE_SERVER_KERNELS_CPU_CPU_OPS_H_
#define ADAMOE_SERVER_KERNELS_CPU_CPU_OPS_H_

#include <memory>

#include "server/base/thread_pool.h"
#include "server/kernels/cpu/isa.h"
#include "server/kernels/ops.h"

namespace adamoe {

struct CpuOptions {
  ThreadPool* pool = nullptr;  // not null; must outlive the ops
  Precision precision = Precision::kFloat32;
  Isa isa = BestIsa();
};

// REQUIRES: IsaSupported(options.isa). Results of different instruction sets differ in the last
// bits.
//
// Example:
//   ThreadPool pool(2);
//   auto ops = CreateCpuOps({.pool = &pool, .precision = FastestPrecision(BestIsa())});
std::unique_ptr<Ops> CreateCpuOps(const CpuOptions& options);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KERNELS_CPU_CPU_OPS_H_
