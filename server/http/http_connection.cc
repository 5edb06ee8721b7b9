#include "server/http/http_connection.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/http/api_error.h"
#include "server/http/response_text.h"

namespace adamoe {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

constexpr size_t kReadBytes = 16 << 10;
// Of requests that come early; what goes beyond waits in the kernel, and the client's end is then
// noticed when it is written to.
constexpr size_t kMaxEarlyBytes = 64 << 10;
// After a refusal this much more is read and dropped, so that the client comes to read the answer.
constexpr size_t kMaxLingerBytes = 64 << 20;

std::string PeerOf(const tcp::socket& socket) {
  error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  if (error) return "";
  const std::string address = endpoint.address().to_string(error);
  return endpoint.address().is_v6() ? absl::StrCat("ipv6:[", address, "]:", endpoint.port())
                                    : absl::StrCat("ipv4:", address, ":", endpoint.port());
}

// Small writes go at once, and a client that has vanished without a word is noticed within a
// minute.
void SetOptions(tcp::socket& socket) {
  const int fd = socket.native_handle();
  const auto set = [fd](int level, int name, int value) {
    setsockopt(fd, level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 40);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
}

class Connection final : public HttpConnection, public std::enable_shared_from_this<Connection> {
 public:
  Connection(const Server* server, tcp::socket socket, std::shared_ptr<TlsContext> tls,
             bool health_only)
      : server_(*server),
        health_only_(health_only),
        executor_(socket.get_executor()),
        deadline_(executor_),
        peer_(PeerOf(socket)),
        stream_(MakeByteStream(std::move(socket), std::move(tls))) {}

  void Start() {
    SetDeadline(server_.timeouts.head);
    stream_->Handshake([self = shared_from_this()](const error_code& error, size_t) {
      if (self->closed_) return;
      if (error || self->last_request_) return self->Close();
      self->AwaitRequest();
    });
  }

  void Drain() override {
    last_request_ = true;
    if (state_ == State::kRequest && !parser_->has_begun() && !writing_) Close();
  }

  void Abort() override { Close(); }

 private:
  enum class State {
    kHandshake,
    kRequest,   // reads a request, or waits for one
    kExchange,  // an answer is being made or sent
    kLinger,    // the answer is sent; the rest of a request is read and dropped
  };

  // Reading.

  void AwaitRequest() {
    state_ = State::kRequest;
    parser_.emplace(server_.limits, peer_);
    SetDeadline(server_.timeouts.idle);
    Advance();
  }

  void Read() {
    if (reading_ || closed_) return;
    reading_ = true;
    stream_->ReadSome(boost::asio::buffer(*read_buffer_),
                      [self = shared_from_this()](const error_code& error, size_t num_bytes) {
                        self->OnRead(error, num_bytes);
                      });
  }

  void OnRead(const error_code& error, size_t num_bytes) {
    reading_ = false;
    if (closed_) return;
    if (error) return Close();
    if (state_ == State::kLinger) {
      num_lingered_ += num_bytes;
      return num_lingered_ > kMaxLingerBytes ? Close() : Read();
    }
    early_.append(read_buffer_->data(), num_bytes);
    if (state_ == State::kRequest) return Advance();
    if (early_.size() < kMaxEarlyBytes) Read();
  }

  // Makes what it can of the bytes that are there.
  void Advance() {
    while (state_ == State::kRequest && !closed_) {
      const bool had_begun = parser_->has_begun();
      const RequestParser::State parsed = parser_->Parse(&early_);
      if (!had_begun && parser_->has_begun()) SetDeadline(server_.timeouts.head);
      switch (parsed) {
        case RequestParser::State::kNeedsMore:
          return Read();
        case RequestParser::State::kHead:
          OnHead();
          break;
        case RequestParser::State::kDone:
          return OnRequest();
        case RequestParser::State::kFailed:
          return OnFailed();
      }
    }
  }

  void OnHead() {
    const RequestHead& head = parser_->head();
    if (!head.keep_alive) last_request_ = true;
    std::optional<Reply> reply =
        health_only_ ? server_.router->AnswerHealthOnly(head) : server_.router->Answer(head);
    if (health_only_) last_request_ = true;
    if (reply.has_value()) {
      // The body is not waited for, and nothing can follow it.
      if (head.has_body) lingers_ = last_request_ = true;
      return SendWhole(*std::move(reply));
    }
    SetDeadline(server_.timeouts.body);
    if (head.expects_continue && head.has_body && early_.empty()) {
      Write("HTTP/1.1 100 Continue\r\n\r\n");
    }
  }

  void OnRequest() {
    state_ = State::kExchange;
    SetDeadline(absl::InfiniteDuration());
    exchange_ = server_.router->Open(parser_->head(), parser_->TakeBody(),
                                     [self = shared_from_this()] { self->Wake(); });
    server_.run([exchange = exchange_] { exchange->Start(); });
    // Whether the client goes away shows when it is read from.
    if (early_.size() < kMaxEarlyBytes) Read();
  }

  void OnFailed() {
    lingers_ = last_request_ = true;
    if (parser_->has_head()) {
      return SendWhole(
          server_.router->RefuseBody(parser_->head(), parser_->error_status(), parser_->error()));
    }
    SendWhole(HttpError(parser_->error_status(), parser_->error()).ToReply());
  }

  // Answering.

  // On any thread.
  void Wake() {
    if (wake_posted_.exchange(true)) return;
    boost::asio::post(executor_, [self = shared_from_this()] {
      self->wake_posted_ = false;
      self->Pump();
    });
  }

  // Takes what the exchange has, unless the last of it is still being written.
  void Pump() {
    while (exchange_ != nullptr && (closed_ || !writing_)) {
      Exchange::Taken taken = exchange_->Take();
      if (taken.end) exchange_ = nullptr;
      if (closed_) {
        if (taken.end) server_.closed(this);
        return;
      }
      if (taken.reply.has_value()) {
        if (taken.end) return SendWhole(*std::move(taken.reply));
        StartStream(*std::move(taken.reply));
      } else if (taken.end) {
        EndStream(std::move(taken.piece));
      } else if (!taken.piece.empty()) {
        Write(Framed(taken.piece));
      } else {
        return;
      }
    }
  }

  void SendWhole(Reply reply) {
    state_ = State::kExchange;
    const bool has_body = parser_->head().method != "HEAD";
    std::string text = WholeResponse(reply, last_request_, has_body);
    answered_ = true;
    Write(std::move(text));
  }

  void StartStream(Reply reply) {
    is_chunked_ = !parser_->head().is_http_1_0;
    if (!is_chunked_) last_request_ = true;
    std::string text = StreamHead(reply, last_request_, is_chunked_);
    absl::StrAppend(&text, Framed(reply.body));
    Write(std::move(text));
  }

  void EndStream(std::string piece) {
    answered_ = true;
    Write(absl::StrCat(piece.empty() ? "" : Framed(piece), is_chunked_ ? kLastChunk : ""));
  }

  std::string Framed(const std::string& piece) const { return is_chunked_ ? Chunk(piece) : piece; }

  // Writing. What is written while something is goes behind it.
  void Write(std::string text) {
    if (writing_) {
      next_.append(text);
      return;
    }
    writing_ = true;
    out_ = std::move(text);
    num_written_ = 0;
    WriteSome();
  }

  void WriteSome() {
    if (num_written_ == out_.size()) return OnWritten();
    if (state_ != State::kRequest) SetDeadline(server_.timeouts.stall);
    stream_->WriteSome(boost::asio::buffer(out_.data() + num_written_, out_.size() - num_written_),
                       [self = shared_from_this()](const error_code& error, size_t num_bytes) {
                         if (self->closed_) return;
                         if (error) return self->Close();
                         self->num_written_ += num_bytes;
                         self->WriteSome();
                       });
  }

  void OnWritten() {
    writing_ = false;
    out_ = {};
    if (!next_.empty()) return Write(std::exchange(next_, {}));
    if (state_ != State::kExchange) return;
    SetDeadline(absl::InfiniteDuration());
    if (exchange_ != nullptr) return Pump();
    if (answered_) OnAnswered();
  }

  void OnAnswered() {
    answered_ = false;
    if (lingers_) {
      state_ = State::kLinger;
      stream_->ShutdownSend();
      early_ = {};
      SetDeadline(server_.timeouts.linger);
      return Read();
    }
    if (last_request_) return Close();
    AwaitRequest();
  }

  // Ending.

  void SetDeadline(absl::Duration time) {
    const uint64_t number = ++deadline_number_;
    if (time == absl::InfiniteDuration()) {
      deadline_.cancel();
      return;
    }
    deadline_.expires_after(absl::ToChronoNanoseconds(time));
    deadline_.async_wait([weak = weak_from_this(), number](const error_code& error) {
      const auto self = weak.lock();
      if (!error && self != nullptr && self->deadline_number_ == number) self->OnDeadline();
    });
  }

  void OnDeadline() {
    if (closed_) return;
    if (state_ != State::kRequest || writing_ || !parser_->has_begun()) return Close();
    lingers_ = last_request_ = true;
    SendWhole(HttpError(408, "the request did not come in time").ToReply());
  }

  void Close() {
    if (std::exchange(closed_, true)) return;
    const auto self = shared_from_this();
    stream_->Close();
    deadline_.cancel();
    if (exchange_ == nullptr) return server_.closed(this);
    exchange_->Abandon();
    Pump();
  }

  const Server& server_;
  const bool health_only_;
  const tcp::socket::executor_type executor_;
  boost::asio::steady_timer deadline_;
  uint64_t deadline_number_ = 0;
  const std::string peer_;
  const std::unique_ptr<ByteStream> stream_;
  State state_ = State::kHandshake;

  // Shared with reads under way: it outlives a read as the connection does.
  const std::unique_ptr<std::array<char, kReadBytes>> read_buffer_ =
      std::make_unique<std::array<char, kReadBytes>>();
  bool reading_ = false;
  std::string early_;  // bytes not parsed yet
  std::optional<RequestParser> parser_;

  std::shared_ptr<Exchange> exchange_;  // until its end is taken
  std::atomic<bool> wake_posted_{false};
  bool is_chunked_ = false;
  bool answered_ = false;      // all of the answer is written, or being written
  bool last_request_ = false;  // no other is answered on this connection
  bool lingers_ = false;
  size_t num_lingered_ = 0;

  bool writing_ = false;
  std::string out_;
  size_t num_written_ = 0;
  std::string next_;  // after out_

  bool closed_ = false;
};

}  // namespace

std::shared_ptr<HttpConnection> HttpConnection::Make(const Server* server, tcp::socket socket,
                                                     std::shared_ptr<TlsContext> tls,
                                                     bool health_only) {
  SetOptions(socket);
  const auto connection =
      std::make_shared<Connection>(server, std::move(socket), std::move(tls), health_only);
  connection->Start();
  return connection;
}

}  // namespace adamoe
