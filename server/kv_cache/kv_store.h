// The memory of the KV cache: for every layer, blocks of keys and blocks of values (paged as in
// arXiv 2309.06180).
//
// Pages of the operating system are taken when a block is first written and read as zero before, so
// a large cache costs what is used of it. Owns its memory. Immutable after creation but for the
// contents: thread-compatible.
#ifndef ADAMOE_SERVER_KV_CACHE_KV_STORE_H_
#define ADAMOE_SERVER_KV_CACHE_KV_STORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "server/base/dtype.h"

namespace adamoe {

struct KvStoreShape {
  int32_t num_layers = 0;
  int32_t num_blocks = 0;
  int32_t block_size = 0;  // positions per block
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  DType dtype = DType::kFloat32;
};

class KvStore {
 public:
  // INVALID_ARGUMENT when a dimension is not positive; RESOURCE_EXHAUSTED, naming the size, when
  // the address space cannot be had.
  static absl::StatusOr<std::unique_ptr<KvStore>> Create(const KvStoreShape& shape);
  ~KvStore();
  KvStore(const KvStore&) = delete;
  KvStore& operator=(const KvStore&) = delete;

  const KvStoreShape& shape() const { return shape_; }

  // One layer's keys or values: [num_blocks, block_size, num_kv_heads, head_dim], shape().dtype,
  // aligned to 64 bytes. REQUIRES: 0 <= layer < num_layers.
  void* keys(int32_t layer) const {
    return base_ + layer_stride_ * (2 * static_cast<size_t>(layer));
  }
  void* values(int32_t layer) const {
    return base_ + layer_stride_ * (2 * static_cast<size_t>(layer) + 1);
  }

  // Address space of the whole cache.
  size_t num_bytes() const { return num_bytes_; }

 private:
  KvStore(const KvStoreShape& shape, std::byte* base, size_t layer_stride, size_t num_bytes)
      : shape_(shape), base_(base), layer_stride_(layer_stride), num_bytes_(num_bytes) {}

  const KvStoreShape shape_;
  std::byte* const base_;
  const size_t layer_stride_;  // bytes of one layer's keys, padded
  const size_t num_bytes_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_KV_CACHE_KV_STORE_H_
