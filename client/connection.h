// How adamoe_client and adamoe_bench reach a server: the flags --target, --tls, --tls_ca_file,
// --tls_cert_file, --tls_key_file and --token_file, which linking this defines.
#ifndef ADAMOE_CLIENT_CONNECTION_H_
#define ADAMOE_CLIENT_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/status/statusor.h"

namespace adamoe {

// A channel as the flags say. Errors name the flag, and the file where one is at fault.
absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectByFlags();

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_CONNECTION_H_
