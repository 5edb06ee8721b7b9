// An answer that is worked out at once: on the thread that starts it.
#ifndef ADAMOE_SERVER_HTTP_UNARY_EXCHANGE_H_
#define ADAMOE_SERVER_HTTP_UNARY_EXCHANGE_H_

#include <functional>
#include <memory>

#include "server/http/exchange.h"

namespace adamoe {

std::shared_ptr<Exchange> MakeUnaryExchange(std::function<Reply()> work,
                                            std::function<void()> wake);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_HTTP_UNARY_EXCHANGE_H_
