// A Scorer of the model that a server serves, through its Score rpc.
#ifndef ADAMOE_TRAIN_REMOTE_SERVER_SCORER_H_
#define ADAMOE_TRAIN_REMOTE_SERVER_SCORER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/weights/model_config.h"
#include "train/scorer.h"

namespace adamoe {

// `target`: HOST:PORT. `config` is of the folder whose tokenizer makes the tokens, and says what
// the layers cost; INVALID_ARGUMENT when the server's model has another shape, or counts against
// another number of experts than `baseline_experts_per_token`. Other errors are those of the call,
// with the target in front; UNIMPLEMENTED in a build without gRPC.
//
// A sequence is scored as what follows its first token. The server's prefix cache is not used, so
// that costs are those of every position.
absl::StatusOr<std::unique_ptr<Scorer>> ConnectScorer(const std::string& target,
                                                      const ModelConfig& config,
                                                      int32_t baseline_experts_per_token);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_REMOTE_SERVER_SCORER_H_
