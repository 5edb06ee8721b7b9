// Which part of which expert a block works on, from the routing the device made. Pure functions,
// the same on the host and on the device.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_EXPERT_TILES_H_
#define ADAMOE_SERVER_KERNELS_CUDA_EXPERT_TILES_H_

#include <cstdint>

#include "server/kernels/cuda/host_device.h"

namespace adamoe::cuda {

// --- decode: a tile is 16 outputs of one expert, for all of the expert's rows ---

constexpr int32_t kDecodeTileOutputs = 16;

ADAMOE_HD constexpr int32_t DecodeTilesPerExpert(int32_t num_outputs) {
  return (num_outputs + kDecodeTileOutputs - 1) / kDecodeTileOutputs;
}

// --- prefill: a tile is up to 128 rows of one expert by kPrefillTileOutputs outputs ---

constexpr int32_t kPrefillTileRows = 128;

struct PrefillTile {
  int32_t expert = -1;    // -1: there is no such tile
  int32_t first_row = 0;  // of the routing
  int32_t end_row = 0;    // at most first_row + kPrefillTileRows, at most the expert's end
  int32_t first_output = 0;
};

// The `tile`-th tile in an order in which neighbours share the weights: by expert, then by outputs,
// then by rows. expert_begin: [num_experts + 1].
ADAMOE_HD constexpr PrefillTile FindPrefillTile(const int32_t* expert_begin, int32_t num_experts,
                                                int32_t num_outputs, int32_t tile_outputs,
                                                int64_t tile) {
  const int32_t output_tiles = (num_outputs + tile_outputs - 1) / tile_outputs;
  for (int32_t e = 0; e < num_experts; ++e) {
    const int32_t begin = expert_begin[e];
    const int32_t end = expert_begin[e + 1];
    const int32_t row_tiles = (end - begin + kPrefillTileRows - 1) / kPrefillTileRows;
    const int64_t tiles = static_cast<int64_t>(row_tiles) * output_tiles;
    if (tile < tiles) {
      const int32_t first_row = begin + static_cast<int32_t>(tile % row_tiles) * kPrefillTileRows;
      const int32_t end_row =
          first_row + kPrefillTileRows < end ? first_row + kPrefillTileRows : end;
      return {e, first_row, end_row, static_cast<int32_t>(tile / row_tiles) * tile_outputs};
    }
    tile -= tiles;
  }
  return {};
}

// No routing of so many rows has more tiles.
ADAMOE_HD constexpr int64_t MaxPrefillTiles(int64_t max_rows, int32_t num_experts,
                                            int32_t num_outputs, int32_t tile_outputs) {
  const int64_t full = max_rows / kPrefillTileRows;
  const int64_t ragged = max_rows < num_experts ? max_rows : num_experts;
  return (full + ragged) * ((num_outputs + tile_outputs - 1) / tile_outputs);
}

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_EXPERT_TILES_H_
