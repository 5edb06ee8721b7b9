// One Generate of vllm.grpc.engine: a generation for each sample, whose chunks are written as they
// are made. The call owns itself.
#ifndef ADAMOE_SERVER_RPC_VLLM_ENGINE_ENGINE_GENERATE_CALL_H_
#define ADAMOE_SERVER_RPC_VLLM_ENGINE_ENGINE_GENERATE_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/rpc/vllm_engine/running_requests.h"
#include "server/serving/call_context.h"

namespace adamoe {

// Starts the call of `request`, the bytes of a GenerateRequest, which are read before it returns.
// It stands in `running` while it runs, unless it has no id; `running` must outlive it. `context`
// is copied.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartEngineGenerate(
    const CallContext& context, RunningRequests* running,
    grpc::CallbackServerContext* server_context, const grpc::ByteBuffer& request);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_VLLM_ENGINE_ENGINE_GENERATE_CALL_H_
