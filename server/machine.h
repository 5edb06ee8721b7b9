// What this process may use of the machine it runs on. Thread-safe.
#ifndef ADAMOE_SERVER_MACHINE_H_
#define ADAMOE_SERVER_MACHINE_H_

#include <cstdint>

#include "server/weights/model_config.h"

namespace adamoe {

// Cores that the process may run on, at least 1.
int NumCores();

// Bytes of memory that can be had without swapping, within the limit of the process's control
// group.
int64_t AvailableMemoryBytes();

// As many open files as the process may give itself: a connection is one, and the usual limit is
// 1024. Leaves the limit as it is where it cannot be changed.
void RaiseOpenFilesLimit();

// Tokens of a KV cache for a model of `config`, whose elements take `element_bytes`: eight full
// contexts, but no more than a quarter of `available_bytes` holds; one context, but no more than
// half of it, where that is more. At least 1.
int64_t DefaultKvCacheTokens(const ModelConfig& config, int64_t element_bytes,
                             int64_t available_bytes);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MACHINE_H_
