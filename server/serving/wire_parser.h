// Bytes of a request -> message, with errors that say what is wrong with the bytes. Thread-safe.
#ifndef ADAMOE_SERVER_SERVING_WIRE_PARSER_H_
#define ADAMOE_SERVER_SERVING_WIRE_PARSER_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace adamoe {

// INVALID_ARGUMENT names the message's type when `bytes` are not one, and the field when a string
// of it is not UTF-8 (as "messages.messages[1].content").
absl::Status ParseWire(absl::string_view bytes, google::protobuf::Message* message);

// Routes the protobuf library's own messages, which outside bytes can provoke, to the log at level
// debug. Call once, at start.
void QuietProtobufLog();

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_WIRE_PARSER_H_
