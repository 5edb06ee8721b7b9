// Where the elements of a tile lie: in the registers of a warp's matrix instructions, and in shared
// memory as ldmatrix and wgmma read it. Pure functions, the same on the host and on the device.
//
// mma.m16n8k16 (and wgmma, whose accumulators repeat it for every 8 columns): lane l has
//   a[i]  A's row l / 4 + 8 (i % 2), columns 2 (l % 4) + 8 (i / 2) and the next
//   b[i]  B's column l / 4, rows 2 (l % 4) + 8 i and the next
//   c[i]  C's row l / 4 + 8 (i / 2), column 2 (l % 4) + i % 2
// with pairs of bfloat16 in a register, the lower index in the lower half.
//
// A product does not mind in which order its inner index runs, as long as A and B agree: decode
// (experts_decode.cu) lets a lane's 8 neighbouring elements, 16 bytes, be the registers of two
// instructions, so that it loads straight from global memory.
#ifndef ADAMOE_SERVER_KERNELS_CUDA_MMA_LAYOUT_H_
#define ADAMOE_SERVER_KERNELS_CUDA_MMA_LAYOUT_H_

#include <cstdint>

#include "server/kernels/cuda/host_device.h"

namespace adamoe::cuda {

ADAMOE_HD constexpr int32_t FragmentRow(int32_t lane) { return lane / 4; }
ADAMOE_HD constexpr int32_t FragmentCol(int32_t lane) { return 2 * (lane % 4); }

// Tiles of 64 columns of bfloat16: rows of 128 bytes, whose eight pieces of 16 bytes are exchanged
// by the row's place in its group of 8 (what CUDA calls the 128-byte swizzle), so that neither
// ldmatrix nor cp.async meets a bank twice. The tile starts at a multiple of 1024 bytes.
constexpr int32_t kTileCols = 64;
constexpr int32_t kTileRowBytes = 128;

// Byte offset of a piece of 8 columns.
ADAMOE_HD constexpr int32_t SwizzledOffset(int32_t row, int32_t piece) {
  return row * kTileRowBytes + ((piece ^ (row & 7)) << 4);
}

// The descriptor by which wgmma reads such a tile, from a row that is a multiple of 8 and a column
// that is a multiple of 16. shared_address: of that row's group, plus twice the column. Fields: the
// address over 16 (bits 0-13), the bytes between groups of 8 rows over 16 (32-45), the 128-byte
// swizzle (62-63 = 1); the offset of bits 16-29 is not used in this layout and is 1 by convention.
ADAMOE_HD constexpr uint64_t TileDescriptor(uint32_t shared_address) {
  constexpr uint64_t kGroupBytes = 8 * kTileRowBytes;
  return (static_cast<uint64_t>(shared_address & 0x3ffffu) >> 4) | (uint64_t{1} << 16) |
         ((kGroupBytes >> 4) << 32) | (uint64_t{1} << 62);
}

}  // namespace adamoe::cuda

#endif  // ADAMOE_SERVER_KERNELS_CUDA_MMA_LAYOUT_H_
