// What every call of the service works with. Nothing is owned; all of it outlives the gRPC server
// and is thread-safe.
#ifndef ADAMOE_SERVER_SERVING_CALL_CONTEXT_H_
#define ADAMOE_SERVER_SERVING_CALL_CONTEXT_H_

#include "server/log/log.h"
#include "server/metrics/server_metrics.h"
#include "server/queue/request_queue.h"
#include "server/security/authenticator.h"
#include "server/serving/served_model.h"
#include "server/structured/grammar_service.h"
#include "server/tokenizer/tokenizer.h"

namespace adamoe {

struct CallContext {
  const ServedModel* model = nullptr;
  const Tokenizer* tokenizer = nullptr;
  RequestQueue* queue = nullptr;
  ServerMetrics* metrics = nullptr;
  const Authenticator* authenticator = nullptr;  // null: no tokens are wanted
  const RequestLog* log = nullptr;               // null: requests are not logged
  GrammarService* grammars = nullptr;            // null: structured output is refused
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_CALL_CONTEXT_H_
