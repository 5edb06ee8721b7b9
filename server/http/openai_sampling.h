// How tokens are to be chosen, how many, and what is to be said of them. Errors go to `fields`.
// Pure functions.
#ifndef ADAMOE_SERVER_HTTP_OPENAI_SAMPLING_H_
#define ADAMOE_SERVER_HTTP_OPENAI_SAMPLING_H_

#include "server/http/field_reader.h"
#include "server/http/openai_request.h"

namespace adamoe {

// REQUIRES: request.api and request.echo are set.
void ReadSampling(FieldReader& fields, OpenAiRequest& request);
void ReadLogprobs(FieldReader& fields, OpenAiRequest& request);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_OPENAI_SAMPLING_H_
