// What the kernel tests share: memory that ends at an unreadable page, random tensors, and the grid
// of instruction sets.
#ifndef ADAMOE_TESTS_UNIT_KERNELS_KERNEL_TESTING_H_
#define ADAMOE_TESTS_UNIT_KERNELS_KERNEL_TESTING_H_

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/base/thread_pool.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/kernels/ops.h"

namespace adamoe {

// `num_bytes` whose last byte is the last of its page; the page after it cannot be touched. What
// comes before, back to the start of the first page, is all ones: NaN in every type.
class GuardedMemory {
 public:
  explicit GuardedMemory(size_t num_bytes);
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  void* data() const { return data_; }

 private:
  uint8_t* mapping_;
  size_t mapped_;
  void* data_;
};

// [n] of a type, guarded. Random elements lie in (-1, 1).
class GuardedTensor {
 public:
  static GuardedTensor Random(int64_t n, DType dtype, uint32_t seed);
  // Every element NaN.
  static GuardedTensor Poisoned(int64_t n, DType dtype = DType::kFloat32);

  int64_t size() const { return size_; }
  DType dtype() const { return dtype_; }
  void* data() const { return memory_->data(); }
  float* floats() const { return static_cast<float*>(data()); }
  // The elements, widened.
  std::vector<float> ToVector() const;
  Matrix AsMatrix(int64_t rows, int64_t cols) const { return {data(), dtype_, rows, cols}; }
  // Hands the memory over.
  std::unique_ptr<GuardedMemory> Release() && { return std::move(memory_); }

 private:
  GuardedTensor(int64_t n, DType dtype);

  int64_t size_;
  DType dtype_;
  std::unique_ptr<GuardedMemory> memory_;
};

// A matrix in a type, packed or not, guarded. Random elements lie in (-1, 1).
class GuardedMatrix {
 public:
  static GuardedMatrix Random(int64_t rows, int64_t cols, DType dtype, uint32_t seed);

  const Matrix& operator*() const { return matrix_; }

 private:
  Matrix matrix_;
  std::vector<std::unique_ptr<GuardedMemory>> memory_;
};

// All of what this processor supports.
std::vector<Isa> SupportedIsas();

struct Device {
  Isa isa;
  Precision precision;
};
std::vector<Device> SupportedDevices();

// Whether results are the same bits whatever shares the call. With tiles of bfloat16, few tokens
// are added up in another order than many.
inline bool IgnoresBatch(const Device& device) {
  return device.isa != Isa::kAmx || device.precision == Precision::kFloat32;
}

std::string Name(const Device& device);
void PrintTo(const Device& device, std::ostream* os);

// The ops under test on a pool of their own.
class TestOps {
 public:
  explicit TestOps(const Device& device, int num_threads = 2);
  Ops* operator->() const { return ops_.get(); }

 private:
  ThreadPool pool_;
  std::unique_ptr<Ops> ops_;
};

// Fills the scratch of this thread, a MiB for each use, with NaN.
void PoisonScratch();

class DeviceTest : public testing::TestWithParam<Device> {};

// Largest |actual - expected|, or infinity where one of them is not a number.
double LargestError(const std::vector<float>& actual, const std::vector<float>& expected);

}  // namespace adamoe

#define ADAMOE_ON_ALL_DEVICES(suite)                                          \
  INSTANTIATE_TEST_SUITE_P(Cpu, suite, testing::ValuesIn(SupportedDevices()), \
                           [](const auto& info) { return Name(info.param); })

#endif  // ADAMOE_TESTS_UNIT_KERNELS_KERNEL_TESTING_H_
