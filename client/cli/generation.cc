#include "client/cli/generation.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/expert_scale.h"
#include "client/cli/token_painter.h"
#include "client/cli/usage_line.h"
#include "client/rpc.h"

namespace adamoe {
namespace {

// Writes the messages of one stream.
class StreamWriter {
 public:
  StreamWriter(const v1::GetModelInfoResponse& info, const OutputOptions& options,
               std::ostream& out)
      : info_(info),
        options_(options),
        out_(out),
        scale_(info.experts_per_token()),
        painter_(std::max<uint32_t>(info.num_layers(), 1),
                 [this](absl::string_view text, double experts) { return Mark(text, experts); }) {}

  void Begin() {
    if (!options_.show_experts || options_.json) return;
    out_ << (options_.color ? scale_.Legend()
                            : absl::StrFormat("experts per token and layer, in brackets: 0 to %u",
                                              info_.experts_per_token()))
         << std::endl;
  }

  void Write(const v1::GenerateResponse& message) {
    if (options_.json) {
      out_ << ToJson(message) << std::endl;
      return;
    }
    for (const v1::Token& token : message.prompt_tokens_info()) prompt_.push_back(token);
    for (const v1::Token& token : message.tokens()) {
      if (token.has_logprob()) tokens_.push_back(token);
    }
    out_ << (options_.show_experts ? painter_.Paint(message) : Printable(message.text()))
         << std::flush;
    if (!message.text().empty()) at_line_start_ = message.text().back() == '\n';
    if (message.has_finish()) usage_ = message.finish().usage();
  }

  // After the last message; `ok`: the stream ended well.
  void End(bool ok) {
    if (options_.json) return;
    if (!at_line_start_) out_ << '\n';
    if (!prompt_.empty()) WriteLogprobs("prompt", prompt_);
    if (!tokens_.empty()) WriteLogprobs("output", tokens_);
    if (ok) out_ << UsageLine(usage_, info_) << '\n';
    out_ << std::flush;
  }

 private:
  std::string Printable(absl::string_view text) const {
    return options_.is_terminal ? PrintableText(text) : std::string(text);
  }

  std::string Mark(absl::string_view text, double experts) const {
    const std::string printable = Printable(text);
    return options_.color ? scale_.Paint(printable, experts)
                          : absl::StrCat(printable, absl::StrFormat("[%.2f]", experts));
  }

  void WriteLogprobs(absl::string_view what, const std::vector<v1::Token>& tokens) {
    out_ << absl::StrFormat("log-probabilities of the %s:\n", what);
    for (const v1::Token& token : tokens) {
      out_ << (token.has_logprob() ? absl::StrFormat("%9.4f", token.logprob())
                                   : std::string(9, '-'))
           << absl::StrFormat("  \"%s\"", absl::Utf8SafeCEscape(token.text()));
      for (const v1::TokenLogprob& other : token.top_logprobs()) {
        out_ << absl::StrFormat("  [\"%s\" %.4f]", absl::Utf8SafeCEscape(other.text()),
                                other.logprob());
      }
      out_ << '\n';
    }
  }

  const v1::GetModelInfoResponse& info_;
  const OutputOptions& options_;
  std::ostream& out_;
  const ExpertScale scale_;
  TokenPainter painter_;
  std::vector<v1::Token> prompt_;
  std::vector<v1::Token> tokens_;
  v1::Usage usage_;
  bool at_line_start_ = true;
};

}  // namespace

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  // Fails only for messages with extensions of unknown types; ours have none.
  if (!google::protobuf::util::MessageToJsonString(message, &json, options).ok()) json = "{}";
  return json;
}

std::string PrintableText(absl::string_view text) {
  std::string printable;
  for (char c : text) {
    const bool control =
        (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
    absl::StrAppend(&printable,
                    control ? absl::string_view("\xEF\xBF\xBD") : absl::string_view(&c, 1));
  }
  return printable;
}

absl::StatusOr<std::string> Generate(v1::Inference::Stub* stub, const v1::GenerateRequest& request,
                                     absl::Duration timeout, const OutputOptions& options,
                                     std::ostream& out) {
  v1::GetModelInfoResponse info;
  if (!options.json) {
    grpc::ClientContext context;
    SetTimeout(timeout, &context);
    if (grpc::Status status = stub->GetModelInfo(&context, {}, &info); !status.ok())
      return FromGrpc(status);
  }
  grpc::ClientContext context;
  SetTimeout(timeout, &context);
  StreamWriter writer(info, options, out);
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader =
      stub->Generate(&context, request);
  writer.Begin();
  std::string text;
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
    writer.Write(message);
    absl::StrAppend(&text, message.text());
  }
  const grpc::Status status = reader->Finish();
  writer.End(status.ok());
  if (!status.ok()) return FromGrpc(status);
  return text;
}

}  // namespace adamoe
