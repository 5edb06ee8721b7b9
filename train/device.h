// The device that a training or an evaluation computes on. Thread-safe.
#ifndef ADAMOE_TRAIN_DEVICE_H_
#define ADAMOE_TRAIN_DEVICE_H_

#include <ATen/ATen.h>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "train/mixtral_parameters.h"

namespace adamoe {

// "cpu"; "cuda": the first GPU, FAILED_PRECONDITION saying why when LibTorch's CUDA part cannot be
// loaded or finds no GPU; "auto": "cuda" where that works and "cpu" elsewhere. INVALID_ARGUMENT for
// another name. LibTorch's CUDA part is loaded on the first call that asks for it.
absl::StatusOr<at::Device> DeviceNamed(absl::string_view name);

// Moves every tensor; those that are there already stay the same tensors.
void MoveTo(at::Device device, MixtralParameters* parameters);

// The type in which `device` multiplies training's matrices fastest: bfloat16 on a GPU and where
// the processor has AVX-512-BF16, unless `allow_bfloat16` is false, and float32 elsewhere.
at::ScalarType TrainingMatrixType(at::Device device, bool allow_bfloat16);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_DEVICE_H_
