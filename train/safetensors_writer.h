// Writes a .safetensors file (https://github.com/huggingface/safetensors, "Format"). Thread-safe.
#ifndef ADAMOE_TRAIN_SAFETENSORS_WRITER_H_
#define ADAMOE_TRAIN_SAFETENSORS_WRITER_H_

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace adamoe {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// Replaces `path` in one step: a reader sees the old file or the whole new one. Tensors are f32,
// f16 or bf16 on the CPU. INVALID_ARGUMENT for another type or a name given twice; INTERNAL when
// the file cannot be written.
absl::Status WriteSafetensors(const std::string& path, const NamedTensors& tensors);

// Replaces a whole file in one step with `content`.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view content);

// Makes `dir` and its parents when missing.
absl::Status MakeFolder(const std::string& dir);

}  // namespace adamoe

#endif  // ADAMOE_TRAIN_SAFETENSORS_WRITER_H_
