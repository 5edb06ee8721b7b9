#include "absl/status/status.h"
#include "train/remote/server_scorer.h"

namespace adamoe {

absl::StatusOr<std::unique_ptr<Scorer>> ConnectScorer(const std::string&, const ModelConfig&,
                                                      int32_t) {
  return absl::UnimplementedError(
      "--target: this build lacks gRPC; configure with -DADAMOE_BUILD_SERVER=ON");
}

}  // namespace adamoe
