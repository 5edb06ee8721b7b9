#include "server/security/loopback.h"

#include <gtest/gtest.h>

namespace adamoe {
namespace {

TEST(IsLoopbackTest, KnowsAddresses) {
  const struct {
    const char* host;
    bool loopback;
  } cases[] = {
      {"127.0.0.1", true},
      {"127.255.3.4", true},
      {"[::1]", true},
      {"[0:0:0:0:0:0:0:1]", true},
      {"localhost", true},
      {"[::ffff:127.0.0.1]", true},
      {"0.0.0.0", false},
      {"[::]", false},
      {"10.0.0.1", false},
      {"128.0.0.1", false},
      {"126.255.255.255", false},
      {"[::ffff:10.0.0.1]", false},
      {"[::ffff:0.0.0.0]", false},
      {"[fe80::1]", false},
      {"[::2]", false},
      {"[::127.0.0.1]", false},  // deprecated, and no loopback address
      {"0", false},              // short for 0.0.0.0
  };
  for (const auto& c : cases) {
    const auto result = IsLoopback(c.host);
    ASSERT_TRUE(result.ok()) << c.host << ": " << result.status();
    EXPECT_EQ(*result, c.loopback) << c.host;
  }
}

TEST(IsLoopbackTest, WhatIsNoAddressIsAnError) {
  for (const char* host : {"[localhost]", "[]"}) {
    EXPECT_FALSE(IsLoopback(host).ok()) << host;
  }
}

}  // namespace
}  // namespace adamoe
