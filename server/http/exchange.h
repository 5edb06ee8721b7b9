// One HTTP request and its answer, as plain values, and the part that makes the answer. Nothing
// here knows of sockets.
#ifndef ADAMOE_SERVER_HTTP_EXCHANGE_H_
#define ADAMOE_SERVER_HTTP_EXCHANGE_H_

#include <optional>
#include <string>
#include <vector>

#include "server/serving/call_origin.h"

namespace adamoe {

struct Header {
  std::string name;
  std::string value;
};

// What comes before a request's body.
struct RequestHead {
  std::string method;
  std::string path;  // the target without its query
  bool has_body = false;
  bool is_encoded = false;  // the body, as gzip or the like
  bool expects_continue = false;
  bool keep_alive = false;
  bool is_http_1_0 = false;
  CallOrigin origin;
};

// What a response starts with; `body` is all of it, or its first part.
struct Reply {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<Header> headers = {};  // beside those that HTTP itself needs
  std::string body = {};
};

class Exchange {
 public:
  virtual ~Exchange() = default;

  // Call once, on a thread that may be kept for a while. The part that sends is woken, on any
  // thread, when Take may have something.
  virtual void Start() = 0;

  // The client has gone: there will be no more to send, only the end. Thread-safe.
  virtual void Abandon() = 0;

  struct Taken {
    std::optional<Reply> reply;  // set once, first
    std::string piece;           // what comes after the reply's body
    bool end = false;            // set once: nothing comes after it
  };
  // What waits to be sent. Thread-safe.
  virtual Taken Take() = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_EXCHANGE_H_
