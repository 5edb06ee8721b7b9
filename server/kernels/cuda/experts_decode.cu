// The experts for few rows: bound by reading weights.
//
// A tile is 16 outputs of one expert for all of its rows. The four warps of a block share a tile's
// inputs in turns of 64, each multiplies what it reads, and the block adds the four sums up. Weight
// rows are the 16-wide side of the instruction and the expert's rows the 8-wide one, so one row
// wastes no weight bandwidth. A lane reads 8 neighbouring inputs of a weight row and of a token and
// hands them to two instructions as they are: the order of the inner index is that of mma_layout.h
// permuted, alike on both sides. Weights go past the first cache, tokens are kept in it.
//
// The grid is as large as the device holds and walks the tiles of the active experts, which it
// reads from the routing: null picks and experts without rows are nowhere.
#include "server/kernels/cuda/device.h"
#include "server/kernels/cuda/expert_counts.h"
#include "server/kernels/cuda/expert_tiles.h"
#include "server/kernels/cuda/experts.h"
#include "server/kernels/cuda/mma_layout.h"

namespace adamoe::cuda {
namespace {

constexpr int32_t kWarps = 4;
constexpr int32_t kThreads = kWarps * kWarpSize;
constexpr int32_t kStepInputs = 64;  // of a warp, before it moves on
constexpr int32_t kRowsPerGroup = 8;

// What a lane reads of a weight matrix in one step: rows l / 4 and l / 4 + 8 of the tile, inputs
// 8 (l % 4) to 8 (l % 4) + 7 of either half of the step.
struct WeightStep {
  uint4 row[2][2];  // [row][half]
};

__device__ void LoadWeights(const Bf16* const (&rows)[2], int32_t input, int32_t num_inputs,
                            WeightStep* step) {
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    const int32_t at = input + half * (kStepInputs / 2);
#pragma unroll
    for (int32_t r = 0; r < 2; ++r) {
      step->row[r][half] = rows[r] != nullptr && at < num_inputs ? LoadStreaming(rows[r] + at)
                                                                 : make_uint4(0, 0, 0, 0);
    }
  }
}

// c += weights * x over 32 inputs.
__device__ void Multiply(const uint4& low_row, const uint4& high_row, const uint4& x,
                         float (&c)[4]) {
  const uint32_t first[4] = {low_row.x, high_row.x, low_row.y, high_row.y};
  Mma16x8x16(c, first, x.x, x.y);
  const uint32_t second[4] = {low_row.z, high_row.z, low_row.w, high_row.w};
  Mma16x8x16(c, second, x.z, x.w);
}

// kGroups: groups of 8 rows that are multiplied at once. kGated: the product with w1 and w3, whose
// result is `inner`; else that with w2, whose result is `rows_out`.
template <int32_t kGroups, bool kGated>
__global__ void __launch_bounds__(kThreads, kGroups <= 2 ? 4 : 2)
    ExpertsDecodeKernel(ExpertsArgs args, DeviceRouting routing) {
  constexpr int32_t kMatrices = kGated ? 2 : 1;
  constexpr int32_t kRows = kGroups * kRowsPerGroup;
  __shared__ float partial[kWarps][kMatrices][kRows][kDecodeTileOutputs];

  const int32_t warp = static_cast<int32_t>(threadIdx.x) / kWarpSize;
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kWarpSize;
  const int32_t num_inputs = kGated ? args.hidden : args.intermediate;
  const int32_t num_outputs = kGated ? args.intermediate : args.hidden;
  const int64_t matrix_size = static_cast<int64_t>(num_inputs) * num_outputs;
  const int32_t tiles_per_expert = DecodeTilesPerExpert(num_outputs);
  const int32_t num_tiles = *routing.num_active_experts * tiles_per_expert;
  const int32_t lane_input = warp * kStepInputs + 8 * (lane % 4);

  for (int32_t tile = static_cast<int32_t>(blockIdx.x); tile < num_tiles;
       tile += static_cast<int32_t>(gridDim.x)) {
    const int32_t expert = routing.active_experts[tile / tiles_per_expert];
    const int32_t first_output = tile % tiles_per_expert * kDecodeTileOutputs;
    const int32_t expert_end = routing.expert_begin[expert + 1];

    const Bf16* weight_rows[kMatrices][2];
#pragma unroll
    for (int32_t m = 0; m < kMatrices; ++m) {
      const Bf16* matrix = (kGated ? (m == 0 ? args.w1 : args.w3) : args.w2) + expert * matrix_size;
#pragma unroll
      for (int32_t r = 0; r < 2; ++r) {
        const int32_t output = first_output + FragmentRow(lane) + 8 * r;
        weight_rows[m][r] =
            output < num_outputs ? matrix + static_cast<int64_t>(output) * num_inputs : nullptr;
      }
    }

    for (int32_t begin = routing.expert_begin[expert]; begin < expert_end; begin += kRows) {
      const int32_t num_rows = static_cast<int32_t>(Min(expert_end - begin, kRows));
      const Bf16* x_rows[kGroups];
#pragma unroll
      for (int32_t g = 0; g < kGroups; ++g) {
        const int32_t row = g * kRowsPerGroup + FragmentRow(lane);
        x_rows[g] = nullptr;
        if (row >= num_rows) continue;
        x_rows[g] =
            kGated ? args.x + static_cast<int64_t>(routing.row_token[begin + row]) * args.hidden
                   : args.inner + static_cast<int64_t>(begin + row) * args.intermediate;
      }

      float sum[kMatrices][kGroups][4] = {};
      WeightStep now[kMatrices];
      WeightStep next[kMatrices];
#pragma unroll
      for (int32_t m = 0; m < kMatrices; ++m) {
        LoadWeights(weight_rows[m], lane_input, num_inputs, &now[m]);
      }
      for (int32_t step = 0; step < num_inputs; step += kWarps * kStepInputs) {
        const int32_t input = step + lane_input;
#pragma unroll
        for (int32_t m = 0; m < kMatrices; ++m) {
          LoadWeights(weight_rows[m], input + kWarps * kStepInputs, num_inputs, &next[m]);
        }
#pragma unroll
        for (int32_t g = 0; g < kGroups; ++g) {
          if (g * kRowsPerGroup >= num_rows) break;  // the same for the whole block
#pragma unroll
          for (int32_t half = 0; half < 2; ++half) {
            const int32_t at = input + half * (kStepInputs / 2);
            uint4 x = make_uint4(0, 0, 0, 0);
            if (x_rows[g] != nullptr && at < num_inputs) {
              x = *reinterpret_cast<const uint4*>(x_rows[g] + at);
            }
#pragma unroll
            for (int32_t m = 0; m < kMatrices; ++m) {
              Multiply(now[m].row[0][half], now[m].row[1][half], x, sum[m][g]);
            }
          }
        }
#pragma unroll
        for (int32_t m = 0; m < kMatrices; ++m) now[m] = next[m];
      }

#pragma unroll
      for (int32_t m = 0; m < kMatrices; ++m) {
#pragma unroll
        for (int32_t g = 0; g < kGroups; ++g) {
#pragma unroll
          for (int32_t i = 0; i < 4; ++i) {
            const int32_t output = FragmentRow(lane) + 8 * (i / 2);
            const int32_t row = g * kRowsPerGroup + FragmentCol(lane) + i % 2;
            partial[warp][m][row][output] = sum[m][g][i];
          }
        }
      }
      __syncthreads();
      for (int32_t i = static_cast<int32_t>(threadIdx.x); i < num_rows * kDecodeTileOutputs;
           i += kThreads) {
        const int32_t row = i / kDecodeTileOutputs;
        const int32_t output = i % kDecodeTileOutputs;
        if (first_output + output >= num_outputs) continue;
        float total[kMatrices];
#pragma unroll
        for (int32_t m = 0; m < kMatrices; ++m) {
          total[m] = 0.0f;
#pragma unroll
          for (int32_t w = 0; w < kWarps; ++w) total[m] += partial[w][m][row][output];
        }
        const int64_t at = static_cast<int64_t>(begin + row) * num_outputs + first_output + output;
        if constexpr (kGated) {
          args.inner[at] = ToBf16(Silu(total[0]) * total[1]);
        } else {
          args.rows_out[at] = total[0];
        }
      }
      if (!kGated && first_output == 0) {
        CountRows(args, routing, expert, begin, begin + num_rows);
      }
      __syncthreads();  // before `partial` is written again
    }
  }
}

template <int32_t kGroups>
cudaError_t LaunchBoth(const ExpertsArgs& args, const DeviceRouting& routing, cudaStream_t stream) {
  constexpr int32_t kBlocksPerMultiprocessor = kGroups <= 2 ? 4 : 2;
  const int64_t resident = int64_t{kBlocksPerMultiprocessor} * NumMultiprocessors();
  const int64_t max_active =
      Min(routing.num_experts, int64_t{routing.num_tokens} * routing.max_picks);
  const auto shape = [&](int32_t num_outputs) -> LaunchShape {
    const int64_t tiles = max_active * DecodeTilesPerExpert(num_outputs);
    return {dim3(static_cast<unsigned>(Min(resident, tiles))), kThreads, 0};
  };
  const cudaError_t error =
      Launch(ExpertsDecodeKernel<kGroups, true>, shape(args.intermediate), stream, args, routing);
  if (error != cudaSuccess) return error;
  return Launch(ExpertsDecodeKernel<kGroups, false>, shape(args.hidden), stream, args, routing);
}

}  // namespace

cudaError_t ExpertsDecode(const ExpertsArgs& args, const DeviceRouting& routing,
                          cudaStream_t stream) {
  if (args.hidden % 8 != 0 || args.intermediate % 8 != 0) return cudaErrorInvalidValue;
  // An expert has at most one row of each token.
  if (routing.num_tokens == 0) return cudaSuccess;
  if (routing.num_tokens <= 8) return LaunchBoth<1>(args, routing, stream);
  if (routing.num_tokens <= 16) return LaunchBoth<2>(args, routing, stream);
  if (routing.num_tokens <= 32) return LaunchBoth<4>(args, routing, stream);
  return LaunchBoth<8>(args, routing, stream);
}

}  // namespace adamoe::cuda
