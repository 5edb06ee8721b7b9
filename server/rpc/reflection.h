// Server reflection for one gRPC server, behind the same tokens as the service.
#ifndef ADAMOE_SERVER_RPC_REFLECTION_H_
#define ADAMOE_SERVER_RPC_REFLECTION_H_

#include "server/security/authenticator.h"

namespace grpc {
class ServerBuilder;
}  // namespace grpc

namespace adamoe {

// The server that `builder` makes answers reflection, to callers with a valid token where
// `authenticator` is not null. It must outlive that server.
void AddReflection(const Authenticator* authenticator, grpc::ServerBuilder& builder);

// The server that `builder` makes does not.
void LeaveOutReflection(grpc::ServerBuilder& builder);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_REFLECTION_H_
