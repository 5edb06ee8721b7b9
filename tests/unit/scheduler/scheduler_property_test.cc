// Properties that hold whatever arrives: simulated days with a made-up step time.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "server/scheduler/scheduler.h"

namespace adamoe {
namespace {

constexpr int32_t kBlockSize = 4;

struct Job {
  Sequence sequence;
  int32_t num_outputs = 0;
  absl::Time end = absl::InfinitePast();
  int num_preemptions = 0;
};

// Runs the scheduler step by step and checks every plan.
class Simulation {
 public:
  Simulation(const Scheduler::Options& options, int32_t num_blocks)
      : options_(options), pool_(num_blocks, kBlockSize), scheduler_(options, &pool_) {}

  Job* Arrive(int32_t num_prompt_tokens, int32_t num_outputs, int32_t priority,
              int32_t first_token) {
    auto job = std::make_unique<Job>();
    job->sequence.id = jobs_.size() + 1;
    job->sequence.priority = priority;
    job->sequence.arrival = now_;
    job->sequence.max_cached_tokens = 1 << 20;
    job->sequence.max_positions = num_prompt_tokens + num_outputs - 1;
    for (int32_t i = 0; i < num_prompt_tokens; ++i) {
      job->sequence.tokens.push_back(first_token + i);
    }
    job->num_outputs = num_outputs;
    EXPECT_TRUE(scheduler_.Fits(job->sequence));
    scheduler_.Add(&job->sequence);
    jobs_.push_back(std::move(job));
    live_.insert(jobs_.back().get());
    return jobs_.back().get();
  }

  void Step() {
    const StepPlan plan = scheduler_.Plan(now_);
    Check(plan);
    const absl::Duration elapsed =
        absl::Milliseconds(5) + absl::Microseconds(200) * (plan.num_prefill_tokens);
    now_ += elapsed;
    num_preemptions_ += static_cast<int>(plan.preempted.size());
    scheduler_.Commit(plan, elapsed);
    for (const PlannedWork& work : plan.work) Advance(work.sequence);
  }

  void Cancel(Job* job) {
    if (live_.erase(job) > 0) scheduler_.Remove(&job->sequence);
  }

  absl::Time now() const { return now_; }
  const std::set<Job*>& live() const { return live_; }
  const BlockPool& pool() const { return pool_; }
  int num_preemptions() const { return num_preemptions_; }
  Job* any_live(uint32_t pick) const {
    auto it = live_.begin();
    std::advance(it, pick % live_.size());
    return *it;
  }

 private:
  Job* JobOf(const Sequence* sequence) { return jobs_[sequence->id - 1].get(); }

  void Advance(Sequence* sequence) {
    if (sequence->num_computed < sequence->num_tokens()) return;
    Job* job = JobOf(sequence);
    // Tokens tell what was run apart, so that a block shared by mistake shows in CheckBlocks.
    sequence->tokens.push_back(static_cast<int32_t>(1000000 + sequence->id * 1000) +
                               sequence->num_tokens());
    if (--job->num_outputs > 0) return;
    job->end = now_;
    scheduler_.Remove(sequence);
    live_.erase(job);
  }

  void Check(const StepPlan& plan) {
    CheckBudgets(plan);
    CheckWork(plan);
    CheckBlocks();
    // Every running sequence that was decoding gets its token, unless it was preempted.
    for (const Job* job : live_) {
      const Sequence& sequence = job->sequence;
      if (sequence.blocks.empty() || !sequence.decoding()) continue;
      EXPECT_EQ(1, std::count_if(plan.work.begin(), plan.work.end(), [&](const PlannedWork& work) {
                  return work.sequence == &sequence && !work.prefill;
                }));
    }
    EXPECT_EQ(plan.work.empty(), live_.empty());
  }

  void CheckBudgets(const StepPlan& plan) {
    int32_t num_tokens = 0;
    for (const PlannedWork& work : plan.work) num_tokens += work.count;
    EXPECT_EQ(num_tokens, plan.num_decode_tokens + plan.num_prefill_tokens);
    EXPECT_LE(num_tokens, options_.max_batch_tokens);
    EXPECT_LE(scheduler_.num_running(), options_.max_running);
    EXPECT_EQ(scheduler_.num_running() + scheduler_.num_waiting(),
              static_cast<int32_t>(live_.size()));
    if (options_.pacing.fixed_chunk > 0 && plan.num_decode_tokens > 0) {
      EXPECT_LE(plan.num_prefill_tokens, options_.pacing.fixed_chunk);
    }
  }

  void CheckWork(const StepPlan& plan) {
    std::set<const Sequence*> seen;
    for (const PlannedWork& work : plan.work) {
      const Sequence& sequence = *work.sequence;
      EXPECT_TRUE(seen.insert(&sequence).second);
      EXPECT_GE(work.count, 1);
      EXPECT_EQ(work.begin, sequence.num_computed) << "nothing is left out";
      EXPECT_LE(work.begin + work.count, sequence.num_tokens());
      EXPECT_EQ(work.prefill, !sequence.decoding());
      EXPECT_GE(static_cast<int32_t>(sequence.blocks.size()) * kBlockSize, work.begin + work.count);
    }
    for (const Sequence* sequence : plan.preempted) ++JobOf(sequence)->num_preemptions;
  }

  // A block belongs to one sequence, or to several at the same place behind the same tokens. What
  // nobody holds is free.
  void CheckBlocks() {
    std::map<BlockId, std::vector<int32_t>> prefixes;
    for (const Job* job : live_) {
      const Sequence& sequence = job->sequence;
      for (size_t i = 0; i < sequence.blocks.size(); ++i) {
        const int32_t end = std::min<int32_t>((i + 1) * kBlockSize, sequence.num_tokens());
        const std::vector<int32_t> prefix(sequence.tokens.begin(), sequence.tokens.begin() + end);
        const auto [entry, is_new] = prefixes.emplace(sequence.blocks[i], prefix);
        EXPECT_TRUE(is_new || entry->second == prefix);
      }
    }
    EXPECT_EQ(static_cast<int32_t>(prefixes.size()) + pool_.num_free(), pool_.num_blocks());
  }

  const Scheduler::Options options_;
  BlockPool pool_;
  Scheduler scheduler_;
  absl::Time now_ = absl::FromUnixSeconds(1000000);
  std::vector<std::unique_ptr<Job>> jobs_;
  std::set<Job*> live_;
  int num_preemptions_ = 0;
};

TEST(SchedulerPropertyTest, KeepsBudgetsAndFreesEveryBlockWhateverArrives) {
  int num_preemptions = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    const auto between = [&random](int low, int high) {
      return low + static_cast<int>(random() % (high - low + 1));
    };
    Scheduler::Options options;
    options.max_batch_tokens = between(1, 64);
    options.max_running = between(1, 12);
    options.prefix_caching = between(0, 3) > 0;
    options.starvation_limit = absl::Milliseconds(between(1, 2000));
    options.pacing.fixed_chunk = between(0, 1) * between(1, 16);
    const int32_t num_blocks = between(24, 60);
    Simulation simulation(options, num_blocks);
    for (int i = 0; i < 150; ++i) {
      // A few first tokens, so that prompts share prefixes.
      simulation.Arrive(between(1, 48), between(1, 48), between(-2, 2), 100 * between(0, 3));
      for (int step = between(0, 12); step > 0; --step) simulation.Step();
      if (between(0, 5) == 0 && !simulation.live().empty()) {
        simulation.Cancel(simulation.any_live(random()));
      }
    }
    for (int step = 0; !simulation.live().empty(); ++step) {
      ASSERT_LT(step, 20000) << "seed " << seed;
      simulation.Step();
    }
    EXPECT_EQ(simulation.pool().num_free(), num_blocks);
    num_preemptions += simulation.num_preemptions();
  }
  EXPECT_GT(num_preemptions, 100) << "the pools were meant to be too small";
}

// An endless stream of urgent requests that takes all there is; one modest request must still end
// in bounded time.
TEST(SchedulerPropertyTest, NobodyStarves) {
  Scheduler::Options options;
  options.max_batch_tokens = 32;
  options.max_running = 4;
  options.starvation_limit = absl::Seconds(2);
  Simulation simulation(options, 24);
  std::mt19937 random(3);
  std::vector<Job*> modest;
  int num_arrivals = 0;
  const absl::Time end = simulation.now() + absl::Seconds(60);
  while (simulation.now() < end) {
    if (simulation.live().size() < 30) {
      const bool is_modest = num_arrivals++ % 50 == 10;
      Job* job = simulation.Arrive(20, 12 + random() % 8, is_modest ? 0 : 10, random() % 100000);
      if (is_modest) modest.push_back(job);
    }
    simulation.Step();
  }
  ASSERT_GT(modest.size(), 5u);
  for (size_t i = 0; i + 1 < modest.size(); ++i) {
    if (modest[i]->sequence.arrival > end - absl::Seconds(10)) continue;
    EXPECT_GT(modest[i]->end, modest[i]->sequence.arrival) << "request " << i << " never ended";
    EXPECT_LT(modest[i]->end - modest[i]->sequence.arrival, absl::Seconds(8)) << "request " << i;
  }
}

// While a prompt of 2,000 tokens is prefilled, a running stream waits at most three times as long
// as on its own.
TEST(SchedulerPropertyTest, ALongPromptDoesNotStallRunningStreams) {
  Scheduler::Options options;
  options.max_batch_tokens = 512;
  Simulation simulation(options, 2048);
  Job* stream = simulation.Arrive(8, 2000, 0, 1);
  Job* warmup = simulation.Arrive(300, 2, 0, 5000);
  while (warmup->num_outputs > 0) simulation.Step();
  for (int step = 0; step < 10; ++step) simulation.Step();
  Job* prompt = simulation.Arrive(2000, 2, 0, 50000);
  const int32_t before = stream->num_outputs;
  int num_steps = 0;
  while (prompt->num_outputs > 0) {
    const absl::Time begin = simulation.now();
    simulation.Step();
    ++num_steps;
    EXPECT_LE(simulation.now() - begin, absl::Milliseconds(15)) << "5 ms on its own";
  }
  EXPECT_EQ(before - stream->num_outputs, num_steps) << "a token in every step";
  EXPECT_LT(num_steps, 200);
}

TEST(SchedulerPropertyTest, HigherPriorityWaitsLess) {
  Scheduler::Options options;
  options.max_batch_tokens = 32;
  options.max_running = 4;
  Simulation simulation(options, 64);
  std::mt19937 random(5);
  std::vector<Job*> jobs[2];
  for (int i = 0; i < 200; ++i) {
    const int urgent = i % 4 == 0;
    jobs[urgent].push_back(simulation.Arrive(16, 8, urgent, 100 * i));
    simulation.Step();
  }
  while (!simulation.live().empty()) simulation.Step();
  const auto slowest = [](const std::vector<Job*>& some) {
    absl::Duration longest;
    for (const Job* job : some) longest = std::max(longest, job->end - job->sequence.arrival);
    return longest;
  };
  EXPECT_LT(slowest(jobs[1]) * 2, slowest(jobs[0]));
}

}  // namespace
}  // namespace adamoe
