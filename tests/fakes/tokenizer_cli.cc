// The tokenizer as a filter, for tests in other languages:  tokenizer_cli FOLDER
// Reads one JSON object a line and answers each with one.
//   {"encode": text, "add_special_tokens": bool, "parse_special_tokens": bool}   {"ids": [...]}
//   {"decode": [ids]}                                                           {"text": text}
//   {"stream": [ids], "follows_text": bool}                                     {"pieces": [text,
//   ...]}
//   {"chat": [{"role": ..., "content": ...}, ...]}                              {"ids": [...]}
// or with {"error": message}.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/tokenizer/chat_format.h"
#include "server/tokenizer/incremental_decoder.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {
namespace {

using nlohmann::json;

template <typename T>
json Answer(const char* key, const absl::StatusOr<T>& result) {
  if (!result.ok()) return {{"error", result.status().ToString()}};
  return {{key, *result}};
}

json Stream(const Tokenizer& tokenizer, const json& question) {
  IncrementalDecoder decoder(tokenizer, question.at("follows_text").get<bool>());
  json pieces = json::array();
  for (const int32_t id : question.at("stream")) pieces.push_back(decoder.Push(id));
  pieces.push_back(decoder.Flush());
  return {{"pieces", pieces}};
}

json Chat(const Tokenizer& tokenizer, const json& question) {
  std::vector<ChatMessage> messages;
  for (const json& message : question.at("chat")) {
    messages.push_back({message.at("role"), message.at("content")});
  }
  return Answer("ids", EncodeChat(tokenizer, messages));
}

json Reply(const Tokenizer& tokenizer, const json& question) {
  if (question.contains("chat")) return Chat(tokenizer, question);
  if (question.contains("stream")) return Stream(tokenizer, question);
  if (question.contains("decode")) {
    return Answer("text", tokenizer.Decode(question.at("decode").get<std::vector<int32_t>>()));
  }
  const EncodeOptions options = {question.at("add_special_tokens").get<bool>(),
                                 question.at("parse_special_tokens").get<bool>()};
  return Answer("ids", tokenizer.Encode(question.at("encode").get<std::string>(), options));
}

int Run(const char* folder) {
  const auto tokenizer = Tokenizer::Load(folder);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << Reply(**tokenizer, json::parse(line)).dump(-1, ' ', true) << "\n" << std::flush;
  }
  return 0;
}

}  // namespace
}  // namespace adamoe

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  return adamoe::Run(argv[1]);
}
