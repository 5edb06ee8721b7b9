// What a request cost, for people.
#ifndef ADAMOE_CLIENT_CLI_USAGE_LINE_H_
#define ADAMOE_CLIENT_CLI_USAGE_LINE_H_

#include <string>

#include "adamoe/v1/inference.pb.h"

namespace adamoe {

// One line without its newline: tokens, tokens per second, mean true experts per position and
// layer, and the share of expert FLOPs saved against the baseline (1 - executed / baseline). What
// cannot be said (no position was run, one token has no rate) is left out.
std::string UsageLine(const v1::Usage& usage, const v1::GetModelInfoResponse& info);

}  // namespace adamoe

#endif  // ADAMOE_CLIENT_CLI_USAGE_LINE_H_
