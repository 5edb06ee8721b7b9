#include "server/cuda/weight_upload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "tests/fakes/checkpoint_writer.h"
#include "tests/fakes/temp_folder.h"

namespace adamoe::cuda {
namespace {

using testing::HasSubstr;

// A device that copies as late as it may: when a buffer is awaited, or at the end.
class LateStaging : public StagingBuffers {
 public:
  LateStaging(int64_t num_bytes, int64_t device_bytes) : device_(device_bytes) {
    for (auto& buffer : buffers_) buffer.memory.resize(num_bytes);
  }

  int64_t num_bytes() const override { return static_cast<int64_t>(buffers_[0].memory.size()); }
  absl::StatusOr<std::byte*> Await(int i) override {
    Copy(i);
    return buffers_[i].memory.data();
  }
  absl::Status BeginCopy(int i, int64_t offset, int64_t num_bytes) override {
    if (++num_copies_ == fail_at_) return absl::InternalError("the copy failed");
    EXPECT_FALSE(buffers_[i].offset.has_value()) << "a buffer in use was taken";
    EXPECT_LE(num_bytes, this->num_bytes());
    EXPECT_NE(i, last_) << "the buffers take turns";
    last_ = i;
    buffers_[i].offset = offset;
    buffers_[i].num_bytes = num_bytes;
    return absl::OkStatus();
  }
  absl::Status Finish() override {
    Copy(0);
    Copy(1);
    finished_ = true;
    return absl::OkStatus();
  }

  void set_fail_at(int copy) { fail_at_ = copy; }
  const std::byte* device() const { return device_.data(); }
  int num_copies() const { return num_copies_; }
  bool finished() const { return finished_; }

 private:
  struct Buffer {
    std::vector<std::byte> memory;
    std::optional<int64_t> offset;  // of a copy under way
    int64_t num_bytes = 0;
  };

  void Copy(int i) {
    Buffer& buffer = buffers_[i];
    if (!buffer.offset.has_value()) return;
    ASSERT_LE(*buffer.offset + buffer.num_bytes, static_cast<int64_t>(device_.size()));
    std::memcpy(device_.data() + *buffer.offset, buffer.memory.data(), buffer.num_bytes);
    buffer.offset.reset();
  }

  Buffer buffers_[2];
  std::vector<std::byte> device_;
  int num_copies_ = 0;
  int fail_at_ = 0;
  int last_ = 1;
  bool finished_ = false;
};

// The elements of a tensor on the device, as float32.
std::vector<float> OnDevice(const LateStaging& staging, const WeightCopy& copy) {
  std::vector<float> values(copy.source->num_elements());
  CopyToFloat32(staging.device() + copy.offset, copy.dtype, 0, values.size(), values.data());
  return values;
}

std::vector<float> InFile(const WeightCopy& copy) {
  std::vector<float> values(copy.source->num_elements());
  CopyToFloat32(*copy.source, 0, values.size(), values.data());
  if (copy.dtype == DType::kBFloat16) {
    for (float& value : values) value = FloatFromBf16(Bf16FromFloat(value));
  }
  return values;
}

class WeightUploadTest : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    CheckpointOptions options;
    options.dtype = GetParam();
    ASSERT_TRUE(WriteCheckpoint(options, folder_ / "model").ok());
    auto weights = LoadMixtral({.model_dir = folder_ / "model"});
    ASSERT_TRUE(weights.ok()) << weights.status();
    weights_ = *std::move(weights);
    layout_ = LayOutWeights(weights_.config);
  }

  TempFolder folder_;
  MixtralWeights weights_;
  WeightLayout layout_;
};

TEST_P(WeightUploadTest, EveryElementArrives) {
  const auto copies = WeightCopies(weights_, layout_);
  // Pieces of one element, of parts of tensors, of whole ones.
  for (const int64_t staging_bytes : {4, 1000, 4096, 1 << 20}) {
    LateStaging staging(staging_bytes, layout_.num_bytes);
    ASSERT_TRUE(UploadWeights(copies, staging).ok());
    EXPECT_TRUE(staging.finished());
    for (const WeightCopy& copy : copies) EXPECT_EQ(OnDevice(staging, copy), InFile(copy));
  }
}

TEST_P(WeightUploadTest, PagesLetGoAreReadAgain) {
  const auto copies = WeightCopies(weights_, layout_);
  LateStaging first(1 << 20, layout_.num_bytes);
  LateStaging second(1 << 20, layout_.num_bytes);
  ASSERT_TRUE(UploadWeights(copies, first).ok());
  ASSERT_TRUE(UploadWeights(copies, second).ok());
  EXPECT_EQ(std::memcmp(first.device(), second.device(), layout_.num_bytes), 0);
}

INSTANTIATE_TEST_SUITE_P(Types, WeightUploadTest,
                         testing::Values(DType::kBFloat16, DType::kFloat16, DType::kFloat32),
                         [](const auto& info) { return std::string(Name(info.param)); });

TEST(WeightUploadMemoryTest, MemoryThatIsNoFileIsKept) {
  std::vector<float> values(10000);
  std::iota(values.begin(), values.end(), 0.0f);
  const std::vector<float> before = values;
  const TensorView view{.data = values.data(), .dtype = DType::kFloat32, .shape = {10000}};
  const std::vector<WeightCopy> copies = {{&view, 0, DType::kFloat32}};
  LateStaging staging(4096, 40000);
  ASSERT_TRUE(UploadWeights(copies, staging).ok());
  EXPECT_EQ(values, before);
  EXPECT_EQ(OnDevice(staging, copies[0]), before);
}

// Resident pages of mapped files, in kB.
int64_t ResidentFilePages() {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;) {
    int64_t value = 0;
    if (word == "RssFile:" && file >> value) return value;
  }
  return -1;
}

TEST(WeightUploadMemoryTest, PagesBehindAreLetGo) {
  CheckpointOptions options;
  options.config.intermediate_size = 16384;  // 12 MB of experts
  options.config.num_layers = 1;
  TempFolder folder;
  ASSERT_TRUE(WriteCheckpoint(options, folder / "model").ok());
  auto weights = LoadMixtral({.model_dir = folder / "model"});
  ASSERT_TRUE(weights.ok());
  const WeightLayout layout = LayOutWeights(weights->config);
  LateStaging staging(1 << 20, layout.num_bytes);
  const int64_t before = ResidentFilePages();
  if (before < 0) GTEST_SKIP() << "this kernel does not say how many pages are resident";
  ASSERT_TRUE(UploadWeights(WeightCopies(*weights, layout), staging).ok());
  EXPECT_LT(ResidentFilePages() - before, 4096);
}

TEST(WeightUploadMemoryTest, AFailedCopyEndsTheUploadWithNothingUnderWay) {
  std::vector<float> values(100);
  const TensorView view{.data = values.data(), .dtype = DType::kFloat32, .shape = {100}};
  LateStaging staging(40, 400);
  staging.set_fail_at(3);
  const absl::Status status = UploadWeights({{&view, 0, DType::kFloat32}}, staging);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the copy failed"));
  EXPECT_EQ(staging.num_copies(), 3);
  EXPECT_TRUE(staging.finished());
}

TEST(PlanUploadTest, CutsAtTheSizeOfABuffer) {
  const TensorView long_view{.dtype = DType::kBFloat16, .shape = {5, 5}};
  const TensorView short_view{.dtype = DType::kFloat32, .shape = {3}};
  const TensorView empty_view{.dtype = DType::kFloat32, .shape = {0, 7}};
  const auto pieces = PlanUpload({{&long_view, 0, DType::kBFloat16},
                                  {&empty_view, 50, DType::kBFloat16},
                                  {&short_view, 50, DType::kFloat32}},
                                 20);
  const std::vector<std::vector<int64_t>> expected = {
      {0, 0, 10}, {0, 10, 10}, {0, 20, 5}, {2, 0, 3}};
  ASSERT_EQ(pieces.size(), expected.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ((std::vector<int64_t>{static_cast<int64_t>(pieces[i].copy), pieces[i].begin,
                                    pieces[i].count}),
              expected[i]);
  }
}

}  // namespace
}  // namespace adamoe::cuda
