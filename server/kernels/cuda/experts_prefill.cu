// The experts for many rows: bound by multiplying.
//
// A block of two warpgroups makes tiles of 128 rows by 256 columns of weights. With w1 and w3 those
// are 128 outputs twice, so that the thread that has silu's argument has its factor as well; with
// w2 they are 256 outputs. Inputs run in steps of 64, four steps in shared memory: while one is
// multiplied and one is finishing, two are on their way (cp.async; rows past the expert's end,
// outputs past the matrix and inputs past the row are filled with zeros, not read). The rows of x
// are fetched by token as they are needed, so nothing is gathered beforehand.
//
// The grid is persistent and finds its tiles from the routing on the device.
#include "server/kernels/cuda/device.h"
#include "server/kernels/cuda/expert_counts.h"
#include "server/kernels/cuda/expert_tiles.h"
#include "server/kernels/cuda/experts.h"
#include "server/kernels/cuda/mma_layout.h"

namespace adamoe::cuda {
namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kWarpgroupThreads = 128;
constexpr int32_t kWarpgroupRows = 64;
constexpr int32_t kHalfCols = 128;  // weight rows of one product; a tile has two
constexpr int32_t kStages = 4;
constexpr int32_t kABytes = kPrefillTileRows * kTileRowBytes;
constexpr int32_t kHalfBytes = kHalfCols * kTileRowBytes;
constexpr int32_t kStageBytes = kABytes + 2 * kHalfBytes;
constexpr int32_t kSharedBytes = kStages * kStageBytes;

ADAMOE_HD constexpr int32_t TileOutputs(bool gated) { return gated ? kHalfCols : 2 * kHalfCols; }

// A thread copies the same piece of 8 inputs of every 32nd row.
constexpr int32_t kRowStride = kThreads / 8;
constexpr int32_t kARows = kPrefillTileRows / kRowStride;
constexpr int32_t kHalfRows = kHalfCols / kRowStride;

// What a thread copies for one tile.
struct Sources {
  const Bf16* a[kARows];  // null: zeros
  const Bf16* b[2];       // its first weight row of each half
  int32_t num_b[2];       // how many of its rows of each half exist
  int64_t b_step;         // elements from one of its weight rows to the next
  int32_t shared_offset;  // of its first row
};

template <bool kGated>
__device__ Sources FindSources(const ExpertsArgs& args, const DeviceRouting& routing,
                               const PrefillTile& tile) {
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t row = thread / 8;
  const int32_t piece = thread % 8;
  const int32_t num_inputs = kGated ? args.hidden : args.intermediate;
  const int32_t num_outputs = kGated ? args.intermediate : args.hidden;
  const int64_t matrix_size = static_cast<int64_t>(num_inputs) * num_outputs;

  Sources sources;
  sources.shared_offset = SwizzledOffset(row, piece);
  sources.b_step = static_cast<int64_t>(kRowStride) * num_inputs;
#pragma unroll
  for (int32_t i = 0; i < kARows; ++i) {
    const int32_t r = tile.first_row + row + i * kRowStride;
    sources.a[i] = nullptr;
    if (r >= tile.end_row) continue;
    const int64_t from = kGated ? routing.row_token[r] : r;
    sources.a[i] = (kGated ? args.x : args.inner) + from * num_inputs;
  }
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    const Bf16* matrix = kGated ? (half == 0 ? args.w1 : args.w3) : args.w2;
    const int32_t output = tile.first_output + row + (kGated ? 0 : half * kHalfCols);
    const int32_t left = num_outputs - output;
    sources.num_b[half] =
        left > 0 ? static_cast<int32_t>(Min(CeilDiv(left, kRowStride), kHalfRows)) : 0;
    sources.b[half] =
        matrix + tile.expert * matrix_size + static_cast<int64_t>(output) * num_inputs;
  }
  return sources;
}

// Starts the copies of the step at `input`, one group; of a step past the end, an empty group.
__device__ void CopyStep(const Sources& sources, int32_t step, int32_t num_steps,
                         int32_t num_inputs, unsigned char* shared) {
  if (step < num_steps) {
    const int32_t input = step * kTileCols + static_cast<int32_t>(threadIdx.x) % 8 * 8;
    const bool exists = input < num_inputs;
    unsigned char* stage = shared + step % kStages * kStageBytes + sources.shared_offset;
#pragma unroll
    for (int32_t i = 0; i < kARows; ++i) {
      const bool wanted = exists && sources.a[i] != nullptr;
      CopyAsync16(stage + i * kRowStride * kTileRowBytes,
                  wanted ? sources.a[i] + input : sources.b[0], wanted);
    }
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      unsigned char* to = stage + kABytes + half * kHalfBytes;
#pragma unroll
      for (int32_t i = 0; i < kHalfRows; ++i) {
        const bool wanted = exists && i < sources.num_b[half];
        CopyAsync16(to + i * kRowStride * kTileRowBytes,
                    wanted ? sources.b[half] + i * sources.b_step + input : sources.b[0], wanted);
      }
    }
  }
  CopyAsyncCommit();
}

// Multiplies one step by wgmma, without waiting for it. sum: [half][64 accumulators].
__device__ void MultiplyWgmma(const unsigned char* stage, float (&sum)[2][64]) {
  const uint32_t a =
      SharedAddress(stage) + threadIdx.x / kWarpgroupThreads * kWarpgroupRows * kTileRowBytes;
  const uint32_t b = SharedAddress(stage) + kABytes;
  WarpgroupArrive();
#pragma unroll
  for (int32_t k = 0; k < kTileCols; k += 16) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      Wgmma64x128x16(sum[half], TileDescriptor(a + 2 * k),
                     TileDescriptor(b + half * kHalfBytes + 2 * k));
    }
  }
  WarpgroupCommit();
}

// The same by mma.sync: a warp takes the rows that wgmma gives it.
__device__ void MultiplyMma(const unsigned char* stage, float (&sum)[2][64]) {
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpSize;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int32_t k = 0; k < kTileCols; k += 16) {
    // Matrices 0 to 3 of A: rows 0-7, rows 8-15, and both again 8 inputs on.
    const int32_t a_row = 16 * warp + lane % 16;
    uint32_t a[4];
    LoadMatrices(stage + SwizzledOffset(a_row, k / 8 + lane / 16), a);
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      const unsigned char* b_tile = stage + kABytes + half * kHalfBytes;
#pragma unroll
      for (int32_t col = 0; col < kHalfCols; col += 16) {
        // Of B: columns 0-7, the same 8 inputs on, columns 8-15, the same 8 inputs on.
        const int32_t b_row = col + lane % 8 + lane / 16 * 8;
        uint32_t b[4];
        LoadMatrices(b_tile + SwizzledOffset(b_row, k / 8 + lane / 8 % 2), b);
#pragma unroll
        for (int32_t tile = 0; tile < 2; ++tile) {
          const int32_t at = (col / 8 + tile) * 4;
          float c[4] = {sum[half][at], sum[half][at + 1], sum[half][at + 2], sum[half][at + 3]};
          Mma16x8x16(c, a, b[2 * tile], b[2 * tile + 1]);
          for (int32_t i = 0; i < 4; ++i) sum[half][at + i] = c[i];
        }
      }
    }
  }
}

template <bool kGated>
__device__ void StoreTile(const ExpertsArgs& args, const PrefillTile& tile,
                          const float (&sum)[2][64]) {
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t lane = thread % kWarpSize;
  const int32_t num_outputs = kGated ? args.intermediate : args.hidden;
#pragma unroll
  for (int32_t i = 0; i < 64; i += 2) {
    const int32_t row =
        tile.first_row + thread / kWarpSize * 16 + FragmentRow(lane) + 8 * (i % 4 / 2);
    if (row >= tile.end_row) continue;
    const int32_t output = tile.first_output + 8 * (i / 4) + FragmentCol(lane);
    const int64_t at = static_cast<int64_t>(row) * num_outputs + output;
    // num_outputs is even: a pair exists or does not.
    if constexpr (kGated) {
      if (output < num_outputs) {
        *reinterpret_cast<uint32_t*>(args.inner + at) =
            ToBf16Pair(Silu(sum[0][i]) * sum[1][i], Silu(sum[0][i + 1]) * sum[1][i + 1]);
      }
    } else {
#pragma unroll
      for (int32_t half = 0; half < 2; ++half) {
        if (output + half * kHalfCols < num_outputs) {
          *reinterpret_cast<float2*>(args.rows_out + at + half * kHalfCols) =
              make_float2(sum[half][i], sum[half][i + 1]);
        }
      }
    }
  }
}

// How a step's shared memory changes hands: at the barrier of step s every thread's copies of step
// s have landed, and every warpgroup has finished multiplying step s - 2. So step s may be
// multiplied, and step s + 2 copied over step s - 2.
template <bool kGated, bool kWgmma>
__device__ void MultiplyTile(const Sources& sources, int32_t num_inputs, unsigned char* shared,
                             float (&sum)[2][64]) {
  const int32_t num_steps = CeilDiv(num_inputs, kTileCols);
  if constexpr (kWgmma) {
    FenceAccumulators(sum[0]);
    FenceAccumulators(sum[1]);
  }
  CopyStep(sources, 0, num_steps, num_inputs, shared);
  CopyStep(sources, 1, num_steps, num_inputs, shared);
  for (int32_t step = 0; step < num_steps; ++step) {
    const unsigned char* stage = shared + step % kStages * kStageBytes;
    CopyAsyncWait<1>();
    if constexpr (kWgmma) FenceSharedForProducts();
    __syncthreads();
    if constexpr (kWgmma) {
      MultiplyWgmma(stage, sum);
      CopyStep(sources, step + 2, num_steps, num_inputs, shared);
      WarpgroupWait<1>();
    } else {
      CopyStep(sources, step + 2, num_steps, num_inputs, shared);
      MultiplyMma(stage, sum);
    }
  }
  if constexpr (kWgmma) {
    WarpgroupWait<0>();
    FenceAccumulators(sum[0]);
    FenceAccumulators(sum[1]);
  }
  CopyAsyncWait<0>();
}

template <bool kGated, bool kWgmma>
__global__ void __launch_bounds__(kThreads, 1)
    ExpertsPrefillKernel(ExpertsArgs args, DeviceRouting routing) {
  ADAMOE_DYNAMIC_SHARED(shared);
  const int32_t num_inputs = kGated ? args.hidden : args.intermediate;
  const int32_t num_outputs = kGated ? args.intermediate : args.hidden;
  for (int64_t index = blockIdx.x;; index += gridDim.x) {
    const PrefillTile tile = FindPrefillTile(routing.expert_begin, routing.num_experts, num_outputs,
                                             TileOutputs(kGated), index);
    if (tile.expert < 0) return;
    const Sources sources = FindSources<kGated>(args, routing, tile);
    float sum[2][64] = {};
    MultiplyTile<kGated, kWgmma>(sources, num_inputs, shared, sum);
    StoreTile<kGated>(args, tile, sum);
    if (!kGated && tile.first_output == 0) {
      CountRows(args, routing, tile.expert, tile.first_row, tile.end_row);
    }
    __syncthreads();  // before the next tile's copies overwrite what others still multiply
  }
}

template <bool kGated, bool kWgmma>
cudaError_t LaunchProduct(const ExpertsArgs& args, const DeviceRouting& routing,
                          cudaStream_t stream) {
  const int64_t max_rows = int64_t{routing.num_tokens} * routing.max_picks;
  const int64_t tiles = MaxPrefillTiles(
      max_rows, routing.num_experts, kGated ? args.intermediate : args.hidden, TileOutputs(kGated));
  const LaunchShape shape = {dim3(static_cast<unsigned>(Min(NumMultiprocessors(), tiles))),
                             kThreads, kSharedBytes};
  return Launch(ExpertsPrefillKernel<kGated, kWgmma>, shape, stream, args, routing);
}

template <bool kWgmma>
cudaError_t LaunchBoth(const ExpertsArgs& args, const DeviceRouting& routing, cudaStream_t stream) {
  const cudaError_t error = LaunchProduct<true, kWgmma>(args, routing, stream);
  if (error != cudaSuccess) return error;
  return LaunchProduct<false, kWgmma>(args, routing, stream);
}

}  // namespace

cudaError_t ExpertsPrefill(const ExpertsArgs& args, const DeviceRouting& routing,
                           GemmInstruction instruction, cudaStream_t stream) {
  if (args.hidden % 8 != 0 || args.intermediate % 8 != 0) return cudaErrorInvalidValue;
  if (routing.num_tokens == 0) return cudaSuccess;
  return instruction == GemmInstruction::kWgmma ? LaunchBoth<true>(args, routing, stream)
                                                : LaunchBoth<false>(args, routing, stream);
}

}  // namespace adamoe::cuda
