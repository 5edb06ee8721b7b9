// A megabyte in one word, as nobody writes and anybody can send. Anything quadratic would take
// hours.
#include <gtest/gtest.h>

#include <random>

#include "server/tokenizer/incremental_decoder.h"
#include "tests/unit/tokenizer/goldens.h"

namespace adamoe {
namespace {

constexpr size_t kMegabyte = 1 << 20;

std::string RandomLetters() {
  std::mt19937 random(3);
  std::string text(kMegabyte, ' ');
  for (char& c : text) c = static_cast<char>('a' + random() % 26);
  return text;
}

std::string Repeated(const std::string& part) {
  std::string text;
  while (text.size() < kMegabyte) text += part;
  return text;
}

TEST(LongText, GoesThroughAndBack) {
  const std::string texts[] = {RandomLetters(), Repeated("a"), Repeated(" "),
                               Repeated("\n "), Repeated("😀"), Repeated("'s!")};
  for (const char* name : {"byte_level", "llama_split", "byte_fallback"}) {
    const auto tokenizer = LoadGolden(name);
    for (const std::string& text : texts) {
      const auto ids = tokenizer->Encode(text, {.add_special_tokens = false});
      ASSERT_TRUE(ids.ok()) << name << ": " << ids.status();
      EXPECT_TRUE(tokenizer->Decode(*ids).value() == text) << name << ": " << text.substr(0, 9);
    }
  }
}

TEST(LongText, StreamsALongRunOfBytes) {
  const auto tokenizer = Tokenizer::Parse(TinyTokenizer().dump(), "t").value();
  IncrementalDecoder decoder(*tokenizer, true);
  size_t num_bytes = 0;
  for (size_t i = 0; i < kMegabyte; ++i) num_bytes += decoder.Push(3 + 'x').size();
  EXPECT_EQ(num_bytes, 0u);
  EXPECT_EQ(decoder.Flush().size(), kMegabyte);
}

}  // namespace
}  // namespace adamoe
