#include "client/cli/commands.h"

#include <cstdint>
#include <iterator>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "client/cli/request_flags.h"
#include "client/cli/usage_line.h"
#include "client/rpc.h"

ABSL_FLAG(std::string, system, "", "chat: the system message. Default: none");
ABSL_FLAG(absl::optional<bool>, add_special_tokens, absl::nullopt,
          "tokenize: adds the tokens that the tokenizer puts around a text (BOS). Default: true");

namespace adamoe {

const char kCommandsHelp[] =
    R"(adamoe_client talks to an AdaMoE inference server.

  adamoe_client [flags] generate [PROMPT]               continues a text
  adamoe_client [flags] chat [MESSAGE]                  answers; without MESSAGE at a terminal: a conversation
  adamoe_client [flags] score CONTEXT CONTINUATION...   log-likelihoods of continuations
  adamoe_client [flags] tokenize [TEXT]
  adamoe_client [flags] detokenize [ID...]
  adamoe_client [flags] info                            what is served
  adamoe_client [flags] load                            how busy the server is

A text or ids in brackets that are missing are read from standard input, less its last newline.
An argument that begins with - goes after a lone --.)";

namespace {

using Arguments = std::vector<std::string>;

std::string ReadAll(std::istream& in) {
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (absl::EndsWith(text, "\n")) text.pop_back();
  return text;
}

// The command's one text: an argument or standard input.
absl::StatusOr<std::string> TextArgument(const Arguments& arguments, const Session& session) {
  if (arguments.size() > 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(arguments[0], " takes one text, not ", arguments.size() - 1, ": quote it"));
  }
  return arguments.size() == 2 ? arguments[1] : ReadAll(session.in);
}

// One call with one answer.
template <typename Request, typename Response>
absl::StatusOr<Response> Call(grpc::Status (v1::Inference::Stub::*method)(grpc::ClientContext*,
                                                                          const Request&,
                                                                          Response*),
                              const Request& request, const Session& session) {
  grpc::ClientContext context;
  SetTimeout(session.timeout, &context);
  Response response;
  if (grpc::Status status = (session.stub->*method)(&context, request, &response); !status.ok()) {
    return FromGrpc(status);
  }
  return response;
}

absl::Status RunGenerate(const Arguments& arguments, const Session& session) {
  absl::StatusOr<v1::GenerateRequest> request = GenerateRequestFromFlags();
  if (!request.ok()) return request.status();
  if (!request->has_prompt_tokens()) {
    absl::StatusOr<std::string> prompt = TextArgument(arguments, session);
    if (!prompt.ok()) return prompt.status();
    request->set_prompt(*std::move(prompt));
  } else if (arguments.size() > 1) {
    return absl::InvalidArgumentError("generate takes a text or --prompt_tokens, not both");
  }
  return Generate(session.stub, *request, session.timeout, session.output, session.out).status();
}

// Adds one turn to the conversation; a turn that failed is taken back.
absl::Status ChatTurn(std::string text, const Session& session, v1::GenerateRequest* request) {
  v1::Messages* conversation = request->mutable_messages();
  v1::Message* turn = conversation->add_messages();
  turn->set_role("user");
  turn->set_content(std::move(text));
  absl::StatusOr<std::string> reply =
      Generate(session.stub, *request, session.timeout, session.output, session.out);
  if (!reply.ok()) {
    conversation->mutable_messages()->RemoveLast();
    return reply.status();
  }
  v1::Message* answer = conversation->add_messages();
  answer->set_role("assistant");
  answer->set_content(*std::move(reply));
  return absl::OkStatus();
}

// Turn after turn until the end of input. A failed turn does not end the conversation, but is what
// is returned.
absl::Status Converse(const Session& session, v1::GenerateRequest* request) {
  absl::Status result;
  std::string line;
  while (session.out << "> " << std::flush && std::getline(session.in, line)) {
    if (line.empty()) continue;
    absl::Status status = ChatTurn(line, session, request);
    if (!status.ok()) session.out << StatusLine(status) << std::endl;
    result.Update(status);
  }
  session.out << std::endl;
  return result;
}

absl::Status RunChat(const Arguments& arguments, const Session& session) {
  absl::StatusOr<v1::GenerateRequest> request = GenerateRequestFromFlags();
  if (!request.ok()) return request.status();
  if (request->has_prompt_tokens())
    return absl::InvalidArgumentError("chat does not take --prompt_tokens");
  if (const std::string system = absl::GetFlag(FLAGS_system); !system.empty()) {
    v1::Message* message = request->mutable_messages()->add_messages();
    message->set_role("system");
    message->set_content(system);
  }
  if (arguments.size() == 1 && session.in_is_terminal) return Converse(session, &*request);
  absl::StatusOr<std::string> text = TextArgument(arguments, session);
  if (!text.ok()) return text.status();
  return ChatTurn(*std::move(text), session, &*request);
}

void PrintScores(const v1::ScoreResponse& response, const Arguments& arguments, std::ostream& out) {
  out << "  logprob  tokens  greedy  continuation\n";
  for (int i = 0; i < response.scores_size(); ++i) {
    const v1::ContinuationScore& score = response.scores(i);
    out << absl::StrFormat("%9.4f  %6u  %6s  %s\n", score.logprob(), score.num_tokens(),
                           score.is_greedy() ? "yes" : "no", arguments[i + 2]);
  }
}

absl::Status RunScore(const Arguments& arguments, const Session& session) {
  if (arguments.size() < 3) {
    return absl::InvalidArgumentError("score takes a context and at least one continuation");
  }
  v1::ScoreRequest request;
  request.set_request_id(absl::GetFlag(FLAGS_request_id));
  request.set_context(arguments[1]);
  for (size_t i = 2; i < arguments.size(); ++i) request.add_continuations()->set_text(arguments[i]);
  *request.mutable_compute() = ComputeFromFlags();
  auto response = Call(&v1::Inference::Stub::Score, request, session);
  if (!response.ok()) return response.status();
  if (session.output.json) {
    session.out << ToJson(*response) << std::endl;
    return absl::OkStatus();
  }
  auto info = Call(&v1::Inference::Stub::GetModelInfo, v1::GetModelInfoRequest(), session);
  if (!info.ok()) return info.status();
  PrintScores(*response, arguments, session.out);
  session.out << UsageLine(response->usage(), *info) << std::endl;
  return absl::OkStatus();
}

absl::Status RunTokenize(const Arguments& arguments, const Session& session) {
  absl::StatusOr<std::string> text = TextArgument(arguments, session);
  if (!text.ok()) return text.status();
  v1::TokenizeRequest request;
  request.set_text(*std::move(text));
  if (const auto value = absl::GetFlag(FLAGS_add_special_tokens))
    request.set_add_special_tokens(*value);
  auto response = Call(&v1::Inference::Stub::Tokenize, request, session);
  if (!response.ok()) return response.status();
  session.out << (session.output.json ? ToJson(*response) : absl::StrJoin(response->ids(), " "))
              << std::endl;
  return absl::OkStatus();
}

absl::Status RunDetokenize(const Arguments& arguments, const Session& session) {
  const std::string text = arguments.size() > 1
                               ? absl::StrJoin(arguments.begin() + 1, arguments.end(), " ")
                               : ReadAll(session.in);
  auto ids =
      ParseIds(absl::StrSplit(text, absl::ByAnyChar(" ,\n\t"), absl::SkipEmpty()), "detokenize");
  if (!ids.ok()) return ids.status();
  v1::DetokenizeRequest request;
  request.mutable_ids()->Assign(ids->begin(), ids->end());
  auto response = Call(&v1::Inference::Stub::Detokenize, request, session);
  if (!response.ok()) return response.status();
  session.out << (session.output.json          ? ToJson(*response)
                  : session.output.is_terminal ? PrintableText(response->text())
                                               : response->text())
              << std::endl;
  return absl::OkStatus();
}

// "name  value", one field a line; a message whose fields are all numbers and strings.
void PrintFields(const google::protobuf::Message& message, std::ostream& out) {
  const google::protobuf::Descriptor& type = *message.GetDescriptor();
  const google::protobuf::Reflection& fields = *message.GetReflection();
  using google::protobuf::FieldDescriptor;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    std::string value;
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        value = fields.GetString(message, field);
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
        value = absl::StrCat(fields.GetUInt32(message, field));
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        value = absl::StrFormat("%.2f", fields.GetDouble(message, field));
        break;
      default:
        value = fields.HasField(message, field) ? "set" : "unset";
        break;
    }
    out << absl::StrFormat("%-18s  %s\n", field->name(), value);
  }
}

template <typename Request, typename Response>
absl::Status RunQuestion(grpc::Status (v1::Inference::Stub::*method)(grpc::ClientContext*,
                                                                     const Request&, Response*),
                         const Arguments& arguments, const Session& session) {
  if (arguments.size() > 1)
    return absl::InvalidArgumentError(absl::StrCat(arguments[0], " takes no arguments"));
  absl::StatusOr<Response> response = Call(method, Request(), session);
  if (!response.ok()) return response.status();
  if (session.output.json) {
    session.out << ToJson(*response) << std::endl;
  } else {
    PrintFields(*response, session.out);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunCommand(const std::vector<std::string>& arguments, const Session& session) {
  if (arguments.empty()) {
    return absl::InvalidArgumentError(
        "no command: generate, chat, score, tokenize, detokenize, info or load (--help explains)");
  }
  const std::string& command = arguments[0];
  if (command == "generate") return RunGenerate(arguments, session);
  if (command == "chat") return RunChat(arguments, session);
  if (command == "score") return RunScore(arguments, session);
  if (command == "tokenize") return RunTokenize(arguments, session);
  if (command == "detokenize") return RunDetokenize(arguments, session);
  if (command == "info") return RunQuestion(&v1::Inference::Stub::GetModelInfo, arguments, session);
  if (command == "load") return RunQuestion(&v1::Inference::Stub::GetLoad, arguments, session);
  return absl::InvalidArgumentError(
      absl::StrCat("unknown command '", command,
                   "': generate, chat, score, tokenize, detokenize, info or load"));
}

}  // namespace adamoe
