#include "server/weights/checkpoint_files.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/safetensors_writer.h"
#include "tests/fakes/temp_folder.h"

namespace adamoe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kIndex[] = "model.safetensors.index.json";

// A file of one-dimensional tensors that hold `value`.
void WriteFile(const std::string& path, const std::vector<std::string>& names, float value) {
  std::vector<NewTensor> tensors;
  for (const std::string& name : names) tensors.push_back({name, DType::kFloat32, {2}});
  ASSERT_TRUE(
      WriteSafetensors(path, tensors, [&](const NewTensor&, int64_t, int64_t count, float* out) {
        for (int64_t i = 0; i < count; ++i) out[i] = value;
      }).ok());
}

float FirstValue(const CheckpointFiles& files, const std::string& name) {
  const auto view = files.Find(name);
  EXPECT_TRUE(view.ok()) << view.status();
  return view.ok() ? *static_cast<const float*>(view->data) : -1.0f;
}

TEST(CheckpointFilesTest, OneFile) {
  TempFolder folder;
  WriteFile(folder / "model.safetensors", {"b", "a"}, 1.0f);
  const auto files = CheckpointFiles::OpenFolder(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT((*files)->Names(), ElementsAre("a", "b"));
  EXPECT_EQ((*files)->source(), folder / "model.safetensors");
  EXPECT_EQ(FirstValue(**files, "a"), 1.0f);
  EXPECT_TRUE((*files)->Contains("b"));
  EXPECT_FALSE((*files)->Contains("c"));
}

TEST(CheckpointFilesTest, ShardsAsTheIndexSays) {
  TempFolder folder;
  WriteFile(folder / "one.safetensors", {"a", "both"}, 1.0f);
  WriteFile(folder / "two.safetensors", {"b", "both", "unlisted"}, 2.0f);
  ASSERT_TRUE(WriteTextFile(folder / kIndex,
                            R"({"metadata": {"total_size": 1}, "weight_map": {
                                "a": "one.safetensors", "b": "two.safetensors",
                                "both": "two.safetensors"}})")
                  .ok());
  const auto files = CheckpointFiles::OpenFolder(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT((*files)->Names(), ElementsAre("a", "b", "both"));
  EXPECT_EQ((*files)->source(), folder / kIndex);
  EXPECT_EQ((*files)->PathOf("both"), folder / "two.safetensors");
  EXPECT_EQ(FirstValue(**files, "a"), 1.0f);
  EXPECT_EQ(FirstValue(**files, "both"), 2.0f);
  (*files)->ReadAhead();
  EXPECT_EQ(FirstValue(**files, "b"), 2.0f);
}

TEST(CheckpointFilesTest, OneFileWinsOverAnIndex) {
  TempFolder folder;
  WriteFile(folder / "model.safetensors", {"a"}, 1.0f);
  ASSERT_TRUE(WriteTextFile(folder / kIndex, "not JSON").ok());
  const auto files = CheckpointFiles::OpenFolder(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(FirstValue(**files, "a"), 1.0f);
}

TEST(CheckpointFilesTest, FindNamesTensorFileAndExpectation) {
  TempFolder folder;
  WriteFile(folder / "model.safetensors", {"a"}, 1.0f);
  const auto files = CheckpointFiles::OpenFolder(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_TRUE((*files)->Find("a", {2}).ok());
  const auto shape = (*files)->Find("a", {3, 4});
  EXPECT_EQ(shape.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(shape.status().message()),
            (folder / "model.safetensors") + ": tensor \"a\" has shape [2], expected [3, 4]");
  const auto absent = (*files)->Find("z", {3, 4});
  EXPECT_EQ(absent.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(
      std::string(absent.status().message()),
      (folder / "model.safetensors") + ": tensor \"z\" is absent, expected with shape [3, 4]");
}

TEST(CheckpointFilesTest, OtherTypesAreAnErrorOnlyWhenAskedFor) {
  TempFolder folder;
  ASSERT_TRUE(WriteTextFile(folder / "model.safetensors",
                            SafetensorsBytes(
                                R"({"q":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}})", "abcd"))
                  .ok());
  const auto files = CheckpointFiles::OpenFolder(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_TRUE((*files)->Contains("q"));
  const auto view = (*files)->Find("q", {4});
  EXPECT_EQ(view.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(view.status().message()),
              HasSubstr("tensor \"q\" has type I8, expected BF16, F16 or F32"));
}

struct HostileIndex {
  std::string name;
  std::string index;
  absl::StatusCode code;
  std::string message;
};

class HostileIndexTest : public testing::TestWithParam<HostileIndex> {};

TEST_P(HostileIndexTest, IsRefused) {
  TempFolder folder;
  WriteFile(folder / "one.safetensors", {"a"}, 1.0f);
  std::filesystem::create_directory(folder / "folder");
  WriteFile(folder / "folder/inner.safetensors", {"a"}, 1.0f);
  ASSERT_TRUE(WriteTextFile(folder / "broken.safetensors", "too short but present").ok());
  ASSERT_TRUE(WriteTextFile(folder / kIndex, GetParam().index).ok());
  const auto files = CheckpointFiles::OpenFolder(folder.path());
  ASSERT_FALSE(files.ok());
  EXPECT_EQ(files.status().code(), GetParam().code) << files.status();
  EXPECT_THAT(std::string(files.status().message()), HasSubstr(GetParam().message));
  EXPECT_THAT(std::string(files.status().message()), HasSubstr(folder.path()));
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

INSTANTIATE_TEST_SUITE_P(
    Table, HostileIndexTest,
    testing::Values(
        HostileIndex{"NotJson", "{", kInvalid, "model.safetensors.index.json: not valid JSON"},
        HostileIndex{"List", "[]", kInvalid, "expected a JSON object"},
        HostileIndex{"NoMap", "{}", kInvalid, "expected weight_map"},
        HostileIndex{"MapIsList", R"({"weight_map": []})", kInvalid, "expected weight_map"},
        HostileIndex{"ShardIsNumber", R"({"weight_map": {"a": 1}})", kInvalid,
                     "weight_map of tensor \"a\" is number, expected the name of a file"},
        HostileIndex{"Parent", R"({"weight_map": {"a": ".."}})", kInvalid,
                     "tensor \"a\" is \"..\""},
        HostileIndex{"ParentsFile", R"({"weight_map": {"a": "../one.safetensors"}})", kInvalid,
                     "tensor \"a\" is \"../one.safetensors\""},
        HostileIndex{"Absolute", R"({"weight_map": {"a": "/etc/passwd"}})", kInvalid,
                     "tensor \"a\" is \"/etc/passwd\""},
        HostileIndex{"Subfolder", R"({"weight_map": {"a": "folder/inner.safetensors"}})", kInvalid,
                     "expected the name of a file in the same folder"},
        HostileIndex{"Backslash", R"({"weight_map": {"a": "x\\y"}})", kInvalid,
                     "expected the name"},
        HostileIndex{"NulByte", R"({"weight_map": {"a": "one.safetensors\u0000x"}})", kInvalid,
                     "expected the name"},
        HostileIndex{"EmptyName", R"({"weight_map": {"a": ""}})", kInvalid, "expected the name"},
        HostileIndex{"ShardIsFolder", R"({"weight_map": {"a": "folder"}})", kInvalid,
                     "folder: expected a regular file (shard of tensor \"a\""},
        HostileIndex{"ShardIsBroken", R"({"weight_map": {"a": "broken.safetensors"}})", kInvalid,
                     "broken.safetensors: header of"},
        HostileIndex{"ShardIsMissing", R"({"weight_map": {"a": "two.safetensors"}})",
                     absl::StatusCode::kNotFound,
                     "two.safetensors: No such file or directory (shard of tensor \"a\""},
        HostileIndex{"TensorIsMissing", R"({"weight_map": {"b": "one.safetensors"}})", kInvalid,
                     "one.safetensors: tensor \"b\" is absent"}),
    [](const auto& info) { return info.param.name; });

TEST(CheckpointFilesTest, RefusesFoldersWithoutWeights) {
  TempFolder folder;
  const auto files = CheckpointFiles::OpenFolder(folder.path());
  EXPECT_EQ(files.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(files.status().message()),
              HasSubstr(folder.path() + ": expected model.safetensors or"));
  std::filesystem::create_directory(folder / "model.safetensors");
  EXPECT_EQ(CheckpointFiles::OpenFolder(folder.path()).status().code(), kInvalid);
}

TEST(CheckpointFilesTest, RefusesAnIndexPastItsLimit) {
  TempFolder folder;
  ASSERT_TRUE(WriteTextFile(folder / kIndex, "{}").ok());
  std::filesystem::resize_file(folder / kIndex, 200u << 20);
  const auto files = CheckpointFiles::OpenFolder(folder.path());
  EXPECT_EQ(files.status().code(), kInvalid);
  EXPECT_THAT(std::string(files.status().message()), HasSubstr("bytes, expected at most"));
}

}  // namespace
}  // namespace adamoe
