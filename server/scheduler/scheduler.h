// Decides what each step runs. Pure policy: no thread, no clock, no tensors.
//
// Sequences stand in one order of rank. First those that have waited longer than
// `starvation_limit`, oldest first; then by priority, equal ones by arrival. From it follows
// everything else:
//  - Each running sequence that decodes gets its one token in every step.
//  - What is left of the budget goes to prefill by rank, chunk by chunk. While anything decodes,
//  all chunks of a step
//    together are bounded by PrefillPacer, so that a long prompt does not stall running streams.
//  - A waiting sequence is admitted when blocks for all its tokens are free. None is admitted past
//  one that
//    ranks higher and does not fit, so that one gets its turn.
//  - When a running sequence needs a block and none is free, the one that ranks lowest is
//  preempted: it gives up its
//    blocks, waits again, and later runs its tokens anew (recomputation). A waiting sequence of
//    higher priority also preempts running ones of lower priority that have not waited past the
//    limit.
// The highest-ranked sequence is never preempted and fits the cache on its own, so it ends; hence
// all do.
//
// Thread-compatible. Sequences are owned by the caller and stay valid from Add to Remove.
#ifndef ADAMOE_SERVER_SCHEDULER_SCHEDULER_H_
#define ADAMOE_SERVER_SCHEDULER_SCHEDULER_H_

#include <cstdint>
#include <set>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/kv_cache/block_pool.h"
#include "server/request/sequence.h"
#include "server/scheduler/prefill_pacer.h"

namespace adamoe {

// Positions [begin, begin + count) of a sequence, to be run in one step.
struct PlannedWork {
  Sequence* sequence;
  int32_t begin;
  int32_t count;
  bool prefill;  // part of a prompt or of a recomputation; else one generated token fed back
};

struct StepPlan {
  std::vector<PlannedWork> work;     // at most one entry per sequence
  std::vector<Sequence*> admitted;   // from waiting to running, with blocks and num_cached set
  std::vector<Sequence*> preempted;  // from running to waiting
  int32_t num_decode_tokens = 0;
  int32_t num_prefill_tokens = 0;
};

class Scheduler {
 public:
  struct Options {
    int32_t max_batch_tokens = 512;  // positions per step
    int32_t max_running = 64;        // sequences; effectively at most max_batch_tokens
    bool prefix_caching = true;
    absl::Duration starvation_limit = absl::Seconds(30);
    PrefillPacer::Options pacing;
  };

  // `pool` must outlive the scheduler. REQUIRES: max_batch_tokens >= 1, max_running >= 1.
  Scheduler(const Options& options, BlockPool* pool);

  // Whether a sequence can ever run: alone in the cache.
  bool Fits(const Sequence& sequence) const;

  // Lets a sequence wait for its turn. REQUIRES: Fits(*sequence).
  void Add(Sequence* sequence);

  // Forgets a sequence, wherever it stands, and gives its blocks back. Between steps only.
  void Remove(Sequence* sequence);

  // Takes a sequence's blocks out of the prefix cache: its keys and values are not to be trusted.
  void Distrust(const Sequence* sequence);

  // The next step's work; empty only when there is no sequence. Sequences may then have more
  // tokens, but at most one more than the positions computed, once past their prompt.
  StepPlan Plan(absl::Time now);

  // Notes that the plan was carried out, in `elapsed`: its positions are computed, full blocks
  // enter the prefix cache. REQUIRES: `plan` is from the last Plan, and its sequences are still
  // here.
  void Commit(const StepPlan& plan, absl::Duration elapsed);

  int32_t num_waiting() const { return static_cast<int32_t>(waiting_by_age_.size()); }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }

 private:
  struct ByPriority {
    bool operator()(const Sequence* a, const Sequence* b) const {
      return a->priority != b->priority ? a->priority > b->priority : a->id < b->id;
    }
  };
  struct ByAge {
    bool operator()(const Sequence* a, const Sequence* b) const { return a->id < b->id; }
  };

  bool Starving(const Sequence& sequence, absl::Time now) const;
  bool RanksBefore(const Sequence& a, const Sequence& b, absl::Time now) const;
  Sequence* HeadOfWaiting(absl::Time now) const;  // null when none waits

  void YieldToPriority(absl::Time now, StepPlan* plan);
  void GrowRunning(StepPlan* plan);
  void PlanDecodes(StepPlan* plan) const;
  void PlanPrefills(absl::Time now, StepPlan* plan);

  // Moves the sequence from waiting to running if there is room.
  bool Admit(Sequence* sequence);
  bool HasRoom(int32_t num_missing_blocks) const;
  void TakeCachedPrefix(Sequence* sequence);
  void CacheFullBlocks(Sequence* sequence);
  void Preempt(Sequence* sequence, StepPlan* plan);
  void ReleaseBlocks(Sequence* sequence);
  absl::Span<const int32_t> NextUnkeyedBlock(const Sequence& sequence) const;
  int32_t NumMissingBlocks(const Sequence& sequence) const;
  int32_t BlocksFor(int32_t num_tokens) const;

  const Options options_;
  const int32_t max_running_;
  BlockPool* const pool_;
  PrefillPacer pacer_;
  std::vector<Sequence*> running_;  // by rank, as of the last Plan
  // The same waiting sequences twice.
  std::set<Sequence*, ByPriority> waiting_by_priority_;
  std::set<Sequence*, ByAge> waiting_by_age_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SCHEDULER_SCHEDULER_H_
