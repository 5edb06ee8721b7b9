// Tables: what is planned in given situations.
#include "server/scheduler/scheduler.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace adamoe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kStart = absl::FromUnixSeconds(1000000);

// A scheduler over blocks of 4 positions, and sequences a, b, c ... to plan.
class SchedulerTest : public ::testing::Test {
 protected:
  void Build(const Scheduler::Options& options, int32_t num_blocks) {
    pool_ = std::make_unique<BlockPool>(num_blocks, 4);
    scheduler_ = std::make_unique<Scheduler>(options, pool_.get());
  }

  // Tokens differ between sequences unless `first_token` is given.
  Sequence* Add(char name, int32_t num_tokens, int32_t priority = 0, int32_t first_token = -1) {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = sequences_.size() + 1;
    sequence->priority = priority;
    sequence->arrival = now_;
    sequence->max_cached_tokens = 1 << 20;
    sequence->max_positions = num_tokens;
    const int32_t first = first_token >= 0 ? first_token : 1000 * (name - 'a' + 1);
    for (int32_t i = 0; i < num_tokens; ++i) sequence->tokens.push_back(first + i);
    Sequence* added = sequence.get();
    names_[added] = name;
    sequences_.push_back(std::move(sequence));
    scheduler_->Add(added);
    return added;
  }

  // Plans and carries out a step in which every sequence that has run all its tokens gets one more.
  // Returns the work as "a:0+5p" (prefill of 5 positions from 0) and "b:7+1d" (decode).
  std::vector<std::string> Step() {
    plan_ = scheduler_->Plan(now_);
    std::vector<std::string> work;
    for (const PlannedWork& w : plan_.work) {
      work.push_back(absl::StrCat(std::string(1, names_[w.sequence]), ":", w.begin, "+", w.count,
                                  w.prefill ? "p" : "d"));
    }
    scheduler_->Commit(plan_, absl::ZeroDuration());
    for (const PlannedWork& w : plan_.work) {
      if (w.sequence->num_computed == w.sequence->num_tokens()) w.sequence->tokens.push_back(7);
    }
    return work;
  }

  std::string Names(const std::vector<Sequence*>& sequences) {
    std::string names;
    for (Sequence* sequence : sequences) names += names_[sequence];
    return names;
  }

  static Scheduler::Options SmallOptions() {
    Scheduler::Options options;
    options.max_batch_tokens = 16;
    options.max_running = 4;
    options.pacing.fixed_chunk = 6;
    return options;
  }

  absl::Time now_ = kStart;
  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::map<const Sequence*, char> names_;
  StepPlan plan_;
};

TEST_F(SchedulerTest, PlansNothingForNobody) {
  Build(SmallOptions(), 8);
  EXPECT_THAT(Step(), IsEmpty());
}

TEST_F(SchedulerTest, SharesTheBudgetByArrivalAndChunksWhatIsLeft) {
  Build(SmallOptions(), 64);
  Add('a', 5);
  Add('b', 9);
  Add('c', 10);
  EXPECT_THAT(Step(), ElementsAre("a:0+5p", "b:0+9p", "c:0+2p"));
  EXPECT_EQ(Names(plan_.admitted), "abc");
  EXPECT_EQ(plan_.num_prefill_tokens, 16);
  EXPECT_THAT(Step(), ElementsAre("a:5+1d", "b:9+1d", "c:2+6p"));
  EXPECT_EQ(plan_.num_decode_tokens, 2);
  EXPECT_THAT(Step(), ElementsAre("a:6+1d", "b:10+1d", "c:8+2p"));
  EXPECT_THAT(Step(), ElementsAre("a:7+1d", "b:11+1d", "c:10+1d"));
}

TEST_F(SchedulerTest, WithNothingToDisturbALongPromptTakesTheWholeBudget) {
  Build(SmallOptions(), 64);
  Add('a', 40);
  EXPECT_THAT(Step(), ElementsAre("a:0+16p"));
  EXPECT_THAT(Step(), ElementsAre("a:16+16p"));
  EXPECT_THAT(Step(), ElementsAre("a:32+8p"));
  EXPECT_THAT(Step(), ElementsAre("a:40+1d"));
}

TEST_F(SchedulerTest, PriorityGoesBeforeArrival) {
  Scheduler::Options options = SmallOptions();
  options.max_running = 2;
  Build(options, 64);
  Add('a', 4, 0);
  Add('b', 4, 5);
  Add('c', 4, 5);
  EXPECT_THAT(Step(), ElementsAre("b:0+4p", "c:0+4p"));
  scheduler_->Remove(sequences_[1].get());
  EXPECT_THAT(Step(), ElementsAre("c:4+1d", "a:0+4p"));
}

TEST_F(SchedulerTest, AHigherPriorityArrivalIsPrefilledFirst) {
  Build(SmallOptions(), 64);
  Add('a', 40);
  Step();
  Add('b', 20, 1);
  EXPECT_THAT(Step(), ElementsAre("b:0+16p"));
  EXPECT_THAT(Step(), ElementsAre("b:16+4p", "a:16+12p"));
}

TEST_F(SchedulerTest, AHeadThatDoesNotFitIsNotOvertaken) {
  Build(SmallOptions(), 8);
  Add('a', 16);
  Step();
  Add('b', 20);
  Add('c', 2);
  EXPECT_THAT(Step(), ElementsAre("a:16+1d"));
  EXPECT_THAT(Step(), ElementsAre("a:17+1d"));
  scheduler_->Remove(sequences_[0].get());
  EXPECT_THAT(Step(), ElementsAre("b:0+16p"));
}

TEST_F(SchedulerTest, PreemptsTheLatestWhenBlocksRunOut) {
  Build(SmallOptions(), 7);
  Sequence* a = Add('a', 8);
  Sequence* b = Add('b', 7);
  Step();
  ASSERT_EQ(a->blocks.size(), 2u);
  ASSERT_EQ(b->blocks.size(), 2u);
  std::vector<std::string> work;
  int num_steps = 0;
  do {
    work = Step();
    ASSERT_LT(++num_steps, 30);
  } while (plan_.preempted.empty());
  EXPECT_EQ(Names(plan_.preempted), "b");
  EXPECT_EQ(work.size(), 1u);
  EXPECT_EQ(a->blocks.size() + b->blocks.size() + pool_->num_free(), 7u);
  EXPECT_THAT(b->blocks, IsEmpty());
  EXPECT_EQ(b->num_computed, 0);
  const int32_t num_tokens = b->num_tokens();
  EXPECT_GT(num_tokens, 7) << "what was generated is kept";
  scheduler_->Remove(a);
  work = Step();
  EXPECT_EQ(Names(plan_.admitted), "b");
  ASSERT_EQ(plan_.work.size(), 1u);
  EXPECT_TRUE(plan_.work[0].prefill);
  EXPECT_EQ(plan_.work[0].begin + plan_.work[0].count, num_tokens);
}

TEST_F(SchedulerTest, PreemptsTheLowestPriorityEvenIfItCameFirst) {
  Build(SmallOptions(), 7);
  Add('a', 8, 0);
  Add('b', 7, 3);
  for (int step = 0; step < 30; ++step) {
    Step();
    if (!plan_.preempted.empty()) break;
  }
  EXPECT_EQ(Names(plan_.preempted), "a");
}

TEST_F(SchedulerTest, ARunningSequenceYieldsItsBlocksToHigherPriority) {
  Build(SmallOptions(), 6);
  Add('a', 8, 2);
  Add('b', 8, 0);
  Step();
  Add('c', 8, 1);
  Step();
  EXPECT_EQ(Names(plan_.preempted), "b");
  EXPECT_EQ(Names(plan_.admitted), "c");
}

TEST_F(SchedulerTest, ARunningSequenceYieldsItsPlaceToHigherPriority) {
  Scheduler::Options options = SmallOptions();
  options.max_running = 1;
  Build(options, 64);
  Add('a', 8, 0);
  Step();
  Add('b', 8, 0);
  EXPECT_THAT(Step(), ElementsAre("a:8+1d")) << "equal priority waits";
  Add('c', 8, 1);
  EXPECT_THAT(Step(), ElementsAre("c:0+8p"));
  EXPECT_EQ(Names(plan_.preempted), "a");
}

TEST_F(SchedulerTest, NobodyYieldsInVain) {
  Build(SmallOptions(), 10);
  Add('a', 24, 9);
  Add('b', 3, 0);
  Step();
  Step();
  Step();
  Add('c', 30, 5);
  EXPECT_THAT(Step(), ElementsAre("a:25+1d", "b:4+1d"));
  EXPECT_THAT(plan_.preempted, IsEmpty());
}

TEST_F(SchedulerTest, WhoHasWaitedTooLongGoesFirstAndStays) {
  Scheduler::Options options = SmallOptions();
  options.max_running = 1;
  options.starvation_limit = absl::Seconds(10);
  Build(options, 64);
  Add('a', 4, 9);
  Step();
  Add('b', 4, 0);
  now_ += absl::Seconds(11);
  Add('c', 4, 9);
  Step();
  scheduler_->Remove(sequences_[0].get());
  EXPECT_THAT(Step(), ElementsAre("b:0+4p"));
  Add('d', 4, 100);
  EXPECT_THAT(Step(), ElementsAre("b:4+1d"));
  EXPECT_THAT(plan_.preempted, IsEmpty());
}

TEST_F(SchedulerTest, WhoHasWaitedTooLongKeepsItsBlocks) {
  Scheduler::Options options = SmallOptions();
  options.starvation_limit = absl::Seconds(10);
  Build(options, 7);
  Add('a', 8, 0);
  now_ += absl::Seconds(11);
  Add('b', 7, 3);
  for (int step = 0; step < 30; ++step) {
    Step();
    if (!plan_.preempted.empty()) break;
  }
  EXPECT_EQ(Names(plan_.preempted), "b");
}

TEST_F(SchedulerTest, OfTwoWhoHaveWaitedTooLongTheYoungerGivesWay) {
  Scheduler::Options options = SmallOptions();
  options.starvation_limit = absl::Seconds(10);
  Build(options, 7);
  Add('a', 8, 0);
  Add('b', 7, 3);
  now_ += absl::Seconds(11);
  for (int step = 0; step < 30; ++step) {
    Step();
    if (!plan_.preempted.empty()) break;
  }
  EXPECT_EQ(Names(plan_.preempted), "b");
}

TEST_F(SchedulerTest, TakesAPrefixFromTheCacheButRunsTheLastPosition) {
  Build(SmallOptions(), 64);
  Sequence* a = Add('a', 8, 0, 500);
  Step();
  scheduler_->Remove(a);
  const Sequence* b = Add('b', 8, 0, 500);
  EXPECT_THAT(Step(), ElementsAre("b:4+4p"));
  EXPECT_EQ(b->num_cached, 4);
  const Sequence* c = Add('c', 11, 0, 500);
  EXPECT_THAT(Step(), ElementsAre("b:8+1d", "c:8+3p"));
  EXPECT_EQ(c->num_cached, 8);
  EXPECT_EQ(c->blocks[0], b->blocks[0]) << "shared";
  EXPECT_NE(c->blocks[1], b->blocks[1]) << "b runs its own";
}

TEST_F(SchedulerTest, RespectsTheBoundOnCachedTokens) {
  Build(SmallOptions(), 64);
  scheduler_->Remove([this] {
    Sequence* a = Add('a', 12, 0, 500);
    Step();
    return a;
  }());
  const struct {
    int32_t bound;
    int32_t cached;
  } kCases[] = {{0, 0}, {3, 0}, {4, 4}, {7, 4}, {8, 8}, {11, 8}};
  for (const auto& [bound, cached] : kCases) {
    Sequence* b = Add('b', 13, 0, 500);
    b->max_cached_tokens = bound;
    Step();
    EXPECT_EQ(b->num_cached, cached) << bound;
    scheduler_->Remove(b);
  }
}

TEST_F(SchedulerTest, DoesNotShareBetweenSalts) {
  Build(SmallOptions(), 64);
  Sequence* a = Add('a', 8, 0, 500);
  Step();
  scheduler_->Remove(a);
  Sequence* b = Add('b', 12, 0, 500);
  b->cache_salt = 1;
  EXPECT_THAT(Step(), ElementsAre("b:0+12p"));
}

TEST_F(SchedulerTest, WithoutPrefixCachingNothingIsShared) {
  Scheduler::Options options = SmallOptions();
  options.prefix_caching = false;
  Build(options, 64);
  Sequence* a = Add('a', 8, 0, 500);
  Step();
  scheduler_->Remove(a);
  Add('b', 8, 0, 500);
  EXPECT_THAT(Step(), ElementsAre("b:0+8p"));
  EXPECT_EQ(pool_->num_cached(), 0);
}

TEST_F(SchedulerTest, DistrustedBlocksAreNotReused) {
  Build(SmallOptions(), 64);
  Sequence* a = Add('a', 8, 0, 500);
  Step();
  scheduler_->Distrust(a);
  scheduler_->Remove(a);
  Add('b', 8, 0, 500);
  EXPECT_THAT(Step(), ElementsAre("b:0+8p"));
}

TEST_F(SchedulerTest, APreemptedSequenceFindsItsOwnBlocksAgain) {
  Scheduler::Options options = SmallOptions();
  options.max_running = 1;
  Build(options, 64);
  Add('a', 9, 0);
  Step();
  Add('b', 2, 1);
  Step();
  scheduler_->Remove(sequences_[1].get());
  EXPECT_THAT(Step(), ElementsAre("a:8+2p"));
}

TEST_F(SchedulerTest, SaysWhatCanNeverFit) {
  Build(SmallOptions(), 4);
  Sequence sequence;
  sequence.tokens.assign(3, 1);
  sequence.max_positions = 16;
  EXPECT_TRUE(scheduler_->Fits(sequence));
  sequence.max_positions = 17;
  EXPECT_FALSE(scheduler_->Fits(sequence));
}

}  // namespace
}  // namespace adamoe
