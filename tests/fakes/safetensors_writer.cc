#include "tests/fakes/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

constexpr int64_t kChunk = 1 << 16;  // values

int64_t NumElements(const NewTensor& tensor) {
  int64_t product = 1;
  for (int64_t dimension : tensor.shape) product *= dimension;
  return product;
}

const char* TypeName(DType dtype) {
  return dtype == DType::kBFloat16 ? "BF16" : dtype == DType::kFloat16 ? "F16" : "F32";
}

// The bits of the half nearest to `value`, ties to even; too large becomes infinity.
uint16_t F16FromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) {
    // Adding 0.5 leaves the subnormal half, rounded, in the low bits.
    float shifted;
    std::memcpy(&shifted, &magnitude, sizeof(shifted));
    shifted += 0.5f;
    uint32_t rounded;
    std::memcpy(&rounded, &shifted, sizeof(rounded));
    return static_cast<uint16_t>(sign | (rounded - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

void WriteValues(const std::vector<float>& values, int64_t count, DType dtype,
                 std::vector<uint16_t>& narrow, std::ofstream& out) {
  if (dtype == DType::kFloat32) {
    out.write(reinterpret_cast<const char*>(values.data()), 4 * count);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    narrow[i] = dtype == DType::kBFloat16 ? Bf16FromFloat(values[i]) : F16FromFloat(values[i]);
  }
  out.write(reinterpret_cast<const char*>(narrow.data()), 2 * count);
}

}  // namespace

std::string SafetensorsBytes(uint64_t header_length, const std::string& header,
                             const std::string& data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(header_length >> (8 * i) & 0xffu));
  return bytes + header + data;
}

std::string SafetensorsBytes(const std::string& header, const std::string& data) {
  return SafetensorsBytes(header.size(), header, data);
}

absl::Status WriteSafetensors(const std::string& path, const std::vector<NewTensor>& tensors,
                              const FillFn& fill) {
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t offset = 0;
  for (const NewTensor& tensor : tensors) {
    const int64_t end = offset + NumElements(tensor) * static_cast<int64_t>(SizeOf(tensor.dtype));
    header[tensor.name] = {{"dtype", TypeName(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::ofstream out(path, std::ios::binary);
  out << SafetensorsBytes(text, "");
  std::vector<float> values(kChunk);
  std::vector<uint16_t> narrow(kChunk);
  for (const NewTensor& tensor : tensors) {
    const int64_t total = NumElements(tensor);
    for (int64_t begin = 0; begin < total; begin += kChunk) {
      const int64_t count = std::min(kChunk, total - begin);
      fill(tensor, begin, count, values.data());
      WriteValues(values, count, tensor.dtype, narrow, out);
    }
  }
  out.close();
  return out ? absl::OkStatus() : absl::UnknownError(absl::StrCat(path, ": cannot be written"));
}

absl::Status WriteTextFile(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  return out ? absl::OkStatus() : absl::UnknownError(absl::StrCat(path, ": cannot be written"));
}

}  // namespace adamoe
