// What a model tells of itself, worked out from its configuration: the same on every device. Pure.
#ifndef ADAMOE_SERVER_MODEL_DIMENSIONS_H_
#define ADAMOE_SERVER_MODEL_DIMENSIONS_H_

#include <cstdint>

#include "server/model/model.h"
#include "server/weights/model_config.h"

namespace adamoe {

ModelDimensions DimensionsOf(const ModelConfig& config, int32_t num_kv_blocks,
                             int32_t kv_block_size);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MODEL_DIMENSIONS_H_
