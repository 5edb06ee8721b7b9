// A model costs its checkpoint, mapped once, and what is used of its cache: no operation keeps a
// second copy of the weights in another form.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>

#include "server/base/thread_pool.h"
#include "server/kernels/cpu/cpu_ops.h"
#include "server/model/mixtral_model.h"
#include "tests/unit/model/model_runner.h"

namespace adamoe {
namespace {

constexpr int32_t kKvTokens = 8192;
constexpr size_t kMiB = size_t{1} << 20;
// The process itself, its libraries, the activations of the steps below.
constexpr size_t kAllowance = 128 * kMiB;

// Of this process, the largest so far.
size_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}

// A checkpoint folder of about 300 MB for as long as it lives, written by another process.
class LargeCheckpoint {
 public:
  LargeCheckpoint()
      : dir_(std::filesystem::path(testing::TempDir()) /
             ("memory_test." + std::to_string(getpid()))) {
    const std::string command =
        std::string(ADAMOE_MAKE_CHECKPOINT) + " --out='" + dir_.string() +
        "' --layers=6 --hidden=512 --intermediate=1792 --heads=8 --kv_heads=2 --head_dim=64"
        " --experts=8 --null_experts=8 --k=3 --vocab=16000 --max_positions=8192";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
  ~LargeCheckpoint() { std::filesystem::remove_all(dir_); }

  std::string dir() const { return dir_; }
  size_t num_bytes() const { return std::filesystem::file_size(dir_ / "model.safetensors"); }

 private:
  const std::filesystem::path dir_;
};

class MemoryTest : public testing::TestWithParam<Precision> {};

TEST_P(MemoryTest, ResidentMemoryStaysNearTheCheckpoint) {
  const LargeCheckpoint checkpoint;
  ASSERT_GT(checkpoint.num_bytes(), 280 * kMiB);
  LoadOptions options;
  options.model_dir = checkpoint.dir();
  auto weights = LoadMixtral(options);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const ModelConfig& config = weights->config;
  const size_t kv_bytes = size_t{2} * kKvTokens * config.num_layers * config.num_kv_heads *
                          config.head_dim * (GetParam() == Precision::kFloat32 ? 4 : 2);

  ThreadPool pool(2);
  auto model = MixtralModel::Create(*std::move(weights),
                                    CreateCpuOps({.pool = &pool, .precision = GetParam()}),
                                    {.kv_cache_tokens = kKvTokens});
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<int32_t> prompt(256);  // enough for every expert to be picked
  std::iota(prompt.begin(), prompt.end(), 1000);
  RunAlone(model->get(), prompt, {1, 2, 3});
  EXPECT_LE(PeakResidentBytes(), checkpoint.num_bytes() * 115 / 100 + kv_bytes + kAllowance);
}

INSTANTIATE_TEST_SUITE_P(All, MemoryTest,
                         testing::Values(Precision::kBFloat16, Precision::kFloat32),
                         [](const auto& info) {
                           return info.param == Precision::kFloat32 ? "Float32" : "BFloat16";
                         });

}  // namespace
}  // namespace adamoe
