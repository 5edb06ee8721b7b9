#include "server/kernels/cuda/elementwise.h"

#include "server/kernels/cuda/device.h"

namespace adamoe::cuda {
namespace {

constexpr int32_t kThreads = 256;

__global__ void EmbedKernel(const Bf16* table, const int32_t* ids, int32_t hidden,
                            float* residual) {
  const int64_t token = blockIdx.x;
  const Bf16* row = table + static_cast<int64_t>(ids[token]) * hidden;
  float* out = residual + token * hidden;
  for (int32_t i = 8 * static_cast<int32_t>(threadIdx.x); i < hidden; i += 8 * kThreads) {
    float wide[8];
    Widen8(*reinterpret_cast<const uint4*>(row + i), wide);
    *reinterpret_cast<float4*>(out + i) = make_float4(wide[0], wide[1], wide[2], wide[3]);
    *reinterpret_cast<float4*>(out + i + 4) = make_float4(wide[4], wide[5], wide[6], wide[7]);
  }
}

// A block per row. A thread keeps the elements it will normalise in its own part of shared memory.
template <bool kCombine>
__global__ void __launch_bounds__(kThreads)
    NormKernel(DeviceRouting routing, const float* rows_out, RmsNormArgs args) {
  ADAMOE_DYNAMIC_SHARED(shared);
  float* kept = reinterpret_cast<float*>(shared);  // [hidden]
  __shared__ float partial[kThreads / kWarpSize];

  const int64_t row = blockIdx.x;
  const int64_t token = args.rows != nullptr ? args.rows[row] : row;
  float* x = args.residual + token * args.hidden;
  const int32_t num_rows = kCombine ? routing.num_token_rows[token] : 0;
  const int32_t* token_rows = kCombine ? routing.token_rows + token * routing.max_picks : nullptr;

  float squares = 0.0f;
  for (int32_t i = 4 * static_cast<int32_t>(threadIdx.x); i < args.hidden; i += 4 * kThreads) {
    float4 v = *reinterpret_cast<const float4*>(x + i);
    if (num_rows > 0) {
      float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      for (int32_t j = 0; j < num_rows; ++j) {
        const int64_t from = token_rows[j];
        const float weight = routing.row_weight[from];
        const float4 y = *reinterpret_cast<const float4*>(rows_out + from * args.hidden + i);
        sum.x += weight * y.x;
        sum.y += weight * y.y;
        sum.z += weight * y.z;
        sum.w += weight * y.w;
      }
      v = make_float4(v.x + sum.x, v.y + sum.y, v.z + sum.z, v.w + sum.w);
      *reinterpret_cast<float4*>(x + i) = v;
    }
    *reinterpret_cast<float4*>(kept + i) = v;
    squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  }
  if (args.normed == nullptr) return;  // the same for every thread of the grid

  const float mean = BlockSum(squares, partial) / static_cast<float>(args.hidden);
  const float scale = 1.0f / sqrtf(mean + args.eps);
  for (int32_t i = 4 * static_cast<int32_t>(threadIdx.x); i < args.hidden; i += 4 * kThreads) {
    const float4 v = *reinterpret_cast<const float4*>(kept + i);
    const float4 w = *reinterpret_cast<const float4*>(args.weight + i);
    const float4 y =
        make_float4(v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w);
    const int64_t at = row * args.hidden + i;
    *reinterpret_cast<uint2*>(args.normed + at) =
        make_uint2(ToBf16Pair(y.x, y.y), ToBf16Pair(y.z, y.w));
    if (args.normed_float32 != nullptr) {
      *reinterpret_cast<float4*>(args.normed_float32 + at) = y;
    }
  }
}

// A block per token.
__global__ void __launch_bounds__(kThreads) RopeAppendKernel(RopeAppendArgs args) {
  __shared__ float cosine[kMaxHeadDim / 2];
  __shared__ float sine[kMaxHeadDim / 2];
  const int64_t token = blockIdx.x;
  const int32_t head_dim = args.cache.head_dim;
  const int32_t half = head_dim / 2;
  const int32_t num_kv_heads = args.cache.num_kv_heads;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  const int32_t slot = args.slots[token];

  for (int32_t i = thread; i < half; i += kThreads) {
    // The angle is a float32 in the models' own code, which matters at large positions.
    const float angle = static_cast<float>(args.positions[token]) * args.inverse_frequency[i];
    sincosf(angle, &sine[i], &cosine[i]);
  }
  __syncthreads();

  float* queries =
      args.qkv + token * (static_cast<int64_t>(args.num_heads + 2 * num_kv_heads) * head_dim);
  for (int32_t pair = thread; pair < args.num_heads * half; pair += kThreads) {
    const int32_t i = pair % half;
    float* head = queries + static_cast<int64_t>(pair / half) * head_dim;
    const float a = head[i];
    const float b = head[i + half];
    head[i] = a * cosine[i] - b * sine[i];
    head[i + half] = b * cosine[i] + a * sine[i];
  }
  if (slot < 0) return;

  const float* keys = queries + static_cast<int64_t>(args.num_heads) * head_dim;
  const float* values = keys + static_cast<int64_t>(num_kv_heads) * head_dim;
  const int64_t at = static_cast<int64_t>(slot) * num_kv_heads * head_dim;
  for (int32_t pair = thread; pair < num_kv_heads * half; pair += kThreads) {
    const int32_t i = pair % half;
    const int32_t head = pair / half * head_dim;
    const float a = keys[head + i];
    const float b = keys[head + i + half];
    args.cache.keys[at + head + i] = ToBf16(a * cosine[i] - b * sine[i]);
    args.cache.keys[at + head + i + half] = ToBf16(b * cosine[i] + a * sine[i]);
  }
  for (int32_t i = thread; i < num_kv_heads * head_dim; i += kThreads) {
    args.cache.values[at + i] = ToBf16(values[i]);
  }
}

LaunchShape NormShape(const RmsNormArgs& args) {
  return {.grid = dim3(static_cast<unsigned>(args.num_rows)),
          .threads = kThreads,
          .shared_bytes = sizeof(float) * static_cast<size_t>(args.hidden)};
}

}  // namespace

cudaError_t Embed(const Bf16* table, const int32_t* ids, int32_t num_tokens, int32_t hidden,
                  float* residual, cudaStream_t stream) {
  if (num_tokens == 0) return cudaSuccess;
  return Launch(EmbedKernel, {dim3(static_cast<unsigned>(num_tokens)), kThreads, 0}, stream, table,
                ids, hidden, residual);
}

cudaError_t RmsNorm(const RmsNormArgs& args, cudaStream_t stream) {
  if (args.num_rows == 0) return cudaSuccess;
  const float* no_rows = nullptr;
  return Launch(NormKernel<false>, NormShape(args), stream, DeviceRouting{}, no_rows, args);
}

cudaError_t CombineRmsNorm(const DeviceRouting& routing, const float* rows_out,
                           const RmsNormArgs& args, cudaStream_t stream) {
  if (args.rows != nullptr || args.num_rows != routing.num_tokens) return cudaErrorInvalidValue;
  if (args.num_rows == 0) return cudaSuccess;
  return Launch(NormKernel<true>, NormShape(args), stream, routing, rows_out, args);
}

cudaError_t RopeAppendKv(const RopeAppendArgs& args, cudaStream_t stream) {
  if (args.cache.head_dim > kMaxHeadDim || args.cache.head_dim % 2 != 0) {
    return cudaErrorInvalidValue;
  }
  if (args.num_tokens == 0) return cudaSuccess;
  return Launch(RopeAppendKernel, {dim3(static_cast<unsigned>(args.num_tokens)), kThreads, 0},
                stream, args);
}

}  // namespace adamoe::cuda
