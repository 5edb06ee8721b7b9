#include "server/tokenizer/regex.h"

#include <oniguruma.h>

#include "absl/base/call_once.h"
#include "absl/strings/str_cat.h"
#include "server/tokenizer/unicode.h"

namespace adamoe {
namespace {

const OnigUChar* Bytes(absl::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}

void InitializeOnce() {
  static absl::once_flag once;
  absl::call_once(once, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  });
}

struct FreeRegion {
  void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
};
struct FreeMatchParam {
  void operator()(OnigMatchParam* param) const { onig_free_match_param(param); }
};
using MatchParam = std::unique_ptr<OnigMatchParam, FreeMatchParam>;

// Steps one search may take and choices it may keep open: a sound pattern goes over a text a few
// times, a catastrophic one exponentially often.
MatchParam LimitsFor(absl::string_view text) {
  MatchParam param(onig_new_match_param());
  onig_initialize_match_param(param.get());
  const auto max_retries = static_cast<unsigned long>(1'000'000 + 16 * text.size());
  onig_set_retry_limit_in_match_of_match_param(param.get(), max_retries);
  onig_set_retry_limit_in_search_of_match_param(param.get(), max_retries);
  const auto max_stack = static_cast<unsigned int>(1'000'000 + 4 * text.size());
  onig_set_match_stack_limit_size_of_match_param(param.get(), max_stack);
  return param;
}

std::string OnigError(int code, OnigErrorInfo* info) {
  OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = onig_error_code_to_str(message, code, info);
  return std::string(reinterpret_cast<char*>(message), static_cast<size_t>(length));
}

}  // namespace

void AddSpan(size_t begin, size_t end, bool is_match, std::vector<TextSpan>* spans) {
  if (begin < end) spans->push_back({begin, end, is_match});
}

absl::StatusOr<Regex> Regex::Compile(const std::string& pattern) {
  InitializeOnce();
  const OnigUChar* begin = Bytes(pattern);
  OnigRegex compiled = nullptr;
  OnigErrorInfo info = {};
  const int code = onig_new(&compiled, begin, begin + pattern.size(), ONIG_OPTION_NONE,
                            ONIG_ENCODING_UTF8, ONIG_SYNTAX_RUBY, &info);
  if (code != ONIG_NORMAL) {
    return absl::InvalidArgumentError(
        absl::StrCat("bad regular expression: ", OnigError(code, &info)));
  }
  Regex regex;
  regex.compiled_ = std::shared_ptr<re_pattern_buffer>(compiled, onig_free);
  return regex;
}

Regex Regex::Literal(std::string text) {
  Regex regex;
  regex.literal_ = std::move(text);
  return regex;
}

void Regex::SplitLiteral(absl::string_view text, std::vector<TextSpan>* spans) const {
  size_t done = 0;
  for (size_t at = text.find(literal_); at != text.npos; at = text.find(literal_, done)) {
    AddSpan(done, at, false, spans);
    done = at + literal_.size();
    AddSpan(at, done, true, spans);
  }
  AddSpan(done, text.size(), false, spans);
}

absl::Status Regex::Split(absl::string_view text, std::vector<TextSpan>* spans) const {
  if (compiled_ == nullptr) {
    SplitLiteral(text, spans);
    return absl::OkStatus();
  }
  const std::unique_ptr<OnigRegion, FreeRegion> region(onig_region_new());
  const MatchParam limits = LimitsFor(text);
  const OnigUChar* begin = Bytes(text);
  const OnigUChar* end = begin + text.size();
  size_t done = 0;   // everything before is in spans
  size_t start = 0;  // where the next search starts
  while (start <= text.size()) {
    const int at = onig_search_with_param(compiled_.get(), begin, end, begin + start, end,
                                          region.get(), ONIG_OPTION_NONE, limits.get());
    if (at == ONIG_MISMATCH) break;
    if (at < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the tokenizer's pattern gave up on this text at byte ", start, ": ",
                       OnigError(at, nullptr)));
    }
    const auto match_begin = static_cast<size_t>(region->beg[0]);
    const auto match_end = static_cast<size_t>(region->end[0]);
    const bool is_empty = match_begin == match_end;
    // Right behind another match an empty one does not count.
    if (!is_empty || match_begin > done || spans->empty()) {
      AddSpan(done, match_begin, false, spans);
      spans->push_back({match_begin, match_end, true});
    }
    done = match_end;
    start = match_end;
    if (is_empty) start += match_end < text.size() ? Utf8Length(text[match_end]) : 1;
  }
  AddSpan(done, text.size(), false, spans);
  return absl::OkStatus();
}

}  // namespace adamoe
