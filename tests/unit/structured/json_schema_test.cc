#include "server/structured/json_schema.h"

#include <gtest/gtest.h>

namespace adamoe {
namespace {

TEST(JsonSchemaTest, FindsKeywordsWhereverASchemaStands) {
  EXPECT_EQ(UnfollowedKeyword(R"({"not":{"type":"string"}})"), "not");
  EXPECT_EQ(UnfollowedKeyword(R"({"properties":{"a":{"items":{"if":{}}}}})"), "if");
  EXPECT_EQ(UnfollowedKeyword(R"({"anyOf":[{"type":"null"},{"contains":{}}]})"), "contains");
  EXPECT_EQ(UnfollowedKeyword(R"({"$defs":{"x":{"dependentRequired":{}}}})"), "dependentRequired");
  EXPECT_EQ(UnfollowedKeyword(R"({"uniqueItems":true})"), "uniqueItems");
}

TEST(JsonSchemaTest, NamesAndValuesAreNoKeywords) {
  EXPECT_EQ(UnfollowedKeyword(R"({"properties":{"not":{"type":"string"},"if":true}})"), "");
  EXPECT_EQ(UnfollowedKeyword(R"({"const":{"not":1},"enum":[{"if":2}],"default":{"else":3}})"), "");
  EXPECT_EQ(UnfollowedKeyword(R"({"uniqueItems":false,"required":["contains"]})"), "");
}

TEST(JsonSchemaTest, WhatIsNotJsonHasNone) {
  for (const char* text : {"", "{", "[1,", "not", "\xff"}) EXPECT_EQ(UnfollowedKeyword(text), "");
}

}  // namespace
}  // namespace adamoe
