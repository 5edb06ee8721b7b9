// Weights of a loaded model in 8 or 4 bits.
#ifndef ADAMOE_SERVER_MODEL_QUANTIZE_H_
#define ADAMOE_SERVER_MODEL_QUANTIZE_H_

#include "server/base/dtype.h"
#include "server/base/thread_pool.h"
#include "server/weights/mixtral_weights.h"

namespace adamoe {

// Replaces the matrices of `weights` by packed copies (kernels/packed.h) in memory that
// weights.owner keeps: experts and attention in `dtype`, kInt8 or kInt4, and lm_head in kInt8 for
// either. Embeddings, norms and routers stay as they are: little is read of them, and the router's
// picks are discrete. Takes as much memory again as the packed copies have bytes.
void Quantize(DType dtype, ThreadPool& pool, MixtralWeights& weights);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_MODEL_QUANTIZE_H_
