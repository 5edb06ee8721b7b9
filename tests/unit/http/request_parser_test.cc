#include "server/http/request_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

using State = RequestParser::State;
using testing::ElementsAre;

constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

// Parses `text`, `piece` bytes at a time; what it comes to after the head.
State ParseAll(RequestParser& parser, const std::string& text, size_t piece) {
  std::string buffer;
  State state = State::kNeedsMore;
  for (size_t i = 0; i < text.size(); i += piece) {
    buffer += text.substr(i, piece);
    do {
      state = parser.Parse(&buffer);
    } while (state == State::kHead);
    if (state != State::kNeedsMore) return state;
  }
  return state;
}

TEST(RequestParserTest, ReadsARequestHoweverItIsCut) {
  const std::string text = absl::StrCat(
      "POST /v1/models/a%20b%zz?x=%20 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
      "t\r\nauthorization: u\r\n"
      "traceparent: ",
      kTrace, "\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
  for (const size_t piece : {size_t{1}, size_t{7}, text.size()}) {
    RequestParser parser({}, "peer");
    EXPECT_FALSE(parser.has_begun());
    ASSERT_EQ(ParseAll(parser, text, piece), State::kDone) << parser.error();
    const RequestHead& head = parser.head();
    EXPECT_EQ(head.method, "POST");
    EXPECT_EQ(head.path, "/v1/models/a b%zz");
    EXPECT_TRUE(head.keep_alive && head.has_body && head.expects_continue);
    EXPECT_FALSE(head.is_encoded || head.is_http_1_0);
    EXPECT_EQ(head.origin.peer, "peer");
    EXPECT_THAT(head.origin.authorization, ElementsAre("Bearer t", "u"));
    ASSERT_TRUE(head.origin.trace.has_value());
    EXPECT_EQ(head.origin.trace->parent_id, "b7ad6b7169203331");
    EXPECT_EQ(parser.TakeBody(), "hello");
  }
}

TEST(RequestParserTest, ReadsChunksAndLeavesWhatFollows) {
  std::string bytes =
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
      "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nGET /next";
  RequestParser parser({}, "");
  ASSERT_EQ(parser.Parse(&bytes), State::kHead);
  EXPECT_FALSE(parser.head().keep_alive);
  ASSERT_EQ(parser.Parse(&bytes), State::kDone) << parser.error();
  EXPECT_EQ(parser.TakeBody(), "abcde");
  EXPECT_EQ(bytes, "GET /next");
}

TEST(RequestParserTest, OldClients) {
  RequestParser parser({}, "");
  ASSERT_EQ(ParseAll(parser, "GET /health HTTP/1.0\r\n\r\n", 100), State::kDone) << parser.error();
  EXPECT_TRUE(parser.head().is_http_1_0);
  EXPECT_FALSE(parser.head().keep_alive || parser.head().has_body);
}

TEST(RequestParserTest, Refuses) {
  const std::string big(100, 'x');
  const struct {
    std::string text;
    int status;
  } cases[] = {
      {"nonsense\r\n\r\n", 400},
      {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 400},
      {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
       400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
       400},
      {"\x16\x03\x01\x02", 400},
      {absl::StrCat("GET /", big, big, big, big), 431},
      {absl::StrCat("GET / HTTP/1.1\r\nHost: x\r\nA: ", big, big, big, "\r\n\r\n"), 431},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 51\r\n\r\n", 413},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\n", 413},
      {absl::StrCat("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n", big),
       413},
  };
  for (const auto& [text, status] : cases) {
    for (const size_t piece : {size_t{1}, text.size()}) {
      RequestParser parser({.head_bytes = 256, .body_bytes = 50}, "");
      std::string more;
      EXPECT_EQ(ParseAll(parser, text, piece), State::kFailed) << text;
      EXPECT_EQ(parser.error_status(), status) << text;
      EXPECT_EQ(parser.Parse(&more), State::kFailed);
    }
  }
}

}  // namespace
}  // namespace adamoe
