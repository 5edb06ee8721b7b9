#include "server/serving/wire_parser.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/unknown_field_set.h>
#include <spdlog/spdlog.h>

#include <limits>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/serving/request_errors.h"
#include "server/serving/utf8.h"

namespace adamoe {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::UnknownField;
using google::protobuf::UnknownFieldSet;

// Looks through the raw fields of a message of type `type` for a string that is not UTF-8. Recurses
// as deep as the types nest, which is fixed by the .proto. Ok when there is none.
absl::Status CheckStrings(const UnknownFieldSet& fields, const Descriptor& type,
                          const std::string& prefix) {
  std::map<int, int> num_seen;
  for (int i = 0; i < fields.field_count(); ++i) {
    const UnknownField& field = fields.field(i);
    const FieldDescriptor* declared = type.FindFieldByNumber(field.number());
    if (declared == nullptr || field.type() != UnknownField::TYPE_LENGTH_DELIMITED) continue;
    std::string path = absl::StrCat(prefix, declared->name());
    if (declared->is_repeated()) absl::StrAppend(&path, "[", num_seen[field.number()]++, "]");
    const std::string& bytes = field.length_delimited();
    if (declared->type() == FieldDescriptor::TYPE_STRING) {
      const size_t invalid = FirstInvalidUtf8(bytes);
      if (invalid == bytes.size()) continue;
      return FieldError(path, absl::StrCat("is not UTF-8 at byte ", invalid, " of ", bytes.size()));
    }
    if (declared->type() == FieldDescriptor::TYPE_MESSAGE) {
      UnknownFieldSet inner;
      if (!inner.ParseFromString(bytes)) continue;
      absl::Status status = CheckStrings(inner, *declared->message_type(), path + ".");
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

void LogProtobuf(google::protobuf::LogLevel, const char* file, int line,
                 const std::string& message) {
  spdlog::debug("protobuf {}:{}: {}", file, line, message);
}

}  // namespace

absl::Status ParseWire(absl::string_view bytes, google::protobuf::Message* message) {
  const bool fits = bytes.size() <= static_cast<size_t>(std::numeric_limits<int>::max());
  if (fits && message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return absl::OkStatus();
  }
  const Descriptor& type = *message->GetDescriptor();
  UnknownFieldSet fields;
  if (fits && fields.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    absl::Status status = CheckStrings(fields, type, "");
    if (!status.ok()) return status;
  }
  return absl::InvalidArgumentError(absl::StrCat("the request's ", bytes.size(),
                                                 " bytes are not a well-formed ", type.full_name(),
                                                 " message"));
}

void QuietProtobufLog() { google::protobuf::SetLogHandler(&LogProtobuf); }

}  // namespace adamoe
