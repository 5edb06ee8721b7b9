// One request at a time, and what it is told about itself.
#include "server/executor/executor.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/executor/serving.h"

namespace adamoe {
namespace {

TEST(ExecutorTest, RunsARequestFromEndToEnd) {
  Serving serving;
  serving.executor->Start();
  const auto sink = serving.Submit(MakeRequest(MakePrompt(11, 1), 7));
  ASSERT_TRUE(sink->AwaitFinish());
  serving.Drain();
  EXPECT_EQ(sink->tokens().size(), 7u);
  EXPECT_TRUE(sink->in_order());
  EXPECT_TRUE(sink->outcome().status.ok()) << sink->outcome().status;
  EXPECT_EQ(sink->outcome().reason, FinishReason::kLength);
  EXPECT_FALSE(sink->prompt().has_value());
}

}  // namespace
}  // namespace adamoe
