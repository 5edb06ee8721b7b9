#include "server/cuda/weight_upload.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "server/base/status_macros.h"

namespace adamoe::cuda {
namespace {

// Elements [begin, begin + count) of `view` as bfloat16: as they are, or rounded.
void CopyToBf16(const TensorView& view, int64_t begin, int64_t count, uint16_t* out) {
  if (view.dtype == DType::kBFloat16) {
    std::memcpy(out, static_cast<const uint16_t*>(view.data) + begin, 2 * count);
    return;
  }
  constexpr int64_t kChunk = 4096;
  float values[kChunk];
  for (int64_t done = 0; done < count; done += kChunk) {
    const int64_t n = std::min(kChunk, count - done);
    CopyToFloat32(view, begin + done, n, values);
    for (int64_t i = 0; i < n; ++i) out[done + i] = Bf16FromFloat(values[i]);
  }
}

void Convert(const WeightCopy& copy, int64_t begin, int64_t count, std::byte* out) {
  if (copy.dtype == DType::kFloat32) {
    CopyToFloat32(*copy.source, begin, count, reinterpret_cast<float*>(out));
  } else {
    CopyToBf16(*copy.source, begin, count, reinterpret_cast<uint16_t*>(out));
  }
}

// Whole pages of a file that hold elements [begin, begin + count): read again if ever needed.
void LetGo(const TensorView& view, int64_t begin, int64_t count) {
  if (!view.in_file) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto element_bytes = static_cast<int64_t>(SizeOf(view.dtype));
  const auto first = reinterpret_cast<uintptr_t>(view.data) + begin * element_bytes;
  const uintptr_t from = (first + page - 1) / page * page;
  const uintptr_t to = (first + count * element_bytes) / page * page;
  if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
}

absl::Status Upload(absl::Span<const WeightCopy> copies, StagingBuffers& staging) {
  int buffer = 0;
  for (const UploadPiece& piece : PlanUpload(copies, staging.num_bytes())) {
    const WeightCopy& copy = copies[piece.copy];
    ASSIGN_OR_RETURN(std::byte* const memory, staging.Await(buffer));
    Convert(copy, piece.begin, piece.count, memory);
    LetGo(*copy.source, piece.begin, piece.count);
    const auto element_bytes = static_cast<int64_t>(SizeOf(copy.dtype));
    RETURN_IF_ERROR(staging.BeginCopy(buffer, copy.offset + piece.begin * element_bytes,
                                      piece.count * element_bytes));
    buffer = 1 - buffer;
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<UploadPiece> PlanUpload(absl::Span<const WeightCopy> copies, int64_t staging_bytes) {
  std::vector<UploadPiece> pieces;
  for (size_t i = 0; i < copies.size(); ++i) {
    const int64_t num_elements = copies[i].source->num_elements();
    const int64_t at_once = staging_bytes / static_cast<int64_t>(SizeOf(copies[i].dtype));
    for (int64_t begin = 0; begin < num_elements; begin += at_once) {
      pieces.push_back({i, begin, std::min(at_once, num_elements - begin)});
    }
  }
  return pieces;
}

absl::Status UploadWeights(absl::Span<const WeightCopy> copies, StagingBuffers& staging) {
  absl::Status status = Upload(copies, staging);
  status.Update(staging.Finish());
  return status;
}

}  // namespace adamoe::cuda
