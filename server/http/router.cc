#include "server/http/router.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/http/api_error.h"
#include "server/http/completion_exchange.h"
#include "server/http/json_document.h"
#include "server/http/page/page.h"
#include "server/http/tokenizer_endpoints.h"
#include "server/http/unary_exchange.h"
#include "server/log/json_text.h"
#include "server/metrics/server_metrics.h"
#include "server/serving/current_load.h"

namespace adamoe {

// A path, and what it takes. A GET is answered at once, from its head alone.
struct Router::Route {
  const char* path;  // one that ends with '/' stands for all below it
  const char* method;
  std::optional<OpenAiApi> api;  // it makes a completion, which is counted
  Reply (Router::*get)(const RequestHead&) const;
  Reply (Router::*post)(const std::string&) const;
};

const Router::Route* Router::Find(const std::string& path) {
  static constexpr Route kRoutes[] = {
      {"/v1/completions", "POST", OpenAiApi::kCompletions, nullptr, nullptr},
      {"/v1/chat/completions", "POST", OpenAiApi::kChat, nullptr, nullptr},
      {"/v1/models", "GET", std::nullopt, &Router::Models, nullptr},
      {"/v1/models/", "GET", std::nullopt, &Router::Models, nullptr},
      {"/load", "GET", std::nullopt, &Router::Load, nullptr},
      {"/metrics", "GET", std::nullopt, &Router::Metrics, nullptr},
      {"/tokenizer_info", "GET", std::nullopt, &Router::TokenizerInfo, nullptr},
      {"/tokenize", "POST", std::nullopt, nullptr, &Router::Tokenize},
      {"/detokenize", "POST", std::nullopt, nullptr, &Router::Detokenize},
  };
  for (const Route& route : kRoutes) {
    const bool below = absl::EndsWith(route.path, "/") && absl::StartsWith(path, route.path);
    if (below || path == route.path) return &route;
  }
  return nullptr;
}

namespace {

// Open to everybody.
constexpr char kHealthPath[] = "/health";
constexpr char kPagePath[] = "/";

bool Takes(absl::string_view method, const RequestHead& head) {
  return head.method == method || (method == "GET" && head.method == "HEAD");
}

Reply NotAllowed(const RequestHead& head, absl::string_view method) {
  ApiError error = HttpError(
      405, absl::StrCat(head.path, " takes ", method, ", not ", head.method.substr(0, 32)));
  error.headers.push_back({"Allow", method == "GET" ? "GET, HEAD" : std::string(method)});
  return error.ToReply();
}

Reply PageReply() {
  Reply reply;
  reply.content_type = "text/html; charset=utf-8";
  reply.headers = {{"Content-Security-Policy", kPage.policy},
                   {"X-Content-Type-Options", "nosniff"},
                   {"Referrer-Policy", "no-referrer"},
                   {"Cache-Control", "no-cache"}};
  reply.body = kPage.html;
  return reply;
}

}  // namespace

std::optional<Reply> Router::AnswerHealthOnly(const RequestHead& head) const {
  if (head.path == kHealthPath) return Takes("GET", head) ? Health() : NotAllowed(head, "GET");
  return ToApiError(absl::UnavailableError("the server has as many connections as it may have"))
      .ToReply();
}

std::optional<Reply> Router::Answer(const RequestHead& head) const {
  if (head.path == kHealthPath) return AnswerHealthOnly(head);
  if (head.path == kPagePath) return Takes("GET", head) ? PageReply() : NotAllowed(head, "GET");
  const Route* route = Find(head.path);
  if (route == nullptr) {
    return HttpError(404, absl::StrCat("there is no ", head.path.substr(0, 256))).ToReply();
  }
  if (!Takes(route->method, head)) return NotAllowed(head, route->method);
  if (!accepting_) {
    return Refuse(head, absl::UnavailableError("the server is shutting down"));
  }
  const absl::Status status = Authenticate(head);
  if (!status.ok()) return Refuse(head, status);
  if (head.is_encoded) return RefuseBody(head, 415, "bodies are not taken compressed");
  if (route->get != nullptr) return (this->*route->get)(head);
  return std::nullopt;
}

std::shared_ptr<Exchange> Router::Open(const RequestHead& head, std::string body,
                                       std::function<void()> wake) const {
  const Route* route = Find(head.path);
  if (route->api.has_value()) {
    return MakeCompletionExchange(context_, *route->api, head.origin, std::move(body),
                                  std::move(wake));
  }
  return MakeUnaryExchange(
      [this, route, body = std::move(body)] { return (this->*route->post)(body); },
      std::move(wake));
}

Reply Router::Refuse(const RequestHead& head, const absl::Status& status) const {
  const Route* route = Find(head.path);
  if (route == nullptr || !route->api.has_value()) return ToApiError(status).ToReply();
  return ToApiError(CountRefusal(context_, *route->api, head.origin, status)).ToReply();
}

Reply Router::RefuseBody(const RequestHead& head, int status, const std::string& message) const {
  const Route* route = Find(head.path);
  if (route != nullptr && route->api.has_value()) {
    CountRefusal(context_, *route->api, head.origin, absl::InvalidArgumentError(message))
        .IgnoreError();
  }
  return HttpError(status, message).ToReply();
}

absl::Status Router::Authenticate(const RequestHead& head) const {
  return adamoe::Authenticate(context_.authenticator, head.origin.authorization).status();
}

Reply Router::Health() const {
  const bool healthy = is_healthy_();
  Reply reply;
  reply.status = healthy ? 200 : 503;
  reply.body = healthy ? "{\"status\":\"ok\"}" : "{\"status\":\"unavailable\"}";
  return reply;
}

Reply Router::Models(const RequestHead& head) const {
  const ServedModel& model = *context_.model;
  const Json object = {{"id", model.name},
                       {"object", "model"},
                       {"created", 0},
                       {"owned_by", "adamoe"},
                       {"max_model_len", model.max_context_tokens},
                       {"num_experts", model.num_experts},
                       {"num_null_experts", model.num_null_experts},
                       {"experts_per_token", model.experts_per_token},
                       {"num_layers", model.num_layers}};
  absl::string_view id = head.path;
  if (absl::ConsumePrefix(&id, "/v1/models/")) {
    if (id != model.name) {
      ApiError error =
          HttpError(404, absl::StrCat("the model '", id.substr(0, 256),
                                      "' does not exist; this server serves '", model.name, "'"));
      return error.ToReply();
    }
    return {.body = JsonText(object)};
  }
  return {.body = JsonText({{"object", "list"}, {"data", Json::array({object})}})};
}

Reply Router::Load(const RequestHead&) const {
  const v1::GetLoadResponse load = CurrentLoad(context_);
  return {.body = JsonText({{"waiting_requests", load.waiting_requests()},
                            {"running_requests", load.running_requests()},
                            {"kv_blocks_total", load.kv_blocks_total()},
                            {"kv_blocks_free", load.kv_blocks_free()},
                            {"tokens_per_second", load.tokens_per_second()},
                            {"experts_per_token", load.experts_per_token()}})};
}

Reply Router::Metrics(const RequestHead&) const {
  Reply reply;
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  reply.body = context_.metrics->Text();
  return reply;
}

Reply Router::TokenizerInfo(const RequestHead&) const { return AnswerTokenizerInfo(context_); }
Reply Router::Tokenize(const std::string& body) const { return AnswerTokenize(context_, body); }
Reply Router::Detokenize(const std::string& body) const { return AnswerDetokenize(context_, body); }

}  // namespace adamoe
