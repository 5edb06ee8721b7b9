// Which request gets which answer. Paths and methods are here and nowhere else. Thread-safe.
#ifndef ADAMOE_SERVER_HTTP_ROUTER_H_
#define ADAMOE_SERVER_HTTP_ROUTER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "server/http/exchange.h"
#include "server/serving/call_context.h"

namespace adamoe {

class Router {
 public:
  // `is_healthy` says whether the server does its work. What `context` points at must outlive this.
  Router(const CallContext& context, std::function<bool()> is_healthy)
      : context_(context), is_healthy_(std::move(is_healthy)) {}

  // The answer where none needs the body; nothing where Open is to make it. Returns soon.
  std::optional<Reply> Answer(const RequestHead& head) const;

  // REQUIRES: Answer has none for `head`. `wake` as Exchange has it.
  std::shared_ptr<Exchange> Open(const RequestHead& head, std::string body,
                                 std::function<void()> wake) const;

  // Counts a request whose body is refused with `status`, 413 or the like, where its path has
  // requests counted.
  Reply RefuseBody(const RequestHead& head, int status, const std::string& message) const;

  // From now on everything but health is refused with 503.
  void StopAccepting() { accepting_ = false; }

  // The answer of a server that has as many connections as it may have: health alone.
  std::optional<Reply> AnswerHealthOnly(const RequestHead& head) const;

 private:
  struct Route;
  static const Route* Find(const std::string& path);

  Reply Health() const;
  Reply Models(const RequestHead& head) const;
  Reply Load(const RequestHead& head) const;
  Reply Metrics(const RequestHead& head) const;
  Reply TokenizerInfo(const RequestHead& head) const;
  Reply Tokenize(const std::string& body) const;
  Reply Detokenize(const std::string& body) const;
  absl::Status Authenticate(const RequestHead& head) const;
  Reply Refuse(const RequestHead& head, const absl::Status& status) const;

  const CallContext context_;
  const std::function<bool()> is_healthy_;
  std::atomic<bool> accepting_{true};
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_ROUTER_H_
