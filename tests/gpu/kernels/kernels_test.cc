// The checks of the CUDA kernels as tests. Where the kernels are emulated, under several schedules
// (emulator.h).
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gpu/kernels/kernel_checks.h"

#if defined(ADAMOE_CUDA_EMULATED)
#include "server/kernels/cuda/emulated/emulator.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace adamoe {
namespace {

#if defined(ADAMOE_CUDA_EMULATED)

using cuda::emulated::Order;
using cuda::emulated::Schedule;

struct Setting {
  const char* name;
  Schedule schedule;
};

const Setting kSettings[] = {{"ascending_late", {Order::kAscending, true}},
                             {"descending_early", {Order::kDescending, false}},
                             {"shuffled_late", {Order::kShuffled, true}}};

bool Prepare(const Setting& setting) {
  cuda::emulated::SetSchedule(setting.schedule);
  return true;
}

#else

struct Setting {
  const char* name;
};

const Setting kSettings[] = {{"gpu"}};

bool Prepare(const Setting&) {
  int num_devices = 0;
  return cudaGetDeviceCount(&num_devices) == cudaSuccess && num_devices > 0;
}

#endif

struct Case {
  KernelCheck check;
  Setting setting;
};

void PrintTo(const Case& c, std::ostream* os) { *os << c.check.name << " " << c.setting.name; }

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const KernelCheck& check : KernelChecks()) {
    for (const Setting& setting : kSettings) cases.push_back({check, setting});
  }
  return cases;
}

class KernelsTest : public testing::TestWithParam<Case> {};

TEST_P(KernelsTest, AgreesWithTheReference) {
  if (!Prepare(GetParam().setting)) GTEST_SKIP() << "no GPU";
  EXPECT_THAT(RunKernelCheck(GetParam().check), testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Cuda, KernelsTest, testing::ValuesIn(Cases()), [](const auto& info) {
  return std::string(info.param.check.name) + "_" + info.param.setting.name;
});

}  // namespace
}  // namespace adamoe
