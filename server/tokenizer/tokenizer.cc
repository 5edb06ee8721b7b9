#include "server/tokenizer/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/tokenizer/added_tokens.h"
#include "server/tokenizer/bpe_model.h"
#include "server/tokenizer/json_field.h"
#include "server/tokenizer/normalizer.h"
#include "server/tokenizer/post_processor.h"
#include "server/tokenizer/pre_tokenizer.h"
#include "server/tokenizer/unicode.h"

namespace adamoe {
namespace {

// Text goes through the parts in the order of their declaration.
struct Parts {
  AddedTokens added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  PostProcessor post_processor;
  TextDecoder decoder;
};

absl::StatusOr<Parts> ParseParts(const JsonField& root) {
  Parts parts;
  ASSIGN_OR_RETURN(parts.model, BpeModel::Parse(root["model"]));
  ASSIGN_OR_RETURN(parts.normalizer, Normalizer::Parse(root["normalizer"]));
  ASSIGN_OR_RETURN(parts.added, AddedTokens::Parse(root["added_tokens"], parts.normalizer));
  ASSIGN_OR_RETURN(parts.pre_tokenizer, PreTokenizer::Parse(root["pre_tokenizer"]));
  ASSIGN_OR_RETURN(parts.post_processor, PostProcessor::Parse(root["post_processor"]));
  ASSIGN_OR_RETURN(parts.decoder, TextDecoder::Parse(root["decoder"]));
  return parts;
}

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(Parts parts) : parts_(std::move(parts)), ids_(parts_.model.vocab()) {}

  // Gives every token its string and keeps text from becoming a special one. REQUIRES: called once,
  // first.
  absl::Status Index(const JsonField& root);

  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              const EncodeOptions& options) const override;
  absl::StatusOr<std::string> Decode(const std::vector<int32_t>& ids) const override;

  int32_t vocab_size() const override { return static_cast<int32_t>(tokens_.size()); }
  int32_t TokenId(absl::string_view token) const override {
    const auto found = ids_.find(token);
    return found == ids_.end() ? -1 : found->second;
  }
  bool IsSpecial(int32_t id) const override { return Has(id) && tokens_[id].special; }
  std::string TokenBytes(int32_t id) const override {
    const std::string* token = TextToken(id);
    return token == nullptr ? "" : parts_.decoder.Bytes(*token);
  }
  const TextDecoder& decoder() const override { return parts_.decoder; }
  const std::string* TextToken(int32_t id) const override {
    return Has(id) && !tokens_[id].special ? &tokens_[id].text : nullptr;
  }
  bool strips_leading_space() const override { return parts_.decoder.strips_leading_space(); }

 private:
  struct Token {
    std::string text;
    bool exists = false;
    bool special = false;
  };

  bool Has(int32_t id) const { return id >= 0 && id < vocab_size() && tokens_[id].exists; }
  Token& TokenAt(int32_t id);
  absl::Status IndexAdded(const JsonField& field, const AddedToken& added);
  absl::Status CheckPostProcessor(const JsonField& field) const;
  absl::Status EncodeStretch(Word stretch, const EncodeOptions& options,
                             std::vector<int32_t>* ids) const;

  Parts parts_;
  absl::flat_hash_map<std::string, int32_t> ids_;  // with added tokens
  std::vector<Token> tokens_;                      // by id
};

BpeTokenizer::Token& BpeTokenizer::TokenAt(int32_t id) {
  if (id >= vocab_size()) tokens_.resize(static_cast<size_t>(id) + 1);
  return tokens_[id];
}

absl::Status BpeTokenizer::Index(const JsonField& root) {
  for (const auto& [text, id] : parts_.model.vocab()) TokenAt(id) = {text, true, false};
  const std::vector<AddedToken>& added = parts_.added.tokens();
  if (!added.empty()) {
    ASSIGN_OR_RETURN(const std::vector<JsonField> fields, root["added_tokens"].Array());
    for (size_t i = 0; i < added.size(); ++i) RETURN_IF_ERROR(IndexAdded(fields[i], added[i]));
  }
  if (tokens_.empty()) return root["model"]["vocab"].Error("is empty");
  return CheckPostProcessor(root["post_processor"]);
}

absl::Status BpeTokenizer::IndexAdded(const JsonField& field, const AddedToken& added) {
  const int32_t known_id = TokenId(added.content);
  if (known_id >= 0 && known_id != added.id) {
    return field.Error(absl::StrCat("\"", added.content, "\" has id ", known_id,
                                    " in the vocabulary, not ", added.id));
  }
  Token& token = TokenAt(added.id);
  if (token.exists && token.text != added.content) {
    return field.Error(absl::StrCat("id ", added.id, " is \"", token.text, "\" already, not \"",
                                    added.content, "\""));
  }
  token = {added.content, true, added.special || token.special};
  ids_.emplace(added.content, added.id);
  if (added.special) parts_.model.Forbid(added.id);
  return absl::OkStatus();
}

absl::Status BpeTokenizer::CheckPostProcessor(const JsonField& field) const {
  for (const auto* ids : {&parts_.post_processor.before(), &parts_.post_processor.after()}) {
    for (const int32_t id : *ids) {
      if (!Has(id)) return field.Error(absl::StrCat("adds id ", id, ", which no token has"));
    }
  }
  return absl::OkStatus();
}

absl::Status BpeTokenizer::EncodeStretch(Word stretch, const EncodeOptions& options,
                                         std::vector<int32_t>* ids) const {
  ASSIGN_OR_RETURN(const std::string text, parts_.normalizer.Apply(std::move(stretch.text)));
  for (const TokenSpan& span : parts_.added.Split(text, true, options.parse_special_tokens)) {
    if (span.id >= 0) {
      ids->push_back(span.id);
      continue;
    }
    Word part = {text.substr(span.begin, span.end - span.begin),
                 stretch.starts_text && span.begin == 0};
    ASSIGN_OR_RETURN(const std::vector<Word> words, parts_.pre_tokenizer.Apply(std::move(part)));
    for (const Word& word : words) parts_.model.Encode(word.text, ids);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> BpeTokenizer::Encode(absl::string_view text,
                                                          const EncodeOptions& options) const {
  const size_t ill_formed = FindIllFormedUtf8(text);
  if (ill_formed != text.npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("text is not well-formed UTF-8 at byte ", ill_formed));
  }
  std::vector<int32_t> ids;
  if (options.add_special_tokens) ids = parts_.post_processor.before();
  for (const TokenSpan& span : parts_.added.Split(text, false, options.parse_special_tokens)) {
    if (span.id >= 0) {
      ids.push_back(span.id);
      continue;
    }
    Word stretch = {std::string(text.substr(span.begin, span.end - span.begin)), span.begin == 0};
    RETURN_IF_ERROR(EncodeStretch(std::move(stretch), options, &ids));
  }
  if (options.add_special_tokens) {
    const std::vector<int32_t>& after = parts_.post_processor.after();
    ids.insert(ids.end(), after.begin(), after.end());
  }
  return ids;
}

absl::StatusOr<std::string> BpeTokenizer::Decode(const std::vector<int32_t>& ids) const {
  TextStream stream(&parts_.decoder, /*follows_text=*/false);
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size()) {
      return absl::OutOfRangeError(
          absl::StrCat("ids[", i, "] is ", ids[i], ", not in [0, ", vocab_size(), ")"));
    }
    if (const std::string* token = TextToken(ids[i])) stream.Push(*token, &text);
  }
  stream.Finish(&text);
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& model_dir) {
  const std::string path = model_dir + "/tokenizer.json";
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  std::ostringstream content;
  content << file.rdbuf();
  if (file.bad() || content.fail())
    return absl::DataLossError(absl::StrCat(path, ": cannot be read"));
  return Parse(content.str(), path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(absl::string_view json,
                                                            const std::string& file) {
  ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(json, file));
  const JsonField root(&document, file);
  RETURN_IF_ERROR(root.Object().status());
  ASSIGN_OR_RETURN(Parts parts, ParseParts(root));
  auto tokenizer = std::make_unique<BpeTokenizer>(std::move(parts));
  RETURN_IF_ERROR(tokenizer->Index(root));
  return tokenizer;
}

}  // namespace adamoe
