// Byte-pair encoding (Sennrich et al., 1508.07909): a vocabulary and a ranked list of merges, as
// the "model" of a tokenizer.json has them. Immutable; thread-safe.
#ifndef ADAMOE_SERVER_TOKENIZER_BPE_MODEL_H_
#define ADAMOE_SERVER_TOKENIZER_BPE_MODEL_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/tokenizer/json_field.h"

namespace adamoe {

// Far above any vocabulary in use; tables as long as the largest id stay affordable.
inline constexpr int32_t kMaxTokenId = (1 << 20) - 1;

class BpeModel {
 public:
  // INVALID_ARGUMENT names what is wrong or not understood.
  static absl::StatusOr<BpeModel> Parse(const JsonField& field);

  // Keeps text from ever becoming the token `id`, however its letters merge. Before the first
  // Encode.
  void Forbid(int32_t id);

  // Appends the tokens of one word, in O(n log n) of its length. Characters outside the vocabulary
  // become their bytes' tokens, the unknown token or nothing, as the file says.
  void Encode(absl::string_view word, std::vector<int32_t>* ids) const;

  const absl::flat_hash_map<std::string, int32_t>& vocab() const { return vocab_; }

 private:
  struct Merge {
    int32_t rank;
    int32_t id;  // of the merged token
  };

  absl::Status ReadVocab(const JsonField& field);
  absl::Status ReadMerges(const JsonField& field);
  absl::Status ReadMerge(const JsonField& field, int32_t rank);
  absl::Status ReadUnknown(const JsonField& model);
  void FindByteTokens();

  // The id of a token that text may become, or -1.
  int32_t Find(absl::string_view token) const;
  const Merge* FindMerge(int32_t left, int32_t right) const;
  std::vector<int32_t> Characters(absl::string_view word) const;
  bool AppendBytes(absl::string_view character, std::vector<int32_t>* ids) const;
  void MergeAll(const std::vector<int32_t>& characters, std::vector<int32_t>* ids) const;

  absl::flat_hash_map<std::string, int32_t> vocab_;
  absl::flat_hash_set<int32_t> forbidden_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by the pair (left id, right id)
  std::array<int32_t, 256> byte_tokens_;         // of "<0xNN>", or -1
  int32_t unknown_id_ = -1;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_BPE_MODEL_H_
