#include "train/remote/server_scorer.h"

#include <adamoe/v1/inference.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/rpc.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

// Calls at a time: enough for the server to fill its batches.
constexpr int kNumCalls = 16;
constexpr absl::Duration kTimeout = absl::Minutes(10);  // of one call
// A full queue is asked again, for so long at most.
constexpr absl::Duration kPatience = absl::Minutes(2);
constexpr absl::Duration kPause = absl::Milliseconds(200);

absl::Status CheckEqual(const char* what, uint64_t got, uint64_t want) {
  if (got == want) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the served model's ", what, " is ", got, ", the folder's ", want));
}

class ServerScorer final : public Scorer {
 public:
  ServerScorer(const std::string& target, const ModelConfig& config, int32_t baseline)
      : target_(target),
        stub_(v1::Inference::NewStub(Connect(target))),
        cost_(MixtralCost(config)),
        baseline_(baseline) {}

  // Asks what is served. Call before anything else.
  absl::Status Open(const ModelConfig& config) {
    grpc::ClientContext context;
    SetTimeout(kTimeout, &context);
    v1::GetModelInfoResponse info;
    RETURN_IF_ERROR(At(FromGrpc(stub_->GetModelInfo(&context, {}, &info))));
    RETURN_IF_ERROR(At(CheckEqual("vocab_size", info.vocab_size(), config.vocab_size)));
    RETURN_IF_ERROR(At(CheckEqual("number of layers", info.num_layers(), config.num_layers)));
    RETURN_IF_ERROR(At(CheckEqual("number of experts", info.num_experts(), config.num_experts)));
    experts_per_token_ = info.experts_per_token();
    max_context_ = info.max_context_tokens();
    return absl::OkStatus();
  }

  absl::StatusOr<TokenScores> Score(absl::Span<const int32_t> tokens) const override {
    v1::ScoreRequest request;
    request.mutable_context_tokens()->add_ids(tokens[0]);
    const auto rest = tokens.subspan(1);
    request.add_continuations()->mutable_tokens()->mutable_ids()->Add(rest.begin(), rest.end());
    ASSIGN_OR_RETURN(const v1::ScoreResponse response, Call(request));
    if (response.scores_size() != 1 ||
        response.scores(0).token_logprobs_size() != static_cast<int>(rest.size())) {
      return At(absl::InternalError("the answer lacks log-probabilities"));
    }
    TokenScores scores;
    const auto& logprobs = response.scores(0).token_logprobs();
    scores.logprobs.assign(logprobs.begin(), logprobs.end());
    RETURN_IF_ERROR(At(ReadUsage(response.usage(), &scores)));
    return scores;
  }

  int64_t max_context() const override { return max_context_; }
  int num_threads() const override { return kNumCalls; }
  const ModelCost& cost() const override { return cost_; }

 private:
  // A status with the target in front.
  absl::Status At(const absl::Status& status) const {
    if (status.ok()) return status;
    return absl::Status(status.code(), absl::StrCat(target_, ": ", StatusLine(status)));
  }

  absl::StatusOr<v1::ScoreResponse> Call(const v1::ScoreRequest& request) const {
    const absl::Time end = absl::Now() + kPatience;
    while (true) {
      grpc::ClientContext context;
      SetTimeout(kTimeout, &context);
      v1::ScoreResponse response;
      const absl::Status status = FromGrpc(stub_->Score(&context, request, &response));
      if (status.ok()) return response;
      if (!absl::IsResourceExhausted(status) || absl::Now() >= end) return At(status);
      absl::SleepFor(kPause);
    }
  }

  // Positions from slots: k of them in each layer.
  absl::Status ReadUsage(const v1::Usage& usage, TokenScores* scores) const {
    const uint64_t slots = usage.true_slots() + usage.null_slots() + usage.dropped_slots();
    const uint64_t slots_per_position = experts_per_token_ * cost_.expert_products.size();
    if (slots == 0 || slots_per_position == 0) {
      return absl::InternalError("the answer counts no slots");
    }
    const uint64_t baseline = usage.baseline_expert_flops() * experts_per_token_;
    const uint64_t all = usage.executed_expert_flops() + usage.saved_expert_flops();
    if (baseline != baseline_ * all) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the server compares with ", static_cast<double>(baseline) / static_cast<double>(all),
          " experts per token, --baseline_experts_per_token is ", baseline_));
    }
    scores->num_positions = static_cast<int64_t>(slots / slots_per_position);
    scores->true_experts = static_cast<double>(usage.true_slots());
    // Two FLOPs per multiply-add.
    scores->expert_products = static_cast<double>(usage.executed_expert_flops()) / 2;
    return absl::OkStatus();
  }

  const std::string target_;
  const std::unique_ptr<v1::Inference::Stub> stub_;
  const ModelCost cost_;
  const uint64_t baseline_;
  uint64_t experts_per_token_ = 0;  // k
  int64_t max_context_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Scorer>> ConnectScorer(const std::string& target,
                                                      const ModelConfig& config,
                                                      int32_t baseline_experts_per_token) {
  auto scorer = std::make_unique<ServerScorer>(target, config, baseline_experts_per_token);
  RETURN_IF_ERROR(scorer->Open(config));
  return scorer;
}

}  // namespace adamoe
