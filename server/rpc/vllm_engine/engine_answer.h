// The responses of one sample: messages of its generation as chunks and the Complete at its end.
// Thread-compatible.
#ifndef ADAMOE_SERVER_RPC_VLLM_ENGINE_ENGINE_ANSWER_H_
#define ADAMOE_SERVER_RPC_VLLM_ENGINE_ENGINE_ANSWER_H_

#include <smg/vllm_engine.pb.h>

#include <cstdint>
#include <utility>

#include "server/rpc/vllm_engine/engine_request.h"

namespace adamoe {

namespace v1 {
class GenerateResponse;
class Token;
}  // namespace v1

class EngineAnswer {
 public:
  EngineAnswer(EngineAnswerOptions options, uint32_t index)
      : options_(std::move(options)), index_(index) {}

  bool stream() const { return options_.stream; }

  // Takes what the next message holds.
  void Add(const v1::GenerateResponse& message, uint32_t num_prompt_tokens);

  // What was added last, for a stream.
  vllm::grpc::engine::GenerateResponse Chunk() const;

  // The end: of all that was added, log-probabilities left out where they went before in chunks.
  // Says "abort" where no message has said how it ended. REQUIRES: call once.
  vllm::grpc::engine::GenerateResponse Complete(uint32_t num_prompt_tokens);

 private:
  void AddLogprobs(const v1::Token& token);
  void AddPromptLogprobs(const v1::Token& token);

  const EngineAnswerOptions options_;
  const uint32_t index_;
  vllm::grpc::engine::GenerateStreamChunk chunk_;
  vllm::grpc::engine::GenerateComplete complete_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_RPC_VLLM_ENGINE_ENGINE_ANSWER_H_
