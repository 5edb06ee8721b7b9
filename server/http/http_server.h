// The HTTP server: OpenAI's API, health, load, the tokenizer and a page for people, on one address.
// Health and the page are open to everybody, the rest to those with a token where tokens are
// wanted. Thread-safe.
#ifndef ADAMOE_SERVER_HTTP_HTTP_SERVER_H_
#define ADAMOE_SERVER_HTTP_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/security/tls_files.h"
#include "server/serving/call_context.h"

namespace adamoe {

class HttpServer {
 public:
  struct Options {
    std::string host;               // an address, an IPv6 one in brackets or not, or a name
    int port = 0;                   // 0: any free one
    const TlsFiles* tls = nullptr;  // null: plaintext. Must outlive the server
    // When the executor last went round; InfinitePast once it cannot. Health is 503 when that is
    // longer ago than `max_stall`.
    std::function<absl::Time()> last_progress;
    absl::Duration max_stall = absl::Seconds(60);
    // More are served health only, and after 64 of those closed at once.
    int max_connections = 1024;
    size_t max_body_bytes = 16 << 20;
    absl::Duration head_timeout = absl::Seconds(30);   // for a request's head
    absl::Duration body_timeout = absl::Seconds(120);  // for its body
    absl::Duration idle_timeout = absl::Seconds(75);   // between requests
    absl::Duration stall_timeout = absl::Seconds(60);  // for a client to read some of what it gets
  };

  // Serves at once. UNAVAILABLE when the address cannot be had. What `context` points at must
  // outlive the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Options& options,
                                                           const CallContext& context);
  // Shuts down at once.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  int num_connections() const;

  // Health is 503 from now on; requests are still taken.
  void StopServing();

  // Takes no more connections and requests, and closes those connections that have none under way;
  // the others when theirs is answered. Does not block.
  void StopAccepting();

  // The same; then waits for what is under way until `timeout` has passed, and ends the rest.
  // Blocks until all has ended, so the executor must still run or have ended every request.
  void Shutdown(absl::Duration timeout);

 private:
  class Core;
  explicit HttpServer(std::unique_ptr<Core> core);

  std::unique_ptr<Core> core_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_HTTP_SERVER_H_
