// The gRPC server: our own service, the Open Inference Protocol, vllm.grpc.engine, health
// (grpc.health.v1, for "" and each of the three) and reflection on one address; health alone on
// another where that is asked for. Health is open to everybody, in whichever protocol, the rest to
// those with a token where tokens are wanted. Thread-safe.
#ifndef ADAMOE_SERVER_RPC_RPC_SERVER_H_
#define ADAMOE_SERVER_RPC_RPC_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/security/tls_files.h"
#include "server/serving/call_context.h"

namespace adamoe {

class RpcServer {
 public:
  struct Options {
    std::string address;            // "HOST:PORT"; port 0: any free one
    const TlsFiles* tls = nullptr;  // null: plaintext. Must outlive the server
    // Serves health only, in plaintext. Empty: no such listener.
    std::string health_address = {};
    // When the executor last went round; InfinitePast once it cannot. Health turns NOT_SERVING when
    // that is longer ago than `max_stall`.
    std::function<absl::Time()> last_progress;
    absl::Duration max_stall = absl::Seconds(60);
    absl::Duration health_period = absl::Seconds(1);  // how often it is looked at
  };

  // Serves at once, and reports SERVING. UNAVAILABLE when the address cannot be had. What `context`
  // points at must outlive the server.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const Options& options,
                                                          const CallContext& context);
  // Shuts down at once.
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  int port() const;
  int health_port() const;  // 0 where health has no listener of its own

  // Health is NOT_SERVING from now on; calls are still taken.
  void StopServing();

  // Takes no more calls and connections, and tells the clients (GOAWAY), so that they go elsewhere
  // while calls under way go on. gRPC ends a call that crosses the GOAWAY with CANCELLED. Does not
  // block.
  void StopAccepting();

  // The same; then waits for the calls under way until `timeout` has passed, and cancels the rest.
  // Blocks until all have ended, so the executor must still run or have ended every request.
  void Shutdown(absl::Duration timeout);

 private:
  class Core;
  explicit RpcServer(std::unique_ptr<Core> core);

  std::unique_ptr<Core> core_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_RPC_SERVER_H_
