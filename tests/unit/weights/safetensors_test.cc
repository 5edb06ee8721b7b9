#include "server/weights/safetensors.h"

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/safetensors_writer.h"
#include "tests/fakes/temp_folder.h"

namespace adamoe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The position of each value in its tensor, times 0.5.
void FillHalves(const NewTensor&, int64_t begin, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = 0.5f * static_cast<float>(begin + i);
}

TEST(SafetensorsTest, ReadsEveryTypeAndShape) {
  TempFolder folder;
  const std::string path = folder / "a.safetensors";
  ASSERT_TRUE(WriteSafetensors(path,
                               {{"half", DType::kFloat16, {3, 2}},
                                {"brain", DType::kBFloat16, {5}},
                                {"none", DType::kFloat16, {0, 7}},
                                {"full", DType::kFloat32, {2, 1, 2}},
                                {"scalar", DType::kFloat32, {}}},
                               FillHalves)
                  .ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->path(), path);
  EXPECT_EQ((*file)->num_bytes(), std::filesystem::file_size(path));
  const auto& entries = (*file)->entries();
  ASSERT_EQ(entries.size(), 5u);
  EXPECT_TRUE((*file)->unsupported().empty());

  const SafetensorsEntry& half = entries.at("half");
  EXPECT_EQ(half.dtype, DType::kFloat16);
  EXPECT_THAT(half.shape, ElementsAre(3, 2));
  EXPECT_EQ(half.num_bytes, 12u);
  EXPECT_EQ(FloatFromF16(static_cast<const uint16_t*>(half.data)[5]), 2.5f);
  const SafetensorsEntry& brain = entries.at("brain");
  EXPECT_EQ(brain.dtype, DType::kBFloat16);
  EXPECT_EQ(FloatFromBf16(static_cast<const uint16_t*>(brain.data)[3]), 1.5f);
  const SafetensorsEntry& full = entries.at("full");
  EXPECT_THAT(full.shape, ElementsAre(2, 1, 2));
  EXPECT_EQ(static_cast<const float*>(full.data)[3], 1.5f);
  EXPECT_EQ(entries.at("none").num_bytes, 0u);
  EXPECT_NE(entries.at("none").data, nullptr);
  EXPECT_TRUE(entries.at("scalar").shape.empty());
  (*file)->ReadAhead();
  EXPECT_EQ(static_cast<const float*>(full.data)[2], 1.0f);
}

TEST(SafetensorsTest, CopiesTensorsThatLieAskew) {
  TempFolder folder;
  const std::string path = folder / "askew.safetensors";
  std::string header = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[8,10]}})";
  header.resize(header.size() + (1 - header.size() % 2), ' ');  // odd: no tensor is aligned
  ASSERT_EQ(header.size() % 2, 1u);
  const float values[] = {1.25f, -7.0f};
  const uint16_t bits = Bf16FromFloat(3.0f);
  std::string data(reinterpret_cast<const char*>(values), sizeof(values));
  data.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
  ASSERT_TRUE(WriteTextFile(path, SafetensorsBytes(header, data)).ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const SafetensorsEntry& a = (*file)->entries().at("a");
  ASSERT_EQ(reinterpret_cast<uintptr_t>(a.data) % sizeof(float), 0u);
  EXPECT_EQ(static_cast<const float*>(a.data)[0], 1.25f);
  EXPECT_EQ(static_cast<const float*>(a.data)[1], -7.0f);
  const SafetensorsEntry& b = (*file)->entries().at("b");
  ASSERT_EQ(reinterpret_cast<uintptr_t>(b.data) % sizeof(uint16_t), 0u);
  EXPECT_EQ(FloatFromBf16(*static_cast<const uint16_t*>(b.data)), 3.0f);
}

TEST(SafetensorsTest, ListsOtherTypesApart) {
  TempFolder folder;
  const std::string path = folder / "i.safetensors";
  const std::string header = R"({"ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                             R"("x":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})";
  ASSERT_TRUE(WriteTextFile(path, SafetensorsBytes(header, std::string(12, '\0'))).ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->unsupported().at("ids"), "I64");
  EXPECT_EQ((*file)->entries().size(), 1u);
}

struct HostileCase {
  std::string name;
  std::string bytes;
  std::string message;  // a part of it
};

// One F32 tensor "a" of the given shape and offsets.
std::string OneTensor(const std::string& shape, const std::string& offsets) {
  return absl::StrCat(R"({"a":{"dtype":"F32","shape":)", shape, R"(,"data_offsets":)", offsets,
                      "}}");
}

std::vector<HostileCase> HostileCases() {
  const std::string four(4, '\0');
  const std::string good = OneTensor("[1]", "[0,4]");
  const auto file = [&](const std::string& header) { return SafetensorsBytes(header, four); };
  return {
      {"Empty", "", "0 bytes, expected at least the 8"},
      {"SevenBytes", std::string(7, '\0'), "7 bytes"},
      {"HeaderPastTheEnd", SafetensorsBytes(good.size() + 5, good, four), "the rest of the file"},
      {"HeaderOf2To63", SafetensorsBytes(uint64_t{1} << 63, good, four), "at most 100000000"},
      {"HeaderOfAllOnes", SafetensorsBytes(std::numeric_limits<uint64_t>::max(), good, four),
       "at most 100000000"},
      {"HeaderOfNothing", SafetensorsBytes("", ""), "not valid JSON"},
      {"HeaderIsList", file("[1,2]"), "header is a list, expected a JSON object"},
      {"HeaderIsNumber", file("7"), "header is 7, expected a JSON object"},
      {"HeaderIsText", file("\"{}\""), "header is a string"},
      {"HeaderIsCut", file(good.substr(0, good.size() - 1)), "not valid JSON"},
      {"HeaderIsNotUtf8", file("{\"\xff\":{}}"), "not valid JSON"},
      {"DeepHeader", file(std::string(100000, '[')), "header is a list"},
      {"DeepField", file(R"({"a":{"shape":)" + std::string(100000, '[')), "tensor \"a\""},
      {"TensorIsNumber", file(R"({"a":3})"), "tensor \"a\" is 3, expected an object"},
      {"TensorIsNull", file(R"({"a":null})"), "tensor \"a\" is null, expected an object"},
      {"TensorTwice",
       file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
            R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})"),
       "\"a\" appears twice"},
      {"FieldTwice", file(R"({"a":{"dtype":"F32","dtype":"F32"}})"),
       "tensor \"a\" has dtype twice"},
      {"UnknownField", file(R"({"a":{"stride":[1]}})"),
       "tensor \"a\" has unknown field \"stride\""},
      {"NoDtype", file(R"({"a":{"shape":[1],"data_offsets":[0,4]}})"), "tensor \"a\" lacks dtype"},
      {"NoShape", file(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})"),
       "tensor \"a\" lacks shape"},
      {"NoOffsets", file(R"({"a":{"dtype":"F32","shape":[1]}})"),
       "tensor \"a\" lacks data_offsets"},
      {"DtypeIsNumber", file(R"({"a":{"dtype":32}})"), "dtype holds 32, expected a string"},
      {"ShapeIsNumber", file(OneTensor("1", "[0,4]")), "shape holds 1, expected a list"},
      {"NegativeDimension", file(OneTensor("[-1]", "[0,4]")), "shape holds -1"},
      {"FractionalDimension", file(OneTensor("[1.5]", "[0,4]")), "shape holds 1.5"},
      {"TextDimension", file(OneTensor("[\"1\"]", "[0,4]")), "shape holds a string"},
      {"NineDimensions", file(OneTensor("[1,1,1,1,1,1,1,1,1]", "[0,4]")), "more than 8 numbers"},
      {"OneOffset", file(OneTensor("[1]", "[0]")), "1 data_offsets, expected 2"},
      {"ThreeOffsets", file(OneTensor("[1]", "[0,4,4]")), "more than 2 numbers"},
      {"NegativeOffset", file(OneTensor("[1]", "[-4,0]")), "data_offsets holds -4"},
      {"OffsetsBackwards", file(OneTensor("[1]", "[4,0]")), "tensor \"a\" has data_offsets [4, 0]"},
      {"OffsetPastTheEnd", file(OneTensor("[2]", "[0,8]")), "within the file's 4 bytes"},
      {"HugeOffset", file(OneTensor("[1]", "[18446744073709551612,18446744073709551615]")),
       "within the file's 4 bytes"},
      {"OffsetPast64Bits", file(OneTensor("[1]", "[0,18446744073709551616]")),
       "data_offsets holds"},
      {"Gap", SafetensorsBytes(OneTensor("[1]", "[4,8]"), std::string(8, '\0')),
       "tensor \"a\" begins at byte 4 of the data, expected 0"},
      {"Overlap",
       SafetensorsBytes(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                        R"("b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                        std::string(6, '\0')),
       "tensor \"b\" begins at byte 2 of the data, expected 4"},
      {"DataLeftOver", SafetensorsBytes(good, std::string(5, '\0')), "5 bytes of data, expected 4"},
      {"DataCutShort", SafetensorsBytes(good, std::string(3, '\0')), "within the file's 3 bytes"},
      {"SizeTooSmall", file(OneTensor("[2]", "[0,4]")),
       "tensor \"a\" has 4 bytes of data, expected 8 for F32 [2]"},
      {"SizeTooLarge", file(OneTensor("[0]", "[0,4]")),
       "tensor \"a\" has 4 bytes of data, expected 0"},
      {"ShapeProductWraps", file(OneTensor("[4294967296,4294967296,4]", "[0,4]")),
       "expected more than 2^63"},
      {"ShapeBesideZeroWraps", file(OneTensor("[0,9223372036854775807,3]", "[0,4]")),
       "expected more than 2^63"},
      {"DimensionPast63Bits", file(OneTensor("[18446744073709551615]", "[0,4]")),
       "expected more than 2^63"},
      {"MetadataHoldsNumber", file(R"({"__metadata__":{"a":1}})"), "__metadata__ holds 1"},
      {"MetadataIsText", file(R"({"__metadata__":"pt"})"), "__metadata__ is a string"},
      {"EmptyName", file(R"({"":{}})"), "empty name"},
      {"NameOfControlCharacters", file(R"({"\u0000\n":1})"), "tensor \"\\000\\n\" is 1"},
  };
}

class HostileSafetensorsTest : public testing::TestWithParam<HostileCase> {};

TEST_P(HostileSafetensorsTest, IsRefusedNamingFileAndTensor) {
  TempFolder folder;
  const std::string path = folder / "hostile.safetensors";
  ASSERT_TRUE(WriteTextFile(path, GetParam().bytes).ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument) << file.status();
  EXPECT_THAT(std::string(file.status().message()), testing::StartsWith(path + ": "));
  EXPECT_THAT(std::string(file.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Table, HostileSafetensorsTest, testing::ValuesIn(HostileCases()),
                         [](const auto& info) { return info.param.name; });

TEST(SafetensorsTest, RefusesWhatIsNotAFile) {
  TempFolder folder;
  const auto missing = SafetensorsFile::Open(folder / "missing.safetensors");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("missing.safetensors"));
  const auto directory = SafetensorsFile::Open(folder.path());
  EXPECT_EQ(directory.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(directory.status().message()), HasSubstr("expected a regular file"));
}

}  // namespace
}  // namespace adamoe
