// The CUDA kernels' own code, emulated on the host under several schedules (emulator.h), through
// the checks that also run on a GPU.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/kernels/cuda/emulated/emulator.h"
#include "tests/gpu/kernel_checks.h"

namespace adamoe {
namespace {

using cuda::emulated::Order;
using cuda::emulated::Schedule;

struct Case {
  KernelCheck check;
  Schedule schedule;
};

std::string Name(const testing::TestParamInfo<Case>& info) {
  const Schedule& schedule = info.param.schedule;
  const char* order = schedule.order == Order::kAscending    ? "ascending"
                      : schedule.order == Order::kDescending ? "descending"
                                                             : "shuffled";
  return std::string(info.param.check.name) + "_" + order + (schedule.late ? "_late" : "_early");
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const KernelCheck& check : KernelChecks()) {
    cases.push_back({check, {Order::kAscending, true}});
    cases.push_back({check, {Order::kDescending, false}});
    cases.push_back({check, {Order::kShuffled, true}});
  }
  return cases;
}

class CudaKernelsTest : public testing::TestWithParam<Case> {};

TEST_P(CudaKernelsTest, AgreesWithTheReference) {
  cuda::emulated::SetSchedule(GetParam().schedule);
  EXPECT_THAT(Run(GetParam().check), testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Emulated, CudaKernelsTest, testing::ValuesIn(Cases()), Name);

}  // namespace
}  // namespace adamoe
