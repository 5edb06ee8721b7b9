// One GetTokenizer: an archive in chunks. The call owns itself.
#ifndef ADAMOE_SERVER_RPC_VLLM_ENGINE_GET_TOKENIZER_CALL_H_
#define ADAMOE_SERVER_RPC_VLLM_ENGINE_GET_TOKENIZER_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>

#include "absl/status/statusor.h"
#include "server/rpc/vllm_engine/tokenizer_archive.h"

namespace adamoe {

// Sends the archive, the last chunk with its digest; or ends with the error.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGetTokenizer(
    absl::StatusOr<std::shared_ptr<const Archive>> archive);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_VLLM_ENGINE_GET_TOKENIZER_CALL_H_
