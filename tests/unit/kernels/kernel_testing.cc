#include "tests/unit/kernels/kernel_testing.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "server/kernels/cpu/scratch.h"
#include "server/kernels/packed.h"

namespace adamoe {
namespace {

uint16_t RandomHalf(std::mt19937* random) {
  const uint16_t exponent = static_cast<uint16_t>((*random)() % 6 + 9);  // below 1
  return static_cast<uint16_t>((exponent << 10) | ((*random)() & 0x83ffu));
}

}  // namespace

GuardedMemory::GuardedMemory(size_t num_bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t readable = (num_bytes / page + 1) * page;
  mapped_ = readable + page;
  void* mapping =
      mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) std::abort();
  mapping_ = static_cast<uint8_t*>(mapping);
  std::memset(mapping_, 0xff, readable);
  if (mprotect(mapping_ + readable, page, PROT_NONE) != 0) std::abort();
  data_ = mapping_ + readable - num_bytes;
}

GuardedMemory::~GuardedMemory() { munmap(mapping_, mapped_); }

GuardedTensor::GuardedTensor(int64_t n, DType dtype)
    : size_(n), dtype_(dtype), memory_(std::make_unique<GuardedMemory>(n * SizeOf(dtype))) {}

GuardedTensor GuardedTensor::Poisoned(int64_t n, DType dtype) { return GuardedTensor(n, dtype); }

GuardedTensor GuardedTensor::Random(int64_t n, DType dtype, uint32_t seed) {
  GuardedTensor tensor(n, dtype);
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  for (int64_t i = 0; i < n; ++i) {
    if (dtype == DType::kFloat32) {
      tensor.floats()[i] = uniform(random);
    } else {
      static_cast<uint16_t*>(tensor.data())[i] =
          dtype == DType::kBFloat16 ? Bf16FromFloat(uniform(random)) : RandomHalf(&random);
    }
  }
  return tensor;
}

std::vector<float> GuardedTensor::ToVector() const {
  std::vector<float> out(size_);
  for (int64_t i = 0; i < size_; ++i) {
    if (dtype_ == DType::kFloat32) {
      out[i] = floats()[i];
    } else {
      const uint16_t bits = static_cast<const uint16_t*>(data())[i];
      out[i] = dtype_ == DType::kBFloat16 ? FloatFromBf16(bits) : FloatFromF16(bits);
    }
  }
  return out;
}

GuardedMatrix GuardedMatrix::Random(int64_t rows, int64_t cols, DType dtype, uint32_t seed) {
  GuardedMatrix result;
  GuardedTensor plain =
      GuardedTensor::Random(rows * cols, IsPacked(dtype) ? DType::kFloat32 : dtype, seed);
  result.matrix_ = plain.AsMatrix(rows, cols);
  if (!IsPacked(dtype)) {
    result.memory_.push_back(std::move(plain).Release());
    return result;
  }
  const PackedSize size = PackedSizeOf(dtype, rows, cols);
  auto data = std::make_unique<GuardedMemory>(size.num_blocks * size.bytes_per_block);
  auto scales = std::make_unique<GuardedMemory>(size.num_blocks * size.scales_per_block * 2);
  auto* scale_bits = static_cast<uint16_t*>(scales->data());
  Pack(result.matrix_, dtype, 0, size.num_blocks, static_cast<uint8_t*>(data->data()), scale_bits);
  result.matrix_ = {data->data(), dtype, rows, cols, scale_bits};
  result.memory_.push_back(std::move(data));
  result.memory_.push_back(std::move(scales));
  return result;
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas;
  for (Isa isa : kAllIsas) {
    if (IsaSupported(isa)) isas.push_back(isa);
  }
  return isas;
}

std::vector<Device> SupportedDevices() {
  std::vector<Device> devices;
  for (Isa isa : SupportedIsas()) {
    devices.push_back({isa, Precision::kFloat32});
    devices.push_back({isa, Precision::kBFloat16});
  }
  return devices;
}

std::string Name(const Device& device) {
  return std::string(Name(device.isa)) +
         (device.precision == Precision::kFloat32 ? "_float32" : "_bfloat16");
}

void PrintTo(const Device& device, std::ostream* os) { *os << Name(device); }

TestOps::TestOps(const Device& device, int num_threads)
    : pool_(num_threads),
      ops_(CreateCpuOps({.pool = &pool_, .precision = device.precision, .isa = device.isa})) {}

void PoisonScratch() {
  constexpr int64_t kFloats = 1 << 18;
  for (int use = 0; use < kNumScratchUses; ++use) {
    float* scratch = ThreadFloats(static_cast<Scratch>(use), kFloats);
    std::fill_n(scratch, kFloats, std::numeric_limits<float>::quiet_NaN());
  }
}

double LargestError(const std::vector<float>& actual, const std::vector<float>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double largest = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual[i]) - expected[i]);
    if (!(error <= largest)) largest = error;
    if (std::isnan(error)) return std::numeric_limits<double>::infinity();
  }
  return largest;
}

}  // namespace adamoe
