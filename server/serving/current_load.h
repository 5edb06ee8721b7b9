// What the server has to do at this moment, as every front end tells it. Thread-safe.
#ifndef ADAMOE_SERVER_SERVING_CURRENT_LOAD_H_
#define ADAMOE_SERVER_SERVING_CURRENT_LOAD_H_

#include <adamoe/v1/inference.pb.h>

#include "server/serving/call_context.h"

namespace adamoe {

v1::GetLoadResponse CurrentLoad(const CallContext& context);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_CURRENT_LOAD_H_
