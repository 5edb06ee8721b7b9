#include "server/http/json_document.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/serving/utf8.h"

namespace adamoe {
namespace {

// Builds the document from the parser's events. The library's own builder looks at every member of
// an object for each one that is added.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  Json Take() { return std::move(root_); }
  const std::string& error() const { return error_; }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return Fail("binary data"); }

  bool start_object(std::size_t) override { return Open(Json::value_t::object); }
  bool start_array(std::size_t) override { return Open(Json::value_t::array); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& value) override {
    Level& level = open_.back();
    if (!level.names.insert(value).second) {
      return Fail(absl::StrCat("the member '", value.substr(0, 64), "' is there twice"));
    }
    level.name = std::move(value);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    absl::string_view what = error.what();
    // Without the library's own number of the error.
    what.remove_prefix(std::min(what.find("] ") + 2, what.size()));
    // What was read last may be long, and comes last.
    return Fail(absl::StrCat("at byte ", position, ": ", what.substr(0, 200)));
  }

 private:
  struct Level {
    Json* value;
    std::string name;  // of the member that comes next
    absl::flat_hash_set<std::string> names;
  };

  bool Fail(std::string problem) {
    error_ = std::move(problem);
    return false;
  }

  // Puts `value` where the document has come to; null when there is no such place.
  Json* Put(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = open_.back();
    if (level.value->is_array()) {
      auto& array = level.value->get_ref<Json::array_t&>();
      array.push_back(std::move(value));
      return &array.back();
    }
    // Not by operator[], which searches: the name is known to be new.
    auto& object = level.value->get_ref<Json::object_t&>();
    static_cast<std::vector<std::pair<const std::string, Json>>&>(object).emplace_back(
        std::move(level.name), std::move(value));
    return &object.back().second;
  }

  bool Add(Json value) {
    if (open_.empty()) return Fail("is no object");
    Put(std::move(value));
    return true;
  }

  bool Open(Json::value_t type) {
    if (open_.empty() && type != Json::value_t::object) return Fail("is no object");
    if (open_.size() >= kMaxJsonDepth) {
      return Fail(absl::StrCat("nests deeper than ", kMaxJsonDepth, " levels"));
    }
    open_.push_back({Put(Json(type)), "", {}});
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Level> open_;
  std::string error_;
};

}  // namespace

absl::StatusOr<Json> ParseJsonObject(absl::string_view text) {
  Builder builder;
  if (Json::sax_parse(text.begin(), text.end(), &builder)) return builder.Take();
  return absl::InvalidArgumentError(
      MendUtf8(absl::StrCat("the body is not a JSON object: ", builder.error())));
}

}  // namespace adamoe
