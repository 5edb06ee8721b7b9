// A tokenizer.json of any bytes: it is refused, or text goes through it and back. The input is the
// file, with a text behind its last line feed.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "server/tokenizer/chat_format.h"
#include "server/tokenizer/incremental_decoder.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {
namespace {

void Check(bool condition) {
  if (!condition) std::abort();
}

// Every id is one the tokenizer has, and streaming them gives what decoding them at once does.
void CheckDecoding(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  IncrementalDecoder decoder(tokenizer, /*follows_text=*/false);
  std::string text;
  for (const int32_t id : ids) {
    Check(id >= 0 && id < tokenizer.vocab_size());
    tokenizer.TokenBytes(id);
    text += decoder.Push(id);
  }
  text += decoder.Flush();
  const auto decoded = tokenizer.Decode(ids);
  Check(decoded.ok() && *decoded == text);
}

void CheckText(const Tokenizer& tokenizer, absl::string_view text) {
  for (const bool trusted : {false, true}) {
    const auto ids =
        tokenizer.Encode(text, {.add_special_tokens = trusted, .parse_special_tokens = trusted});
    if (ids.ok()) CheckDecoding(tokenizer, *ids);
  }
  const auto chat = EncodeChat(tokenizer, {{"user", std::string(text)}});
  if (chat.ok()) CheckDecoding(tokenizer, *chat);
}

void Run(absl::string_view input) {
  const size_t end = input.rfind('\n');
  const absl::string_view file = input.substr(0, end);
  const auto tokenizer = Tokenizer::Parse(file, "tokenizer.json");
  if (!tokenizer.ok()) {
    Check(!tokenizer.status().message().empty());
    return;
  }
  CheckText(**tokenizer, end == input.npos ? "" : input.substr(end + 1));
  CheckText(**tokenizer, "<s>Hello  wörld\n12345 🦙</s>");
}

}  // namespace
}  // namespace adamoe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  adamoe::Run(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
