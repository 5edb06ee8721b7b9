// The tokenizer and configuration files of a model folder as one zip, for clients that tokenize
// themselves. Thread-safe.
#ifndef ADAMOE_SERVER_RPC_VLLM_ENGINE_TOKENIZER_ARCHIVE_H_
#define ADAMOE_SERVER_RPC_VLLM_ENGINE_TOKENIZER_ARCHIVE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace adamoe {

struct Archive {
  std::string bytes;
  std::string sha256;  // of bytes, in lower-case hexadecimal
};

// A zip with stored entries: (name, content) each, in this order. INVALID_ARGUMENT when it would
// pass the format's 4 GiB. The same entries give the same bytes.
absl::StatusOr<Archive> MakeArchive(
    const std::vector<std::pair<std::string, std::string>>& entries);

class TokenizerArchive {
 public:
  explicit TokenizerArchive(std::string folder) : folder_(std::move(folder)) {}

  // Reads the folder when first called, and keeps what came of it. NOT_FOUND when none of the files
  // is there.
  absl::StatusOr<std::shared_ptr<const Archive>> Get() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  const std::string folder_;

  absl::Mutex mu_;
  std::shared_ptr<const Archive> archive_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_VLLM_ENGINE_TOKENIZER_ARCHIVE_H_
