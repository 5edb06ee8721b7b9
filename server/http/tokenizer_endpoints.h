// The served tokenizer over HTTP: POST /tokenize, POST /detokenize, GET /tokenizer_info.
// Thread-safe.
#ifndef ADAMOE_SERVER_HTTP_TOKENIZER_ENDPOINTS_H_
#define ADAMOE_SERVER_HTTP_TOKENIZER_ENDPOINTS_H_

#include <string>

#include "server/http/exchange.h"
#include "server/serving/call_context.h"

namespace adamoe {

// {"prompt", "add_special_tokens": true} or {"messages"} -> {"count", "max_model_len", "tokens"}.
Reply AnswerTokenize(const CallContext& context, const std::string& body);

// {"tokens"} -> {"prompt"}.
Reply AnswerDetokenize(const CallContext& context, const std::string& body);

// Names of the special tokens that begin and end a text, where the tokenizer has such.
Reply AnswerTokenizerInfo(const CallContext& context);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_TOKENIZER_ENDPOINTS_H_
