#include "server/http/request_parser.h"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/log/traceparent.h"
#include "server/serving/utf8.h"

namespace adamoe {
namespace {

namespace http = boost::beast::http;

// "/v1/models/my%20model?x=1" -> "/v1/models/my model".
std::string PathOf(absl::string_view target) {
  target = target.substr(0, target.find('?'));
  std::string path;
  for (size_t i = 0; i < target.size(); ++i) {
    const absl::string_view digits = target.substr(std::min(i + 1, target.size()), 2);
    uint32_t byte;
    if (target[i] == '%' && digits.size() == 2 && absl::ascii_isxdigit(digits[0]) &&
        absl::ascii_isxdigit(digits[1]) && absl::SimpleHexAtoi(digits, &byte)) {
      path.push_back(static_cast<char>(byte));
      i += 2;
    } else {
      path.push_back(target[i]);
    }
  }
  return MendUtf8(path);
}

}  // namespace

struct RequestParser::Beast {
  http::request_parser<http::string_body> parser;

  std::vector<std::string> Values(const char* name) const {
    std::vector<std::string> values;
    const auto [begin, end] = parser.get().equal_range(name);
    for (auto field = begin; field != end; ++field) {
      values.emplace_back(field->value().data(), field->value().size());
    }
    return values;
  }
  std::string Value(const char* name) const {
    const auto values = Values(name);
    return values.empty() ? "" : values.front();
  }
};

RequestParser::RequestParser(const Limits& limits, std::string peer)
    : beast_(std::make_unique<Beast>()), limits_(limits), peer_(std::move(peer)) {
  beast_->parser.header_limit(static_cast<uint32_t>(limits.head_bytes));
  beast_->parser.body_limit(limits.body_bytes);
}

RequestParser::~RequestParser() = default;

RequestParser::State RequestParser::Parse(std::string* bytes) {
  auto& parser = beast_->parser;
  if (error_status_ != 0) return State::kFailed;
  if (is_too_large_) return FailTooLarge();
  while (!parser.is_done()) {
    if (bytes->empty()) return State::kNeedsMore;
    has_begun_ = true;
    boost::beast::error_code error;
    const size_t num_taken = parser.put(boost::asio::buffer(*bytes), error);
    bytes->erase(0, num_taken);
    if (error == http::error::need_more) return State::kNeedsMore;
    if (error == http::error::body_limit) {
      // A length that is too large is found with the head, which is then answered first.
      is_too_large_ = true;
      return has_head_ ? FailTooLarge() : ReadHead();
    }
    if (error == http::error::header_limit) {
      return Fail(431,
                  absl::StrCat("the request's head has more than ", limits_.head_bytes, " bytes"));
    }
    if (error) return Fail(400, absl::StrCat("this is not HTTP/1: ", error.message()));
    if (parser.is_header_done() && !has_head_) return ReadHead();
  }
  return State::kDone;
}

RequestParser::State RequestParser::ReadHead() {
  const auto& message = beast_->parser.get();
  has_head_ = true;
  head_.method = std::string(message.method_string());
  head_.path = PathOf({message.target().data(), message.target().size()});
  // Beast knows these of a head that it has not refused.
  const bool is_chunked = !is_too_large_ && beast_->parser.chunked();
  head_.has_body = is_too_large_ || is_chunked || beast_->parser.content_length().value_or(0) > 0;
  const std::string encoding = beast_->Value("content-encoding");
  head_.is_encoded = !encoding.empty() && !absl::EqualsIgnoreCase(encoding, "identity");
  head_.expects_continue = absl::EqualsIgnoreCase(beast_->Value("expect"), "100-continue");
  head_.keep_alive = message.keep_alive();
  head_.is_http_1_0 = message.version() < 11;
  head_.origin.peer = peer_;
  head_.origin.authorization = beast_->Values("authorization");
  const std::vector<std::string> traces = beast_->Values("traceparent");
  if (traces.size() == 1) head_.origin.trace = ParseTraceparent(traces.front());
  if (!beast_->Values("transfer-encoding").empty() && !is_chunked) {
    return Fail(501, "no transfer encoding but chunked is taken");
  }
  if (!head_.is_http_1_0 && beast_->Values("host").size() != 1) {
    return Fail(400, "a request has one Host header");
  }
  return State::kHead;
}

std::string RequestParser::TakeBody() { return std::move(beast_->parser.get().body()); }

RequestParser::State RequestParser::FailTooLarge() {
  return Fail(413, absl::StrCat("the body has more than ", limits_.body_bytes, " bytes"));
}

RequestParser::State RequestParser::Fail(int status, std::string error) {
  error_status_ = status;
  error_ = MendUtf8(error);
  return State::kFailed;
}

}  // namespace adamoe
