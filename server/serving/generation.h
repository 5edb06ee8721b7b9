// One Generate from the request's bytes to its last message, for any front end: lets in who may
// call, checks the request, has its form worked out, submits it, turns its tokens into messages,
// counts and logs it once.
//
// A front end starts it, is woken when there is something to take, and says when its client has
// gone. Nothing here waits: what the front end has not taken yet collects, bounded by the request's
// max_tokens. Thread-safe.
#ifndef ADAMOE_SERVER_SERVING_GENERATION_H_
#define ADAMOE_SERVER_SERVING_GENERATION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/request/token_sink.h"
#include "server/serving/call_context.h"
#include "server/serving/call_record.h"
#include "server/serving/generation_output.h"

namespace adamoe {

namespace v1 {
class GenerateRequest;
class GenerateResponse;
}  // namespace v1

class Generation final : public TokenSink, public std::enable_shared_from_this<Generation> {
 public:
  // Fills in the request, or says what is wrong with it.
  using Reader = absl::FunctionRef<absl::Status(v1::GenerateRequest*)>;

  // `rpc` names the method in the log, and outlives this. `deadline`: infinite where the client set
  // none. `wake` is called, on any thread and with no lock of this held, when Take may have
  // something, for the last time when the end can be taken; it must not block, and is let go of
  // when the end has been taken.
  static std::shared_ptr<Generation> Make(const CallContext& context, const char* rpc,
                                          absl::Time deadline, CallOrigin origin,
                                          std::function<void()> wake);

  // Call once. `read` is called before this returns, unless the caller may not call at all.
  void Start(Reader read) ABSL_LOCKS_EXCLUDED(mu_);

  // The client has gone: there will be no more messages, only the end, as soon as the executor has
  // let go of the request.
  void Abandon() ABSL_LOCKS_EXCLUDED(mu_);

  struct Taken {
    bool has_message = false;         // *message was filled
    uint32_t num_prompt_tokens = 0;   // 0 until the request has been checked
    std::optional<absl::Status> end;  // set once: nothing comes after it, and it is counted
  };
  // What waits to be sent. *message is changed only where has_message.
  Taken Take(v1::GenerateResponse* message) ABSL_LOCKS_EXCLUDED(mu_);

  void OnPromptTokens(std::vector<TokenInfo> tokens) override ABSL_LOCKS_EXCLUDED(mu_);
  Next OnToken(TokenInfo token) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnFinish(const Outcome& outcome) override ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Generation(const CallContext& context, const char* rpc, absl::Time deadline, CallOrigin origin,
             std::function<void()> wake);

  absl::Status Submit(Reader read) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Read(Reader read, v1::GenerateRequest* proto) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Prepare(std::unique_ptr<Request> owned) ABSL_LOCKS_EXCLUDED(mu_);
  void OnPrepared(std::unique_ptr<Request> request,
                  absl::StatusOr<std::unique_ptr<TokenMatcher>> matcher) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status FinalStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Wake() ABSL_LOCKS_EXCLUDED(mu_);

  const CallContext context_;
  const absl::Time deadline_;

  absl::Mutex mu_;
  std::function<void()> wake_ ABSL_GUARDED_BY(mu_);  // empty once the end is taken
  CallRecord record_ ABSL_GUARDED_BY(mu_);
  std::optional<GenerationOutput> output_ ABSL_GUARDED_BY(mu_);  // set once the request is valid
  uint32_t num_prompt_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<RequestTicket> ticket_ ABSL_GUARDED_BY(mu_);
  std::optional<Outcome> outcome_ ABSL_GUARDED_BY(mu_);
  bool preparing_ ABSL_GUARDED_BY(mu_) = false;  // its form is being worked out
  bool abandoned_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_GENERATION_H_
