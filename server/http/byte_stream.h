// A connection's bytes, plain or through TLS. All calls and callbacks are on the thread that runs
// the socket's io_context; at most one read and one write at a time. Destroying it, or Close, ends
// what is under way with an error.
#ifndef ADAMOE_SERVER_HTTP_BYTE_STREAM_H_
#define ADAMOE_SERVER_HTTP_BYTE_STREAM_H_

#include <utility>  // for Boost.Asio 1.74, which uses std::exchange without it
//
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <functional>
#include <memory>

#include "server/http/tls_context.h"

namespace adamoe {

class ByteStream {
 public:
  using Done = std::function<void(const boost::system::error_code& error, size_t num_bytes)>;

  virtual ~ByteStream() = default;

  // First of all.
  virtual void Handshake(Done done) = 0;
  virtual void ReadSome(boost::asio::mutable_buffer into, Done done) = 0;
  virtual void WriteSome(boost::asio::const_buffer from, Done done) = 0;
  // There will be no more writes; what the client still sends can be read.
  virtual void ShutdownSend() = 0;
  virtual void Close() = 0;
};

// `tls` null: plain.
std::unique_ptr<ByteStream> MakeByteStream(boost::asio::ip::tcp::socket socket,
                                           std::shared_ptr<TlsContext> tls);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_BYTE_STREAM_H_
