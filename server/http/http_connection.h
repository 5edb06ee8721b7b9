// One client's connection: reads requests one after another, has each answered, writes the answer
// as it comes, and notices when the client goes. All calls are on the thread of the io_context.
//
// Nothing here waits. A request that comes before the last one is answered waits in the kernel and
// in a buffer of bounded size. What a client does not read is not taken from the exchange.
#ifndef ADAMOE_SERVER_HTTP_HTTP_CONNECTION_H_
#define ADAMOE_SERVER_HTTP_HTTP_CONNECTION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "server/http/byte_stream.h"
#include "server/http/request_parser.h"
#include "server/http/router.h"

namespace adamoe {

class HttpConnection {
 public:
  struct Timeouts {
    absl::Duration head = absl::Seconds(30);   // from a request's first byte; the handshake, too
    absl::Duration body = absl::Seconds(120);  // from the end of the head
    absl::Duration idle = absl::Seconds(75);   // between requests
    absl::Duration stall = absl::Seconds(60);  // in which a client reads nothing of what it is sent
    absl::Duration linger = absl::Seconds(5);  // for what it still sends after a refusal
  };
  // What connections have in common; must outlive them.
  struct Server {
    const Router* router = nullptr;
    RequestParser::Limits limits;
    Timeouts timeouts;
    // Runs it on a thread that may be kept for a while.
    std::function<void(std::function<void()>)> run;
    // The connection is closed and its last exchange has ended.
    std::function<void(HttpConnection*)> closed;
  };

  // Starts. `health_only`: anything else is refused.
  static std::shared_ptr<HttpConnection> Make(const Server* server,
                                              boost::asio::ip::tcp::socket socket,
                                              std::shared_ptr<TlsContext> tls, bool health_only);
  virtual ~HttpConnection() = default;

  // Closes as soon as nothing is being answered.
  virtual void Drain() = 0;
  // Closes now; what is being answered is abandoned.
  virtual void Abort() = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_HTTP_CONNECTION_H_
