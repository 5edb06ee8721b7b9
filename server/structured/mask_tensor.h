// A token mask as XGrammar takes it.
#ifndef ADAMOE_SERVER_STRUCTURED_MASK_TENSOR_H_
#define ADAMOE_SERVER_STRUCTURED_MASK_TENSOR_H_

#include <dlpack/dlpack.h>

#include <cstddef>
#include <cstdint>

namespace adamoe {

// A view of `words`, [num_words], which must outlive it.
class MaskTensor {
 public:
  MaskTensor(uint32_t* words, size_t num_words)
      : shape_(static_cast<int64_t>(num_words)), tensor_{words,   {kDLCPU, 0}, 1, {kDLInt, 32, 1},
                                                         &shape_, nullptr,     0} {}
  MaskTensor(const MaskTensor&) = delete;
  MaskTensor& operator=(const MaskTensor&) = delete;

  DLTensor* get() { return &tensor_; }

 private:
  int64_t shape_;
  DLTensor tensor_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_MASK_TENSOR_H_
