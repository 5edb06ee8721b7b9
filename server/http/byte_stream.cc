#include "server/http/byte_stream.h"

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <utility>

namespace adamoe {
namespace {

using boost::asio::const_buffer;
using boost::asio::mutable_buffer;
using boost::asio::ip::tcp;
using boost::system::error_code;

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(tcp::socket socket) : socket_(std::move(socket)) {}

  void Handshake(Done done) override {
    boost::asio::post(socket_.get_executor(), [done = std::move(done)] { done({}, 0); });
  }
  void ReadSome(mutable_buffer into, Done done) override {
    socket_.async_read_some(into, std::move(done));
  }
  void WriteSome(const_buffer from, Done done) override {
    socket_.async_write_some(from, std::move(done));
  }
  void ShutdownSend() override {
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
  }
  void Close() override {
    error_code ignored;
    socket_.close(ignored);
  }

 private:
  tcp::socket socket_;
};

class TlsStream final : public ByteStream {
 public:
  TlsStream(tcp::socket socket, std::shared_ptr<TlsContext> tls)
      : tls_(std::move(tls)), stream_(std::move(socket), *tls_) {}

  void Handshake(Done done) override {
    stream_.async_handshake(boost::asio::ssl::stream_base::server,
                            [done = std::move(done)](const error_code& error) { done(error, 0); });
  }
  void ReadSome(mutable_buffer into, Done done) override {
    stream_.async_read_some(into, std::move(done));
  }
  void WriteSome(const_buffer from, Done done) override {
    stream_.async_write_some(from, std::move(done));
  }
  // Without TLS's own word of farewell: every response says where it ends.
  void ShutdownSend() override {
    error_code ignored;
    stream_.next_layer().shutdown(tcp::socket::shutdown_send, ignored);
  }
  void Close() override {
    error_code ignored;
    stream_.next_layer().close(ignored);
  }

 private:
  const std::shared_ptr<TlsContext> tls_;
  boost::asio::ssl::stream<tcp::socket> stream_;
};

}  // namespace

std::unique_ptr<ByteStream> MakeByteStream(tcp::socket socket, std::shared_ptr<TlsContext> tls) {
  if (tls == nullptr) return std::make_unique<PlainStream>(std::move(socket));
  return std::make_unique<TlsStream>(std::move(socket), std::move(tls));
}

}  // namespace adamoe
