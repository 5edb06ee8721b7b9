#include "server/scheduler/prefill_pacer.h"

#include "gtest/gtest.h"

namespace adamoe {
namespace {

// A device on which a step takes `base` and so much more per prompt token.
struct Device {
  absl::Duration base;
  absl::Duration per_token;

  absl::Duration Run(int32_t num_prefill_tokens) const {
    return base + per_token * num_prefill_tokens;
  }
};

TEST(PrefillPacerTest, AFixedChunkStaysAsItIs) {
  PrefillPacer::Options options;
  options.fixed_chunk = 37;
  PrefillPacer pacer(options);
  pacer.OnStep(1, 0, absl::Milliseconds(1));
  pacer.OnStep(1, 37, absl::Seconds(1));
  EXPECT_EQ(pacer.Chunk(1, 4), 37);
}

TEST(PrefillPacerTest, BeginsWithTheInitialChunkUntilBothTimesAreKnown) {
  PrefillPacer pacer({});
  EXPECT_EQ(pacer.Chunk(1, 4), PrefillPacer::Options().initial_chunk);
  pacer.OnStep(3, 0, absl::Seconds(1));
  EXPECT_EQ(pacer.Chunk(1, 4), PrefillPacer::Options().initial_chunk);
  PrefillPacer other({});
  other.OnStep(0, 500, absl::Seconds(1));
  EXPECT_EQ(other.Chunk(1, 4), PrefillPacer::Options().initial_chunk);
  other.OnStep(3, 0, absl::Milliseconds(40));
  EXPECT_EQ(other.Chunk(1, 4), 20);
  EXPECT_EQ(pacer.Chunk(1, 4), PrefillPacer::Options().initial_chunk);
}

TEST(PrefillPacerTest, KeepsAStepNearTheTargetOnFastAndSlowDevices) {
  const Device kDevices[] = {{absl::Milliseconds(40), absl::Microseconds(500)},
                             {absl::Milliseconds(8), absl::Microseconds(30)},
                             {absl::Milliseconds(2), absl::Microseconds(100)}};
  for (const Device& device : kDevices) {
    PrefillPacer pacer({});
    for (int step = 0; step < 50; ++step) {
      pacer.OnStep(4, 0, device.Run(0));
      pacer.OnStep(4, pacer.Chunk(1, 4), device.Run(pacer.Chunk(1, 4)));
    }
    const double slowdown = absl::FDivDuration(device.Run(pacer.Chunk(1, 4)), device.Run(0));
    EXPECT_GT(slowdown, 1.7);
    EXPECT_LT(slowdown, 2.2);
  }
}

TEST(PrefillPacerTest, EachPromptAddsTheTimeOfADecodeStep) {
  PrefillPacer pacer({});
  pacer.OnStep(2, 0, absl::Milliseconds(10));
  pacer.OnStep(2, 100, absl::Milliseconds(110));  // 1 ms a token
  EXPECT_EQ(pacer.Chunk(0, 2), 10);
  EXPECT_EQ(pacer.Chunk(1, 2), 10);
  EXPECT_EQ(pacer.Chunk(3, 2), 30);
  EXPECT_EQ(pacer.Chunk(1000, 2), 70);  // max_slowdown
}

// A step of one stream says little about a step of eight: taken for it, what the streams cost would
// pass for the prompt's share.
TEST(PrefillPacerTest, KnowsTheTimeOfAStepByItsNumberOfStreams) {
  PrefillPacer pacer({});
  pacer.OnStep(1, 0, absl::Milliseconds(10));
  pacer.OnStep(8, 0, absl::Milliseconds(80));
  pacer.OnStep(9, 100, absl::Milliseconds(180));  // 1 ms a token
  EXPECT_EQ(pacer.Chunk(1, 1), 10);
  EXPECT_EQ(pacer.Chunk(1, 8), 80);
  EXPECT_EQ(pacer.Chunk(1, 15), 80);
  EXPECT_EQ(pacer.Chunk(1, 6), 80);  // not known: nearest, more streams first
  EXPECT_EQ(pacer.Chunk(1, 2), 10);
  EXPECT_EQ(pacer.Chunk(1, 5000), 80);
}

TEST(PrefillPacerTest, AlwaysLetsAPromptGetOn) {
  PrefillPacer pacer({});
  pacer.OnStep(1, 0, absl::Microseconds(1));
  pacer.OnStep(1, 64, absl::Seconds(10));
  EXPECT_EQ(pacer.Chunk(1, 4), PrefillPacer::Options().min_chunk);
}

TEST(PrefillPacerTest, FreePromptTokensDoNotOverflow) {
  PrefillPacer pacer({});
  pacer.OnStep(1, 0, absl::Hours(1));
  for (int step = 0; step < 100; ++step) pacer.OnStep(1, 1 << 20, absl::Nanoseconds(1));
  EXPECT_GT(pacer.Chunk(1, 4), 1 << 10);
  pacer.OnStep(1, 5, absl::ZeroDuration());
  EXPECT_GT(pacer.Chunk(1, 4), 1 << 10);
}

}  // namespace
}  // namespace adamoe
