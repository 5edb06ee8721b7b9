// POST /v1/completions and /v1/chat/completions: one Generation for each choice, and what they give
// as OpenAI's JSON, whole or as server-sent events. Thread-safe.
#ifndef ADAMOE_SERVER_HTTP_COMPLETION_EXCHANGE_H_
#define ADAMOE_SERVER_HTTP_COMPLETION_EXCHANGE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/http/exchange.h"
#include "server/http/openai_request.h"
#include "server/serving/call_context.h"

namespace adamoe {

// `wake` is as Exchange says; it must not block. Until the end has been taken it is kept, and what
// `context` points at must outlive the exchange.
std::shared_ptr<Exchange> MakeCompletionExchange(const CallContext& context, OpenAiApi api,
                                                 CallOrigin origin, std::string body,
                                                 std::function<void()> wake);

// Counts and logs a request that is refused with `status` before its body was read; returns what
// its client is to be told: UNAUTHENTICATED where the client may not call at all.
absl::Status CountRefusal(const CallContext& context, OpenAiApi api, CallOrigin origin,
                          const absl::Status& status);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_COMPLETION_EXCHANGE_H_
