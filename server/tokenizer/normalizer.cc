#include "server/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/unicode.h"

namespace adamoe {
namespace {

absl::StatusOr<utf8proc_option_t> NormalForm(const std::string& type) {
  const auto form = [](int options) { return static_cast<utf8proc_option_t>(options); };
  if (type == "NFC") return form(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  if (type == "NFD") return form(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
  if (type == "NFKC") return form(UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  if (type == "NFKD") return form(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  return absl::NotFoundError(type);
}

absl::Status ToNormalForm(utf8proc_option_t form, std::string* text) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text->data()),
                                 static_cast<utf8proc_ssize_t>(text->size()), &mapped, form);
  if (size < 0) {
    return absl::InternalError(absl::StrCat("Unicode normalization: ", utf8proc_errmsg(size)));
  }
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, std::free);
  text->assign(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  return absl::OkStatus();
}

void Lowercase(std::string* text) {
  constexpr uint32_t kCapitalIWithDot = 0x130;  // the one letter whose lower case is two characters
  std::string lower;
  lower.reserve(text->size());
  for (absl::string_view rest = *text; !rest.empty();) {
    const Utf8Front front = ReadUtf8(rest);
    rest.remove_prefix(front.num_bytes);
    if (front.code_point == kCapitalIWithDot) {
      lower += "i\xCC\x87";
    } else {
      const auto code_point = static_cast<utf8proc_int32_t>(front.code_point);
      AppendUtf8(static_cast<uint32_t>(utf8proc_tolower(code_point)), &lower);
    }
  }
  *text = std::move(lower);
}

}  // namespace

absl::StatusOr<Regex> ParsePattern(const JsonField& field) {
  const JsonField literal = field["String"];
  if (!literal.IsNull()) {
    ASSIGN_OR_RETURN(std::string text, literal.String());
    if (text.empty()) return literal.Error("an empty pattern");
    return Regex::Literal(std::move(text));
  }
  const JsonField expression = field["Regex"];
  if (expression.IsNull()) return field.Error("expected {\"String\": ...} or {\"Regex\": ...}");
  ASSIGN_OR_RETURN(const std::string text, expression.String());
  absl::StatusOr<Regex> regex = Regex::Compile(text);
  if (!regex.ok()) return expression.Error(regex.status().message());
  return regex;
}

absl::StatusOr<std::string> ReplaceAll(const Regex& pattern, const std::string& content,
                                       absl::string_view text) {
  std::vector<TextSpan> spans;
  RETURN_IF_ERROR(pattern.Split(text, &spans));
  std::string replaced;
  replaced.reserve(text.size());
  for (const TextSpan& span : spans) {
    if (replaced.size() + content.size() > kMaxTextBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the tokenizer's replacements make more than ", kMaxTextBytes, " bytes"));
    }
    if (span.is_match) {
      replaced += content;
    } else {
      replaced.append(text.data() + span.begin, span.end - span.begin);
    }
  }
  return replaced;
}

absl::StatusOr<Normalizer> Normalizer::Parse(const JsonField& field) {
  Normalizer normalizer;
  if (!field.IsNull()) RETURN_IF_ERROR(normalizer.AddSteps(field));
  return normalizer;
}

absl::Status Normalizer::AddReplace(const JsonField& field) {
  ASSIGN_OR_RETURN(Regex pattern, ParsePattern(field["pattern"]));
  ASSIGN_OR_RETURN(std::string content, field["content"].String());
  steps_.push_back([pattern, content](std::string* text) -> absl::Status {
    ASSIGN_OR_RETURN(*text, ReplaceAll(pattern, content, *text));
    return absl::OkStatus();
  });
  return absl::OkStatus();
}

absl::Status Normalizer::AddSteps(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::string type, field.Type());
  if (type == "Sequence") {
    ASSIGN_OR_RETURN(const std::vector<JsonField> parts, field["normalizers"].Array());
    for (const JsonField& part : parts) RETURN_IF_ERROR(AddSteps(part));
    return absl::OkStatus();
  }
  if (type == "Replace") return AddReplace(field);
  if (type == "Prepend") {
    ASSIGN_OR_RETURN(std::string prefix, field["prepend"].String());
    steps_.push_back([prefix](std::string* text) {
      if (!text->empty()) text->insert(0, prefix);
      return absl::OkStatus();
    });
    return absl::OkStatus();
  }
  if (type == "Lowercase") {
    steps_.push_back([](std::string* text) { return Lowercase(text), absl::OkStatus(); });
    return absl::OkStatus();
  }
  const absl::StatusOr<utf8proc_option_t> form = NormalForm(type);
  if (!form.ok()) return field.Error(absl::StrCat("unknown normalizer \"", type, "\""));
  steps_.push_back([form = *form](std::string* text) { return ToNormalForm(form, text); });
  return absl::OkStatus();
}

absl::StatusOr<std::string> Normalizer::Apply(std::string text) const {
  for (const Step& step : steps_) RETURN_IF_ERROR(step(&text));
  return text;
}

}  // namespace adamoe
