#include "server/serving/current_load.h"

namespace adamoe {

v1::GetLoadResponse CurrentLoad(const CallContext& context) {
  v1::GetLoadResponse response;
  const LoadReport load = context.metrics->load();
  // The queue knows of requests that came after the executor's last report.
  response.set_waiting_requests(static_cast<uint32_t>(context.queue->num_waiting()));
  response.set_running_requests(load.num_running);
  response.set_kv_blocks_total(load.num_blocks);
  response.set_kv_blocks_free(load.num_free_blocks);
  const LoadWindow::Means recent = context.metrics->recent();
  response.set_tokens_per_second(recent.tokens_per_second);
  response.set_experts_per_token(recent.experts_per_token);
  return response;
}

}  // namespace adamoe
