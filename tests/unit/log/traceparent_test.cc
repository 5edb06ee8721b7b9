#include "server/log/traceparent.h"

#include <gtest/gtest.h>

#include <string>

namespace adamoe {
namespace {

const std::string kTrace = "0af7651916cd43dd8448eb211c80319c";
const std::string kParent = "b7ad6b7169203331";

TEST(ParseTraceparentTest, TakesTheStandardsForm) {
  for (const std::string& header :
       {"00-" + kTrace + "-" + kParent + "-01", "00-" + kTrace + "-" + kParent + "-00",
        // Versions to come.
        "01-" + kTrace + "-" + kParent + "-ff", "cc-" + kTrace + "-" + kParent + "-01-what-else",
        "cc-" + kTrace + "-" + kParent + "-01-"}) {
    const auto context = ParseTraceparent(header);
    ASSERT_TRUE(context.has_value()) << header;
    EXPECT_EQ(context->trace_id, kTrace);
    EXPECT_EQ(context->parent_id, kParent);
  }
}

TEST(ParseTraceparentTest, EachRequestIsASpanOfItsOwn) {
  const std::string header = "00-" + kTrace + "-" + kParent + "-01";
  const auto first = ParseTraceparent(header);
  const auto second = ParseTraceparent(header);
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_NE(first->span_id, second->span_id);
  for (const std::string& id : {first->span_id, second->span_id}) {
    EXPECT_EQ(id.size(), 16);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
  }
}

TEST(ParseTraceparentTest, IgnoresTheRest) {
  for (const std::string& header : {
           std::string(),
           std::string("00"),
           "ff-" + kTrace + "-" + kParent + "-01",                    // no such version
           "0-" + kTrace + "-" + kParent + "-01",                     // too short
           "00-" + kTrace + "-" + kParent + "-0",                     //
           "00-" + kTrace + "-" + kParent + "-01-more",               // version 00 has no more
           "00-" + kTrace + "-" + kParent + "-01 ",                   //
           " 00-" + kTrace + "-" + kParent + "-01",                   //
           "01-" + kTrace + "-" + kParent + "-01more",                // more comes behind a dash
           "00-" + std::string(32, '0') + "-" + kParent + "-01",      // zero is no id
           "00-" + kTrace + "-" + std::string(16, '0') + "-01",       //
           "00-0AF7651916CD43DD8448EB211C80319C-" + kParent + "-01",  // upper case
           "00-" + kTrace + "-" + kParent + "-0A",                    //
           "0x-" + kTrace + "-" + kParent + "-01",                    //
           "00-" + kTrace.substr(1) + "g-" + kParent + "-01",         //
           "00_" + kTrace + "-" + kParent + "-01",                    //
           "00-" + kTrace + "_" + kParent + "-01",                    //
           "00-" + kTrace + "-" + kParent + "_01",                    //
           "00-" + kTrace + "-" + kParent + std::string("-0\0", 3),
       }) {
    EXPECT_FALSE(ParseTraceparent(header).has_value()) << header;
  }
}

}  // namespace
}  // namespace adamoe
