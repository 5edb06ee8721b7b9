// Writes a checkpoint folder of a random model, with a tokenizer, for integration tests and
// benchmarks:
//
//   make_checkpoint --out=DIR --layers=2 --hidden=64 --experts=8 --null_experts=8 --k=3
//
// Unknown flags and values out of range end with status 2 and a message.
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "server/weights/model_config.h"
#include "tests/fakes/checkpoint_writer.h"
#include "tests/fakes/safetensors_writer.h"
#include "tests/fakes/tokenizer_file.h"

namespace adamoe {
namespace {

struct IntFlag {
  const char* name;
  int32_t* value;
  int32_t min;
  int32_t max;
  const char* meaning;
};

struct Flags {
  CheckpointOptions options;
  std::string out;
  int32_t seed = 1;
  int32_t tied = 0;
  int32_t new_style = 0;
  int32_t eos = 2;

  std::vector<IntFlag> Ints() {
    ModelConfig& c = options.config;
    return {
        {"layers", &c.num_layers, 1, 4096, "decoder layers"},
        {"hidden", &c.hidden_size, 1, 1 << 20, "hidden_size"},
        {"intermediate", &c.intermediate_size, 1, 1 << 24, "intermediate_size of one expert"},
        {"heads", &c.num_heads, 1, 4096, "query heads"},
        {"kv_heads", &c.num_kv_heads, 1, 4096, "key and value heads"},
        {"head_dim", &c.head_dim, 2, 4096, "dimensions of a head"},
        {"experts", &c.num_experts, 1, 4096, "true experts, n"},
        {"null_experts", &c.num_null_experts, 0, 4095, "null experts, m"},
        {"k", &c.experts_per_token, 1, 255, "router picks per token"},
        {"vocab", &c.vocab_size, kMinByteVocabulary, 480000, "vocabulary"},
        {"max_positions", &c.max_position_embeddings, 1, INT32_MAX, "context length"},
        {"sliding_window", &c.sliding_window, 0, INT32_MAX, "0: none"},
        {"eos", &eos, -1, 479999, "end-of-sequence token, -1: none"},
        {"tied", &tied, 0, 1, "1: no lm_head"},
        {"new_style", &new_style, 0, 1, "1: config.json as transformers 5 writes it"},
        {"shards", &options.num_shards, 1, 99999, "weight files"},
        {"seed", &seed, 0, INT32_MAX, "of the random weights"},
    };
  }
};

int Usage(Flags& flags) {
  std::fprintf(stderr,
               "usage: make_checkpoint --out=DIR [--dtype=bfloat16|float16|float32] [--FLAG=N]\n");
  for (const IntFlag& flag : flags.Ints()) {
    std::fprintf(stderr, "  --%s  %s (%d)\n", flag.name, flag.meaning, *flag.value);
  }
  return 2;
}

bool SetInt(const IntFlag& flag, std::string_view text) {
  int32_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size() || value < flag.min ||
      value > flag.max) {
    std::fprintf(stderr, "--%s: expected an integer from %d to %d\n", flag.name, flag.min,
                 flag.max);
    return false;
  }
  *flag.value = value;
  return true;
}

bool SetFlag(std::string_view name, std::string_view value, Flags& flags) {
  if (name == "out") {
    flags.out = value;
    return !value.empty();
  }
  if (name == "dtype") {
    for (DType dtype : {DType::kBFloat16, DType::kFloat16, DType::kFloat32}) {
      if (value != Name(dtype)) continue;
      flags.options.dtype = dtype;
      return true;
    }
    return false;
  }
  for (const IntFlag& flag : flags.Ints()) {
    if (name == flag.name) return SetInt(flag, value);
  }
  return false;
}

bool Parse(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const size_t equals = argument.find('=');
    if (argument.substr(0, 2) != "--" || equals == std::string_view::npos ||
        !SetFlag(argument.substr(2, equals - 2), argument.substr(equals + 1), flags)) {
      std::fprintf(stderr, "%s: not understood\n", argv[i]);
      return false;
    }
  }
  return !flags.out.empty();
}

int Main(int argc, char** argv) {
  Flags flags;
  if (!Parse(argc, argv, flags)) return Usage(flags);
  CheckpointOptions& options = flags.options;
  options.seed = static_cast<uint64_t>(flags.seed);
  options.config.tie_word_embeddings = flags.tied != 0;
  options.new_style_config = flags.new_style != 0;
  options.config.eos_token_ids.clear();
  if (flags.eos >= 0) options.config.eos_token_ids = {flags.eos};
  const ModelConfig& c = options.config;
  if (c.experts_per_token > c.num_experts + c.num_null_experts) {
    std::fprintf(stderr, "--k: expected at most experts + null_experts\n");
    return 2;
  }
  absl::Status status = ParseModelConfig(ConfigJson(options), "the flags' config").status();
  if (status.ok()) status = WriteCheckpoint(options, flags.out);
  if (status.ok()) {
    status = WriteTextFile((std::filesystem::path(flags.out) / "tokenizer.json").string(),
                           ByteFallbackTokenizer(options.config.vocab_size));
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) { return adamoe::Main(argc, argv); }
