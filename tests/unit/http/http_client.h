// A client of HTTP/1.1 that sends what it is told, well-formed or not, and waits for what comes.
#ifndef ADAMOE_TESTS_UNIT_HTTP_HTTP_CLIENT_H_
#define ADAMOE_TESTS_UNIT_HTTP_HTTP_CLIENT_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace adamoe {

struct HttpResponse {
  int status = 0;                              // 0: the connection ended before there was one
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  bool is_whole = false;

  nlohmann::json Json() const {
    auto json = nlohmann::json::parse(body, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << body;
    return json;
  }
  // What the server-sent events say.
  std::vector<std::string> Events() const {
    std::vector<std::string> events;
    for (const absl::string_view event : absl::StrSplit(body, "\n\n", absl::SkipEmpty())) {
      EXPECT_EQ(event.substr(0, 6), "data: ") << event;
      events.emplace_back(event.substr(6));
    }
    return events;
  }
};

class HttpClient {
 public:
  // `receive_bytes`: the kernel's buffer, for clients that read slowly. 0: as it is.
  explicit HttpClient(int port, int receive_bytes = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_bytes > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    const timeval patience = {60, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ~HttpClient() { Close(); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  bool Send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += n;
    }
    return true;
  }

  // False at the end of the connection.
  bool ReadSome() {
    char bytes[65536];
    const ssize_t n = recv(fd_, bytes, sizeof(bytes), 0);
    if (n > 0) buffer_.append(bytes, n);
    return n > 0;
  }
  // Waits for the end; false where something else comes.
  bool AtEnd() { return buffer_.empty() && !ReadSome(); }

  // Waits until `text` has come; nothing of it is taken.
  bool Await(const std::string& text) {
    while (buffer_.find(text) == std::string::npos) {
      if (!ReadSome()) return false;
    }
    return true;
  }

  HttpResponse Read(bool has_body = true) {
    HttpResponse response;
    if (!Await("\r\n\r\n")) return response;
    const size_t end = buffer_.find("\r\n\r\n");
    const std::vector<std::string> lines = absl::StrSplit(buffer_.substr(0, end), "\r\n");
    buffer_.erase(0, end + 4);
    EXPECT_TRUE(absl::SimpleAtoi(lines[0].substr(9, 3), &response.status)) << lines[0];
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::vector<std::string> parts = absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
      response.headers[absl::AsciiStrToLower(parts[0])] = parts.at(1);
    }
    if (!has_body) return response;
    if (response.headers.count("transfer-encoding") != 0) {
      ReadChunks(response);
    } else {
      ReadLength(response);
    }
    return response;
  }

  HttpResponse Call(const std::string& request) {
    Send(request);
    return Read();
  }
  HttpResponse Get(const std::string& path) {
    return Call(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n\r\n"));
  }
  HttpResponse Post(const std::string& path, const std::string& body) {
    return Call(PostText(path, body));
  }
  static std::string PostText(const std::string& path, const std::string& body,
                              const std::string& headers = "") {
    return absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: x\r\n", headers,
                        "Content-Length: ", body.size(), "\r\n\r\n", body);
  }

 private:
  void ReadLength(HttpResponse& response) {
    size_t length = std::string::npos;
    if (response.headers.count("content-length") != 0) {
      EXPECT_TRUE(absl::SimpleAtoi(response.headers["content-length"], &length));
    }
    while (buffer_.size() < length) {
      if (!ReadSome()) break;
    }
    response.is_whole = length == std::string::npos || buffer_.size() >= length;
    response.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
  }

  void ReadChunks(HttpResponse& response) {
    while (Await("\r\n")) {
      const size_t end = buffer_.find("\r\n");
      uint32_t size;
      EXPECT_TRUE(absl::SimpleHexAtoi(buffer_.substr(0, end), &size)) << buffer_.substr(0, 20);
      while (buffer_.size() < end + 4 + size) {
        if (!ReadSome()) return;
      }
      response.body += buffer_.substr(end + 2, size);
      buffer_.erase(0, end + 4 + size);
      if (size > 0) continue;
      response.is_whole = true;
      return;
    }
  }

  int fd_;
  std::string buffer_;
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_HTTP_HTTP_CLIENT_H_
