// Bytes of a connection -> one HTTP/1 request, with bounds on its size. Holds what Boost.Beast
// knows of the protocol. Thread-compatible.
#ifndef ADAMOE_SERVER_HTTP_REQUEST_PARSER_H_
#define ADAMOE_SERVER_HTTP_REQUEST_PARSER_H_

#include <cstddef>
#include <memory>
#include <string>

#include "server/http/exchange.h"

namespace adamoe {

class RequestParser {
 public:
  struct Limits {
    size_t head_bytes = 32 << 10;
    size_t body_bytes = 16 << 20;
  };

  // `peer` is the client's address, for head().origin.
  RequestParser(const Limits& limits, std::string peer);
  ~RequestParser();

  enum class State {
    kNeedsMore,
    kHead,   // the head has just come to its end; said once
    kDone,   // head and body are there
    kFailed  // error_status() and error() say why; nothing can follow on this connection
  };
  // Takes what it needs from the front of *bytes.
  State Parse(std::string* bytes);

  // Something of the request has come.
  bool has_begun() const { return has_begun_; }
  // From State::kHead on.
  bool has_head() const { return has_head_; }
  const RequestHead& head() const { return head_; }
  // From State::kDone on, once.
  std::string TakeBody();

  int error_status() const { return error_status_; }
  const std::string& error() const { return error_; }

 private:
  struct Beast;

  State Fail(int status, std::string error);
  State FailTooLarge();
  State ReadHead();

  const std::unique_ptr<Beast> beast_;
  const Limits limits_;
  const std::string peer_;
  RequestHead head_;
  bool has_begun_ = false;
  bool has_head_ = false;
  bool is_too_large_ = false;
  int error_status_ = 0;
  std::string error_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_REQUEST_PARSER_H_
