// A value inside a JSON document together with where it stands, so that every complaint about a
// file nobody vouches for names the place: "tokenizer.json: model.merges[3]: expected ...". Fields
// that are absent read as null.
//
//   ASSIGN_OR_RETURN(bool special, JsonField(&root, "tokenizer.json")["added_tokens"].Bool(false));
#ifndef ADAMOE_SERVER_TOKENIZER_JSON_FIELD_H_
#define ADAMOE_SERVER_TOKENIZER_JSON_FIELD_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace adamoe {

class JsonField {
 public:
  // The whole of a document; `file` names it in errors. `*value` must outlive this field and those
  // made from it.
  JsonField(const nlohmann::json* value, std::string file)
      : value_(value), file_(std::move(file)) {}

  // The member `key`; null where this is no object or has none.
  JsonField operator[](absl::string_view key) const;
  // The member `key` where its value is at hand. REQUIRES: value is this object's.
  JsonField Member(absl::string_view key, const nlohmann::json* value) const;
  // Null covers an absent member.
  bool IsNull() const { return value_->is_null(); }
  bool IsArray() const { return value_->is_array(); }
  // The number 0.
  bool IsZero() const { return value_->is_number() && value_->get<double>() == 0; }
  // The member "type", which says what kind of part an object describes.
  absl::StatusOr<std::string> Type() const { return (*this)["type"].String(); }

  absl::StatusOr<std::string> String() const;
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<bool> Bool(bool if_null) const;
  // Whole numbers in [0, max].
  absl::StatusOr<int32_t> Index(int32_t max) const;
  absl::StatusOr<std::vector<JsonField>> Array() const;
  // The members of an object by key.
  absl::StatusOr<const nlohmann::json::object_t*> Object() const;

  // INVALID_ARGUMENT: "<file>: <place>: <problem>".
  absl::Status Error(absl::string_view problem) const;

 private:
  JsonField(const nlohmann::json* value, std::string file, std::string place)
      : value_(value), file_(std::move(file)), place_(std::move(place)) {}
  absl::Status Expected(absl::string_view what) const;

  const nlohmann::json* value_;
  std::string file_;
  std::string place_;
};

// The document, or INVALID_ARGUMENT. Refuses nesting deeper than a tokenizer.json can need.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, const std::string& file);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_TOKENIZER_JSON_FIELD_H_
