#include "server/weights/model_config.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace adamoe {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

json Base() {
  return json::parse(R"({
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 6, "num_experts_per_tok": 2,
    "rope_theta": 500000.0, "rms_norm_eps": 1e-6, "sliding_window": null,
    "tie_word_embeddings": false, "max_position_embeddings": 512, "vocab_size": 256,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16"})");
}

absl::StatusOr<ModelConfig> Parse(const json& object) {
  return ParseModelConfig(object.dump(), "dir/config.json");
}

TEST(ModelConfigTest, ReadsEveryKey) {
  const auto config = Parse(Base());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "MixtralForCausalLM");
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->intermediate_size, 96);
  EXPECT_EQ(config->num_layers, 3);
  EXPECT_EQ(config->num_heads, 4);
  EXPECT_EQ(config->num_kv_heads, 2);
  EXPECT_EQ(config->head_dim, 8);
  EXPECT_EQ(config->num_experts, 6);
  EXPECT_EQ(config->num_null_experts, 0);
  EXPECT_EQ(config->experts_per_token, 2);
  EXPECT_EQ(config->vocab_size, 256);
  EXPECT_EQ(config->max_position_embeddings, 512);
  EXPECT_EQ(config->sliding_window, 0);
  EXPECT_EQ(config->rope_theta, 500000.0f);
  EXPECT_EQ(config->rms_norm_eps, 1e-6f);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->bos_token_id, 1);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(2));
}

TEST(ModelConfigTest, AbsentKeysMeanWhatTransformersMeans) {
  json object = Base();
  for (const char* key :
       {"architectures", "hidden_act", "head_dim", "rope_theta", "rms_norm_eps", "sliding_window",
        "tie_word_embeddings", "bos_token_id", "eos_token_id", "torch_dtype"}) {
    object.erase(key);
  }
  object["num_key_value_heads"] = nullptr;
  const auto config = Parse(object);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->num_kv_heads, 4);
  EXPECT_EQ(config->rope_theta, 1e6f);
  EXPECT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_EQ(config->bos_token_id, 1);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(2));
}

struct ValueCase {
  std::string name;
  std::string patch;  // merged into Base()
  std::function<bool(const ModelConfig&)> holds;
};

class ModelConfigValueTest : public testing::TestWithParam<ValueCase> {};

TEST_P(ModelConfigValueTest, IsAccepted) {
  json object = Base();
  object.update(json::parse(GetParam().patch));
  const auto config = Parse(object);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(GetParam().holds(*config)) << GetParam().patch;
}

INSTANTIATE_TEST_SUITE_P(
    Table, ModelConfigValueTest,
    testing::Values(
        ValueCase{"HeadDimNull", R"({"head_dim": null})",
                  [](const ModelConfig& c) { return c.head_dim == 16; }},
        ValueCase{"SlidingWindow", R"({"sliding_window": 128})",
                  [](const ModelConfig& c) { return c.sliding_window == 128; }},
        ValueCase{"RopeParameters",
                  R"({"rope_theta": null,
                      "rope_parameters": {"rope_theta": 10000, "rope_type": "default"}})",
                  [](const ModelConfig& c) { return c.rope_theta == 10000.0f; }},
        ValueCase{"RopeParametersOverRopeTheta", R"({"rope_parameters": {"rope_theta": 20000.5}})",
                  [](const ModelConfig& c) { return c.rope_theta == 20000.5f; }},
        ValueCase{"RopeParametersWithoutTheta", R"({"rope_parameters": {"rope_type": "default"}})",
                  [](const ModelConfig& c) { return c.rope_theta == 500000.0f; }},
        ValueCase{"RopeParametersNull", R"({"rope_parameters": null, "rope_scaling": null})",
                  [](const ModelConfig& c) { return c.rope_theta == 500000.0f; }},
        ValueCase{"IntegerTheta", R"({"rope_theta": 1000000})",
                  [](const ModelConfig& c) { return c.rope_theta == 1e6f; }},
        ValueCase{"EosList", R"({"eos_token_id": [2, 255]})",
                  [](const ModelConfig& c) {
                    return c.eos_token_ids == std::vector<int32_t>{2, 255};
                  }},
        ValueCase{
            "TokensNull", R"({"eos_token_id": null, "bos_token_id": null})",
            [](const ModelConfig& c) { return c.eos_token_ids.empty() && c.bos_token_id == -1; }},
        ValueCase{"Tied", R"({"tie_word_embeddings": true})",
                  [](const ModelConfig& c) { return c.tie_word_embeddings; }},
        ValueCase{"DtypeIsNotRead", R"({"torch_dtype": 7, "dtype": {"a": []}})",
                  [](const ModelConfig&) { return true; }},
        ValueCase{"UnknownKeys", R"({"router_aux_loss_coef": 0.02, "use_cache": true})",
                  [](const ModelConfig&) { return true; }},
        ValueCase{"LongContext", R"({"max_position_embeddings": 2147483647})",
                  [](const ModelConfig& c) { return c.max_position_embeddings == INT32_MAX; }}),
    [](const auto& info) { return info.param.name; });

struct RefusedCase {
  std::string name;
  std::string patch;  // merged into Base()
  std::string message;
};

std::vector<RefusedCase> RefusedCases() {
  std::vector<RefusedCase> cases = {
      {"Architecture", R"({"architectures": ["LlamaForCausalLM"]})",
       R"(architectures is ["LlamaForCausalLM"], expected ["MixtralForCausalLM"])"},
      {"TwoArchitectures", R"({"architectures": ["MixtralForCausalLM", "X"]})", "architectures"},
      {"ArchitectureIsText", R"({"architectures": "MixtralForCausalLM"})", "architectures"},
      {"ArchitecturesEmpty", R"({"architectures": []})", "architectures is [], expected"},
      {"ModelType", R"({"model_type": "qwen3_moe_plus_plus"})",
       R"(model_type is "qwen3_moe_plus_plus", expected "mixtral")"},
      {"NoModelTypeAtAll", R"({"model_type": null, "architectures": null})", "model_type is null"},
      {"Activation", R"({"hidden_act": "gelu"})", R"(hidden_act is "gelu", expected "silu")"},
      {"Quantized", R"({"quantization_config": {"bits": 4}})", "quantization_config is an object"},
      {"KvHeadsDoNotDivide", R"({"num_key_value_heads": 3})",
       "num_key_value_heads is 3, expected a divisor of num_attention_heads, 4"},
      {"MoreKvHeads", R"({"num_key_value_heads": 8})", "num_key_value_heads is 8"},
      {"HeadDimOdd", R"({"head_dim": 7})", "head_dim is 7, expected an even number"},
      {"HeadDimOddByDivision", R"({"head_dim": null, "hidden_size": 60, "num_attention_heads": 4})",
       "expected an even number of at least 2, as rotary embedding pairs dimensions; it is 15"},
      {"HeadsDoNotDivideHidden", R"({"head_dim": null, "hidden_size": 66})",
       "does not divide hidden_size (66)"},
      {"RopeType", R"({"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}})",
       R"(rope_parameters.rope_type is "yarn", expected "default")"},
      {"RopeThetaNegative", R"({"rope_theta": -1})", "rope_theta is -1"},
      {"RopeThetaZero", R"({"rope_theta": 0})", "rope_theta is 0"},
      {"RopeThetaVanishes", R"({"rope_theta": 1e-300})", "rope_theta is 1e-300"},
      {"RopeThetaHuge", R"({"rope_theta": 1e300})", "rope_theta is 1e+300"},
      {"RopeThetaText", R"({"rope_theta": "1e6"})", "rope_theta is \"1e6\""},
      {"RopeParametersThetaText", R"({"rope_parameters": {"rope_theta": "x"}})",
       "rope_parameters.rope_theta is \"x\""},
      {"RopeParametersList", R"({"rope_parameters": [1]})", "rope_parameters is [1]"},
      {"PartialRotary", R"({"rope_parameters": {"partial_rotary_factor": 0.5}})",
       "rope_parameters.partial_rotary_factor is 0.5"},
      {"RopeScaling", R"({"rope_scaling": {"type": "linear", "factor": 2.0}})",
       "rope_scaling is an object, expected null"},
      {"EpsZero", R"({"rms_norm_eps": 0})", "rms_norm_eps is 0"},
      {"EpsHuge", R"({"rms_norm_eps": 2})", "rms_norm_eps is 2"},
      {"TieIsNumber", R"({"tie_word_embeddings": 1})",
       "tie_word_embeddings is 1, expected true or false"},
      {"WindowZero", R"({"sliding_window": 0})", "sliding_window is 0"},
      {"WindowNegative", R"({"sliding_window": -5})", "sliding_window is -5"},
      {"BosPastVocabulary", R"({"bos_token_id": 256})",
       "bos_token_id is 256, expected an integer from 0 to 255"},
      {"EosNegative", R"({"eos_token_id": -1})", "eos_token_id is -1"},
      {"EosListHoldsText", R"({"eos_token_id": [2, "x"]})", "eos_token_id is [2,\"x\"]"},
      {"EosListPastVocabulary", R"({"eos_token_id": [2, 256]})", "eos_token_id is [2,256]"},
      {"PicksPast8Bits", R"({"num_experts_per_tok": 256})", "expected an integer from 1 to 255"},
  };
  for (const char* key :
       {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "num_local_experts", "num_experts_per_tok", "vocab_size",
        "max_position_embeddings"}) {
    for (const char* value : {"0", "-1", "1.5", "\"8\"", "[]", "{}", "true", "2147483648",
                              "9223372036854775808", "1e300"}) {
      const std::string name = std::string(key) + "_" + std::to_string(cases.size());
      cases.push_back({name, "{\"" + std::string(key) + "\": " + value + "}", key});
    }
  }
  for (const char* key :
       {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_local_experts", "num_experts_per_tok", "vocab_size", "max_position_embeddings"}) {
    cases.push_back({std::string(key) + "_null", "{\"" + std::string(key) + "\": null}",
                     std::string(key) + " is null"});
  }
  return cases;
}

class RefusedConfigTest : public testing::TestWithParam<RefusedCase> {};

TEST_P(RefusedConfigTest, NamesFileAndKey) {
  json object = Base();
  object.update(json::parse(GetParam().patch));
  const auto config = Parse(object);
  ASSERT_FALSE(config.ok()) << GetParam().patch;
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(config.status().message()), testing::StartsWith("dir/config.json: "));
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Table, RefusedConfigTest, testing::ValuesIn(RefusedCases()),
                         [](const auto& info) { return info.param.name; });

TEST(ModelConfigTest, RequiredKeysMustBeThere) {
  for (const std::string key : {"hidden_size", "intermediate_size", "num_hidden_layers",
                                "num_attention_heads", "num_key_value_heads", "num_local_experts",
                                "num_experts_per_tok", "vocab_size", "max_position_embeddings"}) {
    json object = Base();
    object.erase(key);
    EXPECT_THAT(std::string(Parse(object).status().message()), HasSubstr(key + " is absent"));
  }
}

TEST(ModelConfigTest, RefusesWhatIsNotAnObject) {
  for (const std::string text : {"", "[]", "7", "null", "{", "{\"hidden_size\": NaN}",
                                 "{\"rope_theta\": Infinity}", "{\"a\": 1e999}", "\xff\xfe"}) {
    const auto config = ParseModelConfig(text, "dir/config.json");
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr("dir/config.json: ")) << text;
  }
  EXPECT_THAT(std::string(ParseModelConfig("{\"hidden_size\": NaN}", "c").status().message()),
              HasSubstr("not valid JSON"));
  EXPECT_THAT(std::string(ParseModelConfig(std::string(1000000, '['), "c").status().message()),
              HasSubstr("nested more than 64 deep"));
}

TEST(GenerationConfigTest, EosReplacesTheConfigs) {
  ModelConfig config;
  config.vocab_size = 100;
  config.eos_token_ids = {2};
  ASSERT_TRUE(MergeGenerationConfig(R"({"eos_token_id": [7, 9]})", "g.json", config).ok());
  EXPECT_THAT(config.eos_token_ids, ElementsAre(7, 9));
  ASSERT_TRUE(MergeGenerationConfig(R"({"eos_token_id": null})", "g.json", config).ok());
  ASSERT_TRUE(MergeGenerationConfig(R"({"temperature": 0.6})", "g.json", config).ok());
  EXPECT_THAT(config.eos_token_ids, ElementsAre(7, 9));
  ASSERT_TRUE(MergeGenerationConfig(R"({"eos_token_id": 3})", "g.json", config).ok());
  EXPECT_THAT(config.eos_token_ids, ElementsAre(3));
  const absl::Status wrong = MergeGenerationConfig(R"({"eos_token_id": 100})", "g.json", config);
  EXPECT_THAT(std::string(wrong.message()), HasSubstr("g.json: eos_token_id is 100"));
  EXPECT_FALSE(MergeGenerationConfig("[", "g.json", config).ok());
}

}  // namespace
}  // namespace adamoe
