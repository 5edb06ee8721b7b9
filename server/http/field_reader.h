// Reads the members of a JSON object by name and type. The first thing that is wrong is kept, and
// what is read after it does not matter: a caller reads everything, then asks for status(). A
// member that is null counts as absent. Thread-compatible.
#ifndef ADAMOE_SERVER_HTTP_FIELD_READER_H_
#define ADAMOE_SERVER_HTTP_FIELD_READER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/http/json_document.h"

namespace adamoe {

class FieldReader {
 public:
  // `object` must be an object, and outlive this. `prefix` comes before names in errors: "" or as
  // "compute.".
  explicit FieldReader(const Json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  // Null where it is absent, or null.
  const Json* Find(absl::string_view name) const;

  std::optional<bool> Bool(absl::string_view name);
  // Within what a float holds.
  std::optional<float> Float(absl::string_view name);
  // A whole number in [min, max]; 5.0 is one.
  std::optional<int64_t> Integer(absl::string_view name, int64_t min, int64_t max);
  std::optional<std::string> String(absl::string_view name);
  // Null where it is absent, or something else.
  const Json* Object(absl::string_view name);
  const Json* Array(absl::string_view name);

  // INVALID_ARGUMENT with the field's path, as FieldError makes it.
  void Fail(absl::string_view name, absl::string_view problem);
  void Fail(const absl::Status& status) { status_.Update(status); }

  const absl::Status& status() const { return status_; }

 private:
  const Json& object_;
  const std::string prefix_;
  absl::Status status_;
};

// "a string", "an array", ...: what a value is, for errors.
absl::string_view KindOf(const Json& value);

// The whole number that `value` is; nothing where it is none that int64_t holds.
std::optional<int64_t> WholeNumber(const Json& value);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_FIELD_READER_H_
