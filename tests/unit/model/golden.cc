#include "tests/unit/model/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

namespace adamoe {
namespace {

std::filesystem::path Root() {
  return std::filesystem::path(ADAMOE_SOURCE_DIR) / "tests/golden/model";
}

GoldenSequence ParseSequence(const nlohmann::json& json) {
  GoldenSequence sequence;
  json.at("prompt").get_to(sequence.prompt);
  json.at("greedy").get_to(sequence.greedy);
  json.at("null_bias").get_to(sequence.null_bias);
  json.at("max_experts").get_to(sequence.max_experts);
  json.at("next_logprobs").get_to(sequence.next_logprobs);
  json.at("top_ids").get_to(sequence.top_ids);
  json.at("top_logprobs").get_to(sequence.top_logprobs);
  json.at("experts").get_to(sequence.experts);
  json.at("null").get_to(sequence.null_slots);
  json.at("dropped").get_to(sequence.dropped);
  return sequence;
}

}  // namespace

std::vector<int32_t> GoldenSequence::Fed() const {
  std::vector<int32_t> fed = prompt;
  fed.insert(fed.end(), greedy.begin(), greedy.end() - 1);
  return fed;
}

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(Root())) {
    if (std::filesystem::exists(entry.path() / "expected.json")) {
      names.push_back(entry.path().filename());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

Golden ReadGolden(const std::string& name) {
  std::ifstream file(Root() / name / "expected.json");
  const nlohmann::json json = nlohmann::json::parse(file);
  Golden golden;
  golden.name = name;
  json.at("experts_per_token").get_to(golden.experts_per_token);
  json.at("num_null_experts").get_to(golden.num_null_experts);
  for (const auto& sequence : json.at("sequences")) {
    golden.sequences.push_back(ParseSequence(sequence));
  }
  return golden;
}

MixtralWeights LoadGoldenWeights(const std::string& name) {
  const std::filesystem::path folder = Root() / name;
  LoadOptions options;
  options.model_dir = folder;
  if (std::filesystem::exists(folder / "adapter")) options.adapter_dir = folder / "adapter";
  options.experts_per_token = ReadGolden(name).experts_per_token;
  auto weights = LoadMixtral(options);
  EXPECT_TRUE(weights.ok()) << weights.status();
  return *std::move(weights);
}

std::unique_ptr<MixtralModel> LoadGoldenModel(const std::string& name, std::unique_ptr<Ops> ops,
                                              int32_t block_size) {
  auto model = MixtralModel::Create(LoadGoldenWeights(name), std::move(ops),
                                    {.kv_cache_tokens = 512, .block_size = block_size});
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

}  // namespace adamoe
