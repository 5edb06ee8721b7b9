// Memory of the device for the checks of its kernels: a GPU's, or where the kernels are emulated
// the host's. Starts as ones (NaN in every floating type). What lies around it is watched: on the
// host the page after it cannot be touched, on a GPU writes are found when it is freed.
#ifndef ADAMOE_TESTS_GPU_KERNELS_DEVICE_MEMORY_H_
#define ADAMOE_TESTS_GPU_KERNELS_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace adamoe {

// Ends the process with a message when the device fails or a guard was overwritten.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t num_bytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* data() const { return data_; }
  void Write(const void* host, size_t num_bytes);
  // Waits for the device first.
  void Read(void* host, size_t num_bytes) const;

 private:
  size_t num_bytes_;
  void* allocation_ = nullptr;
  size_t allocated_ = 0;
  void* data_ = nullptr;
};

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t size) : size_(size), memory_(sizeof(T) * size) {}
  explicit DeviceArray(const std::vector<T>& values)
      : DeviceArray(static_cast<int64_t>(values.size())) {
    if (!values.empty()) memory_.Write(values.data(), sizeof(T) * values.size());
  }

  T* get() const { return static_cast<T*>(memory_.data()); }
  int64_t size() const { return size_; }
  std::vector<T> ToHost() const {
    std::vector<T> values(size_);
    if (size_ > 0) memory_.Read(values.data(), sizeof(T) * values.size());
    return values;
  }

 private:
  int64_t size_;
  DeviceMemory memory_;
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_KERNELS_DEVICE_MEMORY_H_
