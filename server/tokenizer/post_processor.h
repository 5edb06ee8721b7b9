// The post-processor of a tokenizer.json: the tokens put before and after those of a text.
// Understands TemplateProcessing (its template for one text), ByteLevel (which adds none) and
// Sequence. Immutable; thread-safe.
#ifndef ADAMOE_SERVER_TOKENIZER_POST_PROCESSOR_H_
#define ADAMOE_SERVER_TOKENIZER_POST_PROCESSOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/tokenizer/json_field.h"

namespace adamoe {

class PostProcessor {
 public:
  // A null field adds nothing. INVALID_ARGUMENT names what is not understood.
  static absl::StatusOr<PostProcessor> Parse(const JsonField& field);

  const std::vector<int32_t>& before() const { return before_; }
  const std::vector<int32_t>& after() const { return after_; }

 private:
  absl::Status Add(const JsonField& field);
  absl::Status AddTemplate(const JsonField& field);

  std::vector<int32_t> before_;
  std::vector<int32_t> after_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_POST_PROCESSOR_H_
