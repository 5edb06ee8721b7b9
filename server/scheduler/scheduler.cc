#include "server/scheduler/scheduler.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <optional>

namespace adamoe {

Scheduler::Scheduler(const Options& options, BlockPool* pool)
    : options_(options),
      max_running_(std::min(options.max_running, options.max_batch_tokens)),
      pool_(pool),
      pacer_(options.pacing) {
  assert(options.max_batch_tokens >= 1 && options.max_running >= 1);
}

bool Scheduler::Fits(const Sequence& sequence) const {
  return BlocksFor(std::max(sequence.max_positions, sequence.num_tokens())) <= pool_->num_blocks();
}

void Scheduler::Add(Sequence* sequence) {
  waiting_by_priority_.insert(sequence);
  waiting_by_age_.insert(sequence);
}

void Scheduler::Remove(Sequence* sequence) {
  ReleaseBlocks(sequence);
  if (waiting_by_age_.erase(sequence) > 0) {
    waiting_by_priority_.erase(sequence);
  } else {
    running_.erase(std::remove(running_.begin(), running_.end(), sequence), running_.end());
  }
}

void Scheduler::Distrust(const Sequence* sequence) {
  for (const BlockId block : sequence->blocks) pool_->Forget(block);
}

StepPlan Scheduler::Plan(absl::Time now) {
  StepPlan plan;
  std::sort(running_.begin(), running_.end(),
            [this, now](const Sequence* a, const Sequence* b) { return RanksBefore(*a, *b, now); });
  YieldToPriority(now, &plan);
  GrowRunning(&plan);
  PlanDecodes(&plan);
  PlanPrefills(now, &plan);
  return plan;
}

void Scheduler::Commit(const StepPlan& plan, absl::Duration elapsed) {
  for (const PlannedWork& work : plan.work) {
    work.sequence->num_computed = work.begin + work.count;
    if (options_.prefix_caching) CacheFullBlocks(work.sequence);
  }
  pacer_.OnStep(plan.num_decode_tokens, plan.num_prefill_tokens, elapsed);
}

bool Scheduler::Starving(const Sequence& sequence, absl::Time now) const {
  return now - sequence.arrival > options_.starvation_limit;
}

bool Scheduler::RanksBefore(const Sequence& a, const Sequence& b, absl::Time now) const {
  const bool a_starving = Starving(a, now);
  if (a_starving != Starving(b, now)) return a_starving;
  return a_starving ? ByAge()(&a, &b) : ByPriority()(&a, &b);
}

Sequence* Scheduler::HeadOfWaiting(absl::Time now) const {
  if (waiting_by_age_.empty()) return nullptr;
  Sequence* oldest = *waiting_by_age_.begin();
  return Starving(*oldest, now) ? oldest : *waiting_by_priority_.begin();
}

// Those that may have to yield stand at the end of running_, which is sorted by rank.
void Scheduler::YieldToPriority(absl::Time now, StepPlan* plan) {
  Sequence* head = HeadOfWaiting(now);
  if (head == nullptr) return;
  int32_t num_yielding = 0;
  int32_t num_yielding_blocks = 0;
  for (auto it = running_.rbegin(); it != running_.rend(); ++it, ++num_yielding) {
    if ((*it)->priority >= head->priority || Starving(**it, now)) break;
    num_yielding_blocks += static_cast<int32_t>((*it)->blocks.size());
  }
  if (num_yielding == 0) return;
  TakeCachedPrefix(head);
  const int32_t num_missing = NumMissingBlocks(*head);
  if (num_missing <= pool_->num_free() + num_yielding_blocks) {
    while (!HasRoom(num_missing) && num_yielding-- > 0) Preempt(running_.back(), plan);
  }
  ReleaseBlocks(head);
}

// A sequence that decodes may need one more block for the token it feeds back; one in prefill has
// all of its own.
void Scheduler::GrowRunning(StepPlan* plan) {
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    while (NumMissingBlocks(*sequence) > 0) {
      if (const std::optional<BlockId> block = pool_->Allocate()) {
        sequence->blocks.push_back(*block);
        continue;
      }
      Sequence* victim = running_.back();
      Preempt(victim, plan);
      if (victim == sequence) return;
    }
  }
}

void Scheduler::PlanDecodes(StepPlan* plan) const {
  for (Sequence* sequence : running_) {
    if (!sequence->decoding()) continue;
    plan->work.push_back({sequence, sequence->num_computed, 1, false});
    ++plan->num_decode_tokens;
  }
}

void Scheduler::PlanPrefills(absl::Time now, StepPlan* plan) {
  std::vector<Sequence*> prefilling;
  std::copy_if(running_.begin(), running_.end(), std::back_inserter(prefilling),
               [](const Sequence* sequence) { return !sequence->decoding(); });
  int32_t budget = options_.max_batch_tokens - plan->num_decode_tokens;
  if (plan->num_decode_tokens > 0) {
    const size_t num_free_seats = max_running_ - running_.size();
    const size_t num_prompts = prefilling.size() + std::min(num_free_seats, waiting_by_age_.size());
    budget =
        std::min(budget, pacer_.Chunk(static_cast<int32_t>(num_prompts), plan->num_decode_tokens));
  }
  bool admitting = true;
  size_t next = 0;
  while (budget > 0) {
    Sequence* sequence = next < prefilling.size() ? prefilling[next] : nullptr;
    Sequence* head = admitting ? HeadOfWaiting(now) : nullptr;
    if (head != nullptr && (sequence == nullptr || RanksBefore(*head, *sequence, now))) {
      admitting = Admit(head);
      if (!admitting) continue;
      plan->admitted.push_back(head);
      sequence = head;
    } else if (sequence != nullptr) {
      ++next;
    } else {
      return;
    }
    const int32_t count = std::min(budget, sequence->prefill_end - sequence->num_computed);
    plan->work.push_back({sequence, sequence->num_computed, count, true});
    plan->num_prefill_tokens += count;
    budget -= count;
  }
}

bool Scheduler::Admit(Sequence* sequence) {
  if (num_running() >= max_running_) return false;
  TakeCachedPrefix(sequence);
  const int32_t num_missing = NumMissingBlocks(*sequence);
  if (!HasRoom(num_missing)) {
    ReleaseBlocks(sequence);
    return false;
  }
  for (int32_t i = 0; i < num_missing; ++i) sequence->blocks.push_back(*pool_->Allocate());
  sequence->prefill_end = sequence->num_tokens();
  waiting_by_priority_.erase(sequence);
  waiting_by_age_.erase(sequence);
  running_.push_back(sequence);
  return true;
}

// One block per running sequence stays in reserve, lest a newcomer be preempted as soon as those
// grow.
bool Scheduler::HasRoom(int32_t num_missing_blocks) const {
  return num_running() < max_running_ && num_missing_blocks + num_running() <= pool_->num_free();
}

void Scheduler::TakeCachedPrefix(Sequence* sequence) {
  if (!options_.prefix_caching) return;
  const int32_t limit = std::min(sequence->max_cached_tokens, sequence->num_tokens() - 1);
  while ((sequence->num_keyed_blocks + 1) * pool_->block_size() <= limit) {
    const auto hit =
        pool_->Acquire(sequence->prefix, NextUnkeyedBlock(*sequence), sequence->cache_salt);
    if (!hit) break;
    sequence->blocks.push_back(hit->block);
    sequence->prefix = hit->prefix;
    ++sequence->num_keyed_blocks;
  }
  sequence->num_cached = sequence->num_keyed_blocks * pool_->block_size();
  sequence->num_computed = sequence->num_cached;
}

void Scheduler::CacheFullBlocks(Sequence* sequence) {
  while ((sequence->num_keyed_blocks + 1) * pool_->block_size() <= sequence->num_computed) {
    sequence->prefix = pool_->Cache(sequence->blocks[sequence->num_keyed_blocks], sequence->prefix,
                                    NextUnkeyedBlock(*sequence), sequence->cache_salt);
    ++sequence->num_keyed_blocks;
  }
}

void Scheduler::Preempt(Sequence* sequence, StepPlan* plan) {
  ReleaseBlocks(sequence);
  running_.erase(std::find(running_.begin(), running_.end(), sequence));
  Add(sequence);
  plan->preempted.push_back(sequence);
}

// Last block first: of a chain of cached blocks, the ends are then taken before what they hang
// from.
void Scheduler::ReleaseBlocks(Sequence* sequence) {
  for (auto block = sequence->blocks.rbegin(); block != sequence->blocks.rend(); ++block) {
    pool_->Release(*block);
  }
  sequence->blocks.clear();
  sequence->num_computed = sequence->num_cached = sequence->prefill_end = 0;
  sequence->num_keyed_blocks = 0;
  sequence->prefix = BlockPool::kNoPrefix;
}

absl::Span<const int32_t> Scheduler::NextUnkeyedBlock(const Sequence& sequence) const {
  const int32_t begin = sequence.num_keyed_blocks * pool_->block_size();
  return absl::MakeConstSpan(sequence.tokens).subspan(begin, pool_->block_size());
}

int32_t Scheduler::NumMissingBlocks(const Sequence& sequence) const {
  return BlocksFor(sequence.num_tokens()) - static_cast<int32_t>(sequence.blocks.size());
}

int32_t Scheduler::BlocksFor(int32_t num_tokens) const {
  return (num_tokens + pool_->block_size() - 1) / pool_->block_size();
}

}  // namespace adamoe
