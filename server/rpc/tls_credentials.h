// TLS for a gRPC listener, with certificates that may change while it serves.
#ifndef ADAMOE_SERVER_RPC_TLS_CREDENTIALS_H_
#define ADAMOE_SERVER_RPC_TLS_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/security/tls_files.h"

namespace adamoe {

// Each handshake uses what `files` holds when it begins; connections that stand are left alone.
// Where there is a client CA, clients must show a certificate that it signed; whether there is one
// is settled here. `files` must outlive the credentials, and these the server that uses them.
std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials(const TlsFiles* files);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_TLS_CREDENTIALS_H_
