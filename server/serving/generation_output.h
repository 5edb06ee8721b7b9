// What a Generate stream sends: a request's tokens turned into messages.
//
// Decodes text, finds stop strings, holds back what may be the start of one, and keeps what the
// reader has not taken yet: a reader that keeps up gets a message per token, one that lags gets
// several tokens in one. Memory is bounded by the request's own max_tokens. Thread-compatible.
#ifndef ADAMOE_SERVER_SERVING_GENERATION_OUTPUT_H_
#define ADAMOE_SERVER_SERVING_GENERATION_OUTPUT_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/metrics/expert_flops.h"
#include "server/request/token_sink.h"
#include "server/serving/stop_matcher.h"
#include "server/tokenizer/incremental_decoder.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

namespace v1 {
class Finish;
class GenerateResponse;
class Token;
class Usage;
}  // namespace v1

// Fills *proto with `usage` and what it comes to in FLOPs.
void FillUsage(const Usage& usage, const ExpertFlopsRates& flops, v1::Usage* proto);

class GenerationOutput {
 public:
  struct Options {
    std::string request_id;
    std::vector<std::string> stops;
    std::vector<int32_t> stop_token_ids;  // their text is not part of the output
    uint32_t min_tokens = 0;              // stop strings do not count before
    ExpertFlopsRates flops;
  };

  // `tokenizer` must outlive this.
  GenerationOutput(Options options, const Tokenizer& tokenizer);
  ~GenerationOutput();

  void AddPrompt(const std::vector<TokenInfo>& tokens);

  // Returns true when a stop string has ended the text.
  bool AddToken(const TokenInfo& token);

  // No tokens come after it. Of an outcome that is not ok only the held-back text is kept.
  void Finish(const Outcome& outcome);

  // Something waits to be sent.
  bool has_message() const { return !prompt_.empty() || !pieces_.empty() || finish_ != nullptr; }

  // Moves what waits to *message, up to about kMaxMessageBytes: a reader's limit on a message is 4
  // MiB by default. REQUIRES: has_message().
  void TakeMessage(v1::GenerateResponse* message);

  uint32_t num_tokens() const { return num_tokens_; }

 private:
  static constexpr size_t kMaxMessageBytes = 1 << 20;

  // A token and the text that it made known; or, at the end, text alone.
  struct Piece;

  v1::Token ToProto(const TokenInfo& token) const;
  std::string TextOf(int32_t id) const;

  const Options options_;
  const Tokenizer& tokenizer_;
  IncrementalDecoder decoder_;
  StopMatcher matcher_;
  uint32_t num_tokens_ = 0;
  std::optional<std::string> stop_;  // the stop string that has ended the text

  std::deque<v1::Token> prompt_;
  std::deque<Piece> pieces_;
  std::unique_ptr<v1::Finish> finish_;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_GENERATION_OUTPUT_H_
