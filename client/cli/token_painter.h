// Marks each piece of a text stream with the experts of the token it came from. Thread-compatible.
#ifndef ADAMOE_CLIENT_CLI_TOKEN_PAINTER_H_
#define ADAMOE_CLIENT_CLI_TOKEN_PAINTER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "adamoe/v1/inference.pb.h"

namespace adamoe {

class TokenPainter {
 public:
  // Writes `text`, which came from a token that ran `experts` true experts per layer in the mean.
  using Mark = std::function<std::string(absl::string_view text, double experts)>;

  // REQUIRES: num_layers >= 1.
  TokenPainter(uint32_t num_layers, Mark mark) : num_layers_(num_layers), mark_(std::move(mark)) {}

  // The message's text, marked. All of it is written, in its order, also where it cannot be told
  // which token a piece came from: that piece goes with the token before it.
  std::string Paint(const v1::GenerateResponse& message);

 private:
  // A token whose text has not come out yet: the server may hold it back.
  struct Pending {
    std::string text;
    double experts;
  };

  // How much of `text`, which is not empty, goes with one token; sets experts_ to that token's.
  size_t NextPiece(absl::string_view text);
  // Several tokens make up one character of `count` bytes: it goes with the last of them.
  void TakeBytes(size_t count);
  // Drops the tokens before the one that `text` begins with, if there is one: their text never
  // came.
  void SkipTokensBefore(absl::string_view text);

  const uint32_t num_layers_;
  const Mark mark_;
  std::deque<Pending> pending_;
  double experts_ = 0;  // of the last token written
};

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_CLI_TOKEN_PAINTER_H_
