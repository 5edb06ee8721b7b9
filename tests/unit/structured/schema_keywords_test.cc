#include "server/structured/schema_keywords.h"

#include "gmock/gmock.h"

namespace adamoe {
namespace {

using ::testing::HasSubstr;

TEST(SchemaKeywordsTest, WhatIsFollowedPasses) {
  for (const char* schema : {
           "true",
           "{}",
           R"({"type":"object","properties":{"not":{"type":"string"},"if":{}},"required":["not"]})",
           R"({"type":["string","null"],"minLength":2,"default":{"not":1},"title":"if"})",
           R"({"properties":{"a":{"type":"integer","minimum":1}},"required":["a"]})",
           R"({"enum":["not",{"contains":1}],"description":"x"})",
           R"({"type":"string","enum":["a","b"]})",
           R"({"type":["integer","null"],"const":null})",
           R"({"$ref":"#/$defs/a","$defs":{"a":{"type":"null"}}})",
           R"({"anyOf":[{"type":"null"},{"items":{"type":"boolean"},"uniqueItems":false}]})",
       }) {
    const absl::Status status = CheckSchemaKeywords(schema);
    EXPECT_TRUE(status.ok()) << schema << ": " << status;
  }
}

TEST(SchemaKeywordsTest, WhatIsPassedOverIsRefused) {
  const struct {
    const char* schema;
    const char* words;
  } cases[] = {
      {R"({"not":{}})", "the schema: not is not supported"},
      {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
      {R"({"type":"object","properties":{"a":{"items":{"if":{}}}}})", "/properties/a/items: if"},
      {R"({"$defs":{"x":{"contains":{}}}})", "/$defs/x: contains"},
      {R"({"anyOf":[{},{"dependentRequired":{}}]})", "/anyOf/1: dependentRequired"},
      {R"({"minimum":5})", "minimum without type"},
      {R"({"required":["a"]})", "required without type"},
      {R"({"type":"object","anyOf":[{}]})", "type beside anyOf"},
      {R"({"properties":{},"anyOf":[{}]})", "properties beside anyOf"},
      {R"({"$ref":"#/$defs/a","maxLength":3})", "maxLength beside $ref"},
      {R"({"anyOf":[{}],"oneOf":[{}]})", "oneOf beside anyOf"},
      {R"({"type":"string","enum":["a",1]})", "type beside enum"},
      {R"({"enum":["abc"],"maxLength":2})", "maxLength beside enum"},
      {"{", "not JSON"},
  };
  for (const auto& [schema, words] : cases) {
    const absl::Status status = CheckSchemaKeywords(schema);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << schema;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words)) << schema;
  }
}

}  // namespace
}  // namespace adamoe
