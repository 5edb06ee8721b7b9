#include "server/kv_cache/kv_store.h"

#include <sys/mman.h>

#include <initializer_list>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

constexpr size_t kAlignment = 64;

// Sets *product to the product of the factors; false when it does not fit half the address space.
bool Multiply(std::initializer_list<int64_t> factors, size_t* product) {
  int64_t result = 1;
  for (int64_t factor : factors) {
    if (__builtin_mul_overflow(result, factor, &result)) return false;
  }
  *product = static_cast<size_t>(result);
  return result <= std::numeric_limits<int64_t>::max() - static_cast<int64_t>(kAlignment);
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvStore>> KvStore::Create(const KvStoreShape& shape) {
  for (auto [name, value] : {std::pair<const char*, int32_t>{"num_layers", shape.num_layers},
                             {"num_blocks", shape.num_blocks},
                             {"block_size", shape.block_size},
                             {"num_kv_heads", shape.num_kv_heads},
                             {"head_dim", shape.head_dim}}) {
    if (value < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("KV cache: ", name, " is ", value, ", expected at least 1"));
    }
  }
  size_t layer_bytes = 0;
  size_t num_bytes = 0;
  bool fits = Multiply({shape.num_blocks, shape.block_size, shape.num_kv_heads, shape.head_dim,
                        static_cast<int64_t>(SizeOf(shape.dtype))},
                       &layer_bytes);
  const size_t stride = (layer_bytes + kAlignment - 1) / kAlignment * kAlignment;
  fits = fits && Multiply({static_cast<int64_t>(stride), 2, shape.num_layers}, &num_bytes);
  void* base = MAP_FAILED;
  if (fits) {
    base = mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("KV cache: no address space for ", shape.num_blocks, " blocks of ",
                     shape.block_size, " positions in ", shape.num_layers, " layers"));
  }
  return std::unique_ptr<KvStore>(
      new KvStore(shape, static_cast<std::byte*>(base), stride, num_bytes));
}

KvStore::~KvStore() { munmap(base_, num_bytes_); }

}  // namespace adamoe
