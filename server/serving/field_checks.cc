#include "server/serving/field_checks.h"

#include <adamoe/v1/inference.pb.h>

#include <atomic>
#include <random>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/serving/request_errors.h"

namespace adamoe {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr float kMaxNullBias = 1000;

}  // namespace

absl::Status CheckRange(const Range& range) {
  // Written so that NaN fails.
  const bool above = range.min_excluded ? range.value > range.min : range.value >= range.min;
  if (above && range.value <= range.max) return absl::OkStatus();
  return FieldError(range.field,
                    absl::StrCat(range.value, " is not in ", range.min_excluded ? "(" : "[",
                                 range.min, ", ", range.max, "]"));
}

absl::Status CheckCount(absl::string_view field, size_t count, size_t max) {
  if (count <= max) return absl::OkStatus();
  return FieldError(field, absl::StrCat(count, " entries, at most ", max, " are allowed"));
}

absl::Status CheckId(absl::string_view field, uint32_t id, const ServedModel& model) {
  if (id < static_cast<uint32_t>(model.vocab_size)) return absl::OkStatus();
  return FieldError(field,
                    absl::StrCat("token id ", id, " is not below vocab_size ", model.vocab_size));
}

absl::StatusOr<std::vector<int32_t>> CheckIds(absl::string_view field, const TokenIdField& ids,
                                              const ServedModel& model) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < static_cast<uint32_t>(model.vocab_size)) continue;
    return CheckId(absl::StrCat(field, "[", i, "]"), ids[i], model);
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

absl::Status CheckTextBytes(absl::string_view field, size_t num_bytes, const ServedModel& model) {
  if (model.max_text_bytes == 0 || num_bytes <= model.max_text_bytes) return absl::OkStatus();
  return FieldError(field, absl::StrCat(num_bytes, " bytes of text cannot fit the context of ",
                                        model.max_context_tokens, " tokens"));
}

absl::StatusOr<std::vector<int32_t>> EncodeField(absl::string_view field, absl::string_view text,
                                                 const Tokenizer& tokenizer,
                                                 const ServedModel& model) {
  RETURN_IF_ERROR(CheckTextBytes(field, text.size(), model));
  auto ids = tokenizer.Encode(text, {});
  if (!ids.ok()) return FieldError(field, ids.status());
  for (const int32_t id : *ids) RETURN_IF_ERROR(CheckId(field, id, model));
  return ids;
}

absl::StatusOr<std::string> CheckRequestId(const std::string& id) {
  if (id.size() > kMaxRequestIdBytes) {
    return FieldError("request_id", absl::StrCat(id.size(), " bytes, at most ", kMaxRequestIdBytes,
                                                 " are allowed"));
  }
  if (!id.empty()) return id;
  static const uint32_t process = std::random_device()();
  static std::atomic<uint64_t> next{1};
  return absl::StrCat("req-", absl::Hex(process, absl::kZeroPad8), "-", next.fetch_add(1));
}

absl::StatusOr<ComputeDial> CheckCompute(const v1::Compute& compute) {
  RETURN_IF_ERROR(
      CheckRange({"compute.null_bias", compute.null_bias(), -kMaxNullBias, kMaxNullBias}));
  if (compute.has_max_experts_per_token() && compute.max_experts_per_token() == 0) {
    return FieldError("compute.max_experts_per_token", "0 is not at least 1");
  }
  return ComputeDial{compute.null_bias(), compute.max_experts_per_token()};
}

absl::Status CheckNotEmpty(absl::string_view field, size_t num_tokens) {
  if (num_tokens > 0) return absl::OkStatus();
  return FieldError(field, "no tokens, at least one is needed");
}

}  // namespace adamoe
