// Where a call comes from and what it carries beside the request, whatever it came over.
#ifndef ADAMOE_SERVER_SERVING_CALL_ORIGIN_H_
#define ADAMOE_SERVER_SERVING_CALL_ORIGIN_H_

#include <optional>
#include <string>
#include <vector>

#include "server/log/traceparent.h"

namespace adamoe {

struct CallOrigin {
  std::string peer;                        // the client's address
  std::vector<std::string> authorization;  // every value of the header of that name
  std::optional<TraceContext> trace;
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SERVING_CALL_ORIGIN_H_
