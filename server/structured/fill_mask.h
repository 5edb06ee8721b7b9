// XGrammar's mask as a TokenMask.
#ifndef ADAMOE_SERVER_STRUCTURED_FILL_MASK_H_
#define ADAMOE_SERVER_STRUCTURED_FILL_MASK_H_

#include <dlpack/dlpack.h>
#include <xgrammar/matcher.h>

#include <cstdint>

#include "absl/types/span.h"
#include "server/request/token_matcher.h"

namespace adamoe {

// Fills `mask`, [TokenMaskWords(vocab_size)], with the tokens that may come next. Bits behind the
// vocabulary are 0.
inline void FillMask(xgrammar::GrammarMatcher& matcher, int32_t vocab_size,
                     absl::Span<uint32_t> mask) {
  auto num_words = static_cast<int64_t>(mask.size());
  DLTensor tensor = {mask.data(), {kDLCPU, 0}, 1, {kDLInt, 32, 1}, &num_words, nullptr, 0};
  matcher.FillNextTokenBitmask(&tensor);
  if (vocab_size % 32 != 0) mask.back() &= (1u << (vocab_size % 32)) - 1;
}

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_FILL_MASK_H_
