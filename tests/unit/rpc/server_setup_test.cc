// What main.cc is made of: flags and the size of the KV cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/flags/reflection.h"
#include "absl/strings/str_cat.h"
#include "server/flags.h"
#include "server/machine.h"

namespace adamoe {
namespace {

using testing::HasSubstr;

absl::StatusOr<ServerFlags> Read(std::vector<std::string> arguments) {
  const absl::FlagSaver saver;
  arguments.insert(arguments.begin(), "adamoe_server");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  return ReadFlags(static_cast<int>(argv.size()), argv.data());
}

TEST(ParseEndpointTest, TakesHostsAndPorts) {
  const auto v4 = ParseEndpoint("127.0.0.1:50051");
  ASSERT_TRUE(v4.ok()) << v4.status();
  EXPECT_EQ(v4->host, "127.0.0.1");
  EXPECT_EQ(v4->port, 50051);
  const auto v6 = ParseEndpoint("[::1]:0");
  ASSERT_TRUE(v6.ok()) << v6.status();
  EXPECT_EQ(v6->host, "[::1]");
  EXPECT_EQ(v6->port, 0);
  EXPECT_TRUE(ParseEndpoint("localhost:65535").ok());
}

TEST(ParseEndpointTest, RefusesTheRest) {
  for (const char* text :
       {"", "localhost", ":50051", "host:", "host:x", "host:65536", "host:-1", "host:+1",
        "::1:50051", "[::1:50051", "a b:1", "a,b:1", "http://host:1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseEndpoint(text).status())) << text;
  }
}

TEST(ReadFlagsTest, DefaultsStand) {
  const auto flags = Read({"--model=somewhere"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->model_dir, "somewhere");
  EXPECT_EQ(flags->listen, "127.0.0.1:50051");
  EXPECT_EQ(flags->metrics_listen, "127.0.0.1:9464");
  EXPECT_EQ(flags->drain_timeout, absl::Seconds(30));
  EXPECT_EQ(flags->baseline_experts_per_token, 2);
  EXPECT_TRUE(flags->prefix_caching);
  EXPECT_FALSE(flags->activation_dtype.has_value());
  EXPECT_EQ(flags->device, DeviceChoice::kAuto);
}

TEST(ReadFlagsTest, ValuesArrive) {
  const auto flags =
      Read({"--model=m", "--activation_dtype=float32", "--threads=3", "--noprefix_caching",
            "--drain_timeout=2m", "--metrics_listen=", "--kv_cache_tokens=4096", "--device=cuda",
            "--device_plugin=plugin.so"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->activation_dtype, Precision::kFloat32);
  EXPECT_EQ(flags->threads, 3);
  EXPECT_FALSE(flags->prefix_caching);
  EXPECT_EQ(flags->drain_timeout, absl::Minutes(2));
  EXPECT_EQ(flags->metrics_listen, "");
  EXPECT_EQ(flags->kv_cache_tokens, 4096);
  EXPECT_EQ(flags->device, DeviceChoice::kCuda);
  EXPECT_EQ(flags->device_plugin, "plugin.so");
}

TEST(ReadFlagsTest, PlaintextStaysOnThisMachineUnlessToldOtherwise) {
  for (const char* listen : {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"}) {
    EXPECT_TRUE(Read({"--model=m", absl::StrCat("--listen=", listen)}).ok()) << listen;
  }
  EXPECT_TRUE(Read({"--model=m", "--listen=0.0.0.0:1", "--insecure"}).ok());
  // Nothing but health and metrics is there to be seen.
  EXPECT_TRUE(Read({"--model=m", "--health_listen=0.0.0.0:1", "--metrics_listen=0.0.0.0:2"}).ok());
  const auto tls =
      Read({"--model=m", "--listen=0.0.0.0:1", "--tls_cert_file=c", "--tls_key_file=k"});
  ASSERT_TRUE(tls.ok()) << tls.status();
  ASSERT_TRUE(tls->tls.has_value());
  EXPECT_EQ(tls->tls->certificate_file, "c");
  EXPECT_EQ(tls->tls->key_file, "k");
  EXPECT_EQ(tls->tls->client_ca_file, "");
}

TEST(ReadFlagsTest, TokensAndLogArrive) {
  const auto flags =
      Read({"--model=m", "--auth_tokens_file=f", "--max_running_requests_per_token=3",
            "--log_format=json", "--nolog_requests", "--log_prompts"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->auth_tokens_file, "f");
  EXPECT_EQ(flags->max_requests_per_token, 3);
  EXPECT_EQ(flags->log_format, LogFormat::kJson);
  EXPECT_FALSE(flags->log_requests);
  EXPECT_TRUE(flags->log_prompts);
}

TEST(ReadFlagsTest, ErrorsNameTheFlag) {
  const struct {
    std::vector<std::string> arguments;
    std::string words;
  } cases[] = {
      {{}, "--model: a model folder is needed"},
      {{"--model=m", "extra"}, "'extra' is not a flag"},
      {{"--model=m", "--listen=nowhere"}, "--listen: 'nowhere' is not HOST:PORT"},
      {{"--model=m", "--metrics_listen=host:99999"}, "--metrics_listen"},
      {{"--model=m", "--http_listen=nowhere"}, "--http_listen: 'nowhere'"},
      {{"--model=m", "--http_listen=0.0.0.0:1"}, "--http_listen: '0.0.0.0:1' can be reached"},
      {{"--model=m", "--device=tpu"}, "'tpu' is not one of auto, cpu, cuda"},
      {{"--model=m", "--activation_dtype=int8"}, "--activation_dtype: 'int8'"},
      {{"--model=m", "--log_level=loud"}, "--log_level: 'loud'"},
      {{"--model=m", "--log_format=xml"}, "--log_format: 'xml' is not one of text, json"},
      {{"--model=m", "--health_listen=nowhere"}, "--health_listen: 'nowhere'"},
      {{"--model=m", "--listen=0.0.0.0:1"}, "--listen: '0.0.0.0:1' can be reached from other"},
      {{"--model=m", "--listen=[::]:1"}, "--insecure if that is meant"},
      {{"--model=m", "--tls_cert_file=c"}, "--tls_key_file: is needed with --tls_cert_file"},
      {{"--model=m", "--tls_key_file=k"}, "--tls_cert_file: is needed with --tls_key_file"},
      {{"--model=m", "--tls_client_ca_file=c"}, "--tls_client_ca_file: needs --tls_cert_file"},
      {{"--model=m", "--max_running_requests_per_token=1"}, "needs --auth_tokens_file"},
      {{"--model=m", "--max_running_requests_per_token=-1", "--auth_tokens_file=f"},
       "-1 is not in"},
      {{"--model=m", "--max_batch_tokens=0"}, "--max_batch_tokens: 0 is not in [1, "},
      {{"--model=m", "--max_queued_requests=-1"}, "--max_queued_requests: -1"},
      {{"--model=m", "--threads=-1"}, "--threads: -1 is not in [0, "},
      {{"--model=m", "--kv_cache_tokens=-5"}, "--kv_cache_tokens: -5"},
      {{"--model=m", "--baseline_experts_per_token=0"}, "--baseline_experts_per_token: 0"},
      {{"--model=m", "--drain_timeout=-1s"}, "--drain_timeout: -1s is not in [0s, 24h]"},
      {{"--model=m", "--drain_timeout=inf"}, "--drain_timeout: inf"},
  };
  for (const auto& c : cases) {
    const absl::Status status = Read(c.arguments).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.words;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.words));
  }
}

TEST(MachineTest, KvCacheIsEightContextsWithinAQuarterOfMemory) {
  ModelConfig config;
  config.num_layers = 2;
  config.num_kv_heads = 4;
  config.head_dim = 8;
  config.max_position_embeddings = 1000;
  constexpr int64_t kBytesPerToken = 2 * 2 * 4 * 8 * 4;  // keys and values, in float32
  EXPECT_EQ(DefaultKvCacheTokens(config, 4, int64_t{1} << 40), 8000);
  EXPECT_EQ(DefaultKvCacheTokens(config, 4, kBytesPerToken * 8000), 2000);
  // A quarter does not hold a context, a half does; then neither does.
  EXPECT_EQ(DefaultKvCacheTokens(config, 4, kBytesPerToken * 3000), 1000);
  EXPECT_EQ(DefaultKvCacheTokens(config, 4, kBytesPerToken * 1000), 500);
  EXPECT_EQ(DefaultKvCacheTokens(config, 4, 0), 1);
}

TEST(MachineTest, KnowsItsOwn) {
  EXPECT_GE(NumCores(), 1);
  EXPECT_GT(AvailableMemoryBytes(), 0);
}

}  // namespace
}  // namespace adamoe
