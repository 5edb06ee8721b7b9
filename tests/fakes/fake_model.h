// A model without weights whose next token depends on everything the sequence can see.
//
// Each position leaves a fingerprint of its token, position and compute dial in the KV slot it was
// given. A position's logits are a hash of the fingerprints of its whole history, read back through
// the block table, as attention reads keys and values. So a wrong block table, a block shared by
// mistake, a stale prefix or a recomputation left out changes what is generated, and a test that
// compares with a sequence run on its own sees it.
//
// Forward is the executor's; the counters may be read once the executor is idle or gone.
#ifndef ADAMOE_TESTS_FAKES_FAKE_MODEL_H_
#define ADAMOE_TESTS_FAKES_FAKE_MODEL_H_

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/model/model.h"

namespace adamoe {

class FakeModel : public Model {
 public:
  // vocab 97, 2 layers, k = 3 of 4 true and 4 null experts, a context of 4096 tokens, 64 blocks of
  // 4 positions.
  static ModelDimensions SmallDimensions();

  // Faults, by number of the step (from 0; -1: never).
  struct Faults {
    int fail_step = -1;   // Forward returns an error
    int lose_step = -1;   // so does every later one: the model is lost
    int throw_step = -1;  // Forward throws std::runtime_error
    int skip_row_step =
        -1;  // the last layer reports one row fewer than were routed, for the last position
    int nan_step = -1;  // the last logits row holds NaN
  };

  explicit FakeModel(const ModelDimensions& dimensions = SmallDimensions());

  const ModelDimensions& dimensions() const override { return dimensions_; }
  absl::Status Forward(const ForwardBatch& batch, ForwardResult* result) override;
  bool lost() const override { return lost_; }

  void set_faults(const Faults& faults) { faults_ = faults; }
  // Called at the start of every Forward with the step's number: to cancel, let time pass, or wait.
  void set_before_step(std::function<void(int step, const ForwardBatch& batch)> before_step) {
    before_step_ = std::move(before_step);
  }

  int num_steps() const { return num_steps_; }
  uint64_t num_positions() const { return num_positions_; }
  int largest_step() const { return largest_step_; }

 private:
  void RunSequence(const ForwardBatch& batch, int32_t sequence, std::vector<uint64_t>* states);
  void FillLogits(const ForwardBatch& batch, const std::vector<uint64_t>& states,
                  ForwardResult* result) const;
  void FillCounts(const ForwardBatch& batch, ForwardResult* result) const;
  void Count(const ForwardBatch& batch);

  const ModelDimensions dimensions_;
  std::vector<uint64_t> fingerprints_;  // [num_kv_blocks, kv_block_size]
  Faults faults_;
  std::function<void(int, const ForwardBatch&)> before_step_;
  bool lost_ = false;
  int num_steps_ = 0;
  uint64_t num_positions_ = 0;
  int largest_step_ = 0;
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_FAKES_FAKE_MODEL_H_
