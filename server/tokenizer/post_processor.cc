#include "server/tokenizer/post_processor.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/bpe_model.h"

namespace adamoe {
namespace {

absl::Status AppendSpecialToken(const JsonField& piece, const JsonField& special_tokens,
                                std::vector<int32_t>* ids) {
  ASSIGN_OR_RETURN(const std::string name, piece["id"].String());
  const JsonField token = special_tokens[name];
  if (token.IsNull()) return token.Error("is missing, the template names it");
  ASSIGN_OR_RETURN(const std::vector<JsonField> fields, token["ids"].Array());
  for (const JsonField& field : fields) {
    ASSIGN_OR_RETURN(const int32_t id, field.Index(kMaxTokenId));
    ids->push_back(id);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PostProcessor> PostProcessor::Parse(const JsonField& field) {
  PostProcessor processor;
  if (!field.IsNull()) RETURN_IF_ERROR(processor.Add(field));
  return processor;
}

absl::Status PostProcessor::Add(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::string type, field.Type());
  if (type == "ByteLevel") return absl::OkStatus();  // only moves offsets
  if (type == "TemplateProcessing") return AddTemplate(field);
  if (type == "Sequence") {
    ASSIGN_OR_RETURN(const std::vector<JsonField> parts, field["processors"].Array());
    for (const JsonField& part : parts) RETURN_IF_ERROR(Add(part));
    return absl::OkStatus();
  }
  return field.Error(absl::StrCat("unknown post-processor \"", type, "\""));
}

absl::Status PostProcessor::AddTemplate(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::vector<JsonField> pieces, field["single"].Array());
  std::vector<int32_t> before, after;
  int num_texts = 0;
  for (const JsonField& piece : pieces) {
    const JsonField text = piece["Sequence"];
    if (text.IsNull()) {
      std::vector<int32_t>* ids = num_texts == 0 ? &before : &after;
      RETURN_IF_ERROR(AppendSpecialToken(piece["SpecialToken"], field["special_tokens"], ids));
      continue;
    }
    ASSIGN_OR_RETURN(const std::string name, text["id"].String());
    if (name != "A") return text.Error("expected \"A\", the only text");
    ++num_texts;
  }
  if (num_texts != 1) return field["single"].Error("expected the text exactly once");
  before_.insert(before_.begin(), before.begin(), before.end());
  after_.insert(after_.end(), after.begin(), after.end());
  return absl::OkStatus();
}

}  // namespace adamoe
