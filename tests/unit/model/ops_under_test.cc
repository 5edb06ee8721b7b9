#include "tests/unit/model/ops_under_test.h"

#include "server/base/thread_pool.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/kernels/cpu/isa.h"

namespace adamoe {

std::vector<OpsUnderTest> OpsOf(Precision precision, int num_threads) {
  std::vector<OpsUnderTest> all;
  const auto pool = std::make_shared<ThreadPool>(num_threads);
  for (Isa isa : kAllIsas) {
    if (!IsaSupported(isa)) continue;
    all.push_back({Name(isa), [pool, precision, isa] {
                     return CreateCpuOps({.pool = pool.get(), .precision = precision, .isa = isa});
                   }});
  }
  return all;
}

}  // namespace adamoe
