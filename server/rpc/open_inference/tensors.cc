#include "server/rpc/open_inference/tensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/serving/request_errors.h"
#include "server/serving/utf8.h"

namespace adamoe {
namespace {

using inference::ModelInferRequest;
using InputTensor = ModelInferRequest::InferInputTensor;

const InputSpec* FindInput(absl::string_view name) {
  const auto* spec = std::find_if(std::begin(kInputs), std::end(kInputs),
                                  [&](const InputSpec& input) { return input.name == name; });
  return spec == std::end(kInputs) ? nullptr : spec;
}

void AppendUint32(uint32_t value, std::string* bytes) {
  for (int shift = 0; shift < 32; shift += 8) {
    bytes->push_back(static_cast<char>((value >> shift) & 0xff));
  }
}

uint32_t ReadUint32(absl::string_view bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

absl::Status CheckShape(const std::string& field, const InputTensor& tensor) {
  // [1], or with dimensions of 1 around it.
  const bool one = std::all_of(tensor.shape().begin(), tensor.shape().end(),
                               [](int64_t size) { return size == 1; });
  if (one && !tensor.shape().empty()) return absl::OkStatus();
  std::string shape;
  for (int i = 0; i < std::min(tensor.shape_size(), 8); ++i) {
    absl::StrAppend(&shape, i == 0 ? "" : ", ", tensor.shape(i));
  }
  return FieldError(absl::StrCat(field, ".shape"),
                    absl::StrCat("[", shape, "] is not [1]: one element is taken"));
}

absl::StatusOr<std::string> RawBytesElement(const std::string& field, absl::string_view raw) {
  if (raw.size() < 4) {
    return FieldError(field, absl::StrCat(raw.size(),
                                          " raw bytes do not hold the length, four "
                                          "bytes, of a BYTES element"));
  }
  const uint32_t length = ReadUint32(raw);
  raw.remove_prefix(4);
  if (length != raw.size()) {
    return FieldError(field, absl::StrCat("the length of its element is ", length, ", but ",
                                          raw.size(), " raw bytes follow"));
  }
  return std::string(raw);
}

absl::StatusOr<std::string> BytesElement(const std::string& field, const InputTensor& tensor,
                                         const std::string* raw) {
  std::string element;
  if (raw != nullptr) {
    ASSIGN_OR_RETURN(element, RawBytesElement(field, *raw));
  } else if (tensor.contents().bytes_contents_size() != 1) {
    return FieldError(field, absl::StrCat(tensor.contents().bytes_contents_size(),
                                          " elements in contents.bytes_contents, one is needed"));
  } else {
    element = tensor.contents().bytes_contents(0);
  }
  const size_t invalid = FirstInvalidUtf8(element);
  if (invalid == element.size()) return element;
  return FieldError(field, absl::StrCat("is not UTF-8 at byte ", invalid, " of ", element.size()));
}

absl::StatusOr<bool> BoolElement(const std::string& field, const InputTensor& tensor,
                                 const std::string* raw) {
  if (raw != nullptr) {
    if (raw->size() == 1) return raw->front() != 0;
    return FieldError(field, absl::StrCat(raw->size(), " raw bytes, a BOOL takes one"));
  }
  if (tensor.contents().bool_contents_size() == 1) return tensor.contents().bool_contents(0);
  return FieldError(field, absl::StrCat(tensor.contents().bool_contents_size(),
                                        " elements in contents.bool_contents, one is needed"));
}

absl::Status ReadInput(const InputTensor& tensor, const std::string* raw, Inputs* inputs) {
  const std::string field = absl::StrCat("inputs.", MendUtf8(tensor.name().substr(0, 64)));
  const InputSpec* spec = FindInput(tensor.name());
  if (spec == nullptr) return FieldError(field, "is no input of this model");
  if (inputs->count(tensor.name()) > 0) return FieldError(field, "is there twice");
  if (tensor.parameters().count("shared_memory_region") > 0) {
    return FieldError(field, "is in shared memory, which this server does not read");
  }
  if (tensor.datatype() != DatatypeOf(spec->type)) {
    return FieldError(field, absl::StrCat("its datatype is ", DatatypeOf(spec->type), ", not \"",
                                          tensor.datatype().substr(0, 16), "\""));
  }
  RETURN_IF_ERROR(CheckShape(field, tensor));
  if (raw != nullptr && tensor.has_contents()) {
    return FieldError(field, "has contents beside raw_input_contents");
  }
  if (spec->type == inference::TYPE_BOOL) {
    ASSIGN_OR_RETURN(const bool element, BoolElement(field, tensor, raw));
    inputs->emplace(tensor.name(), element);
  } else {
    ASSIGN_OR_RETURN(std::string element, BytesElement(field, tensor, raw));
    inputs->emplace(tensor.name(), std::move(element));
  }
  return absl::OkStatus();
}

void AddRaw(Output output, int64_t num_elements, std::string raw,
            inference::ModelInferResponse* response) {
  const OutputSpec& spec = kOutputs[static_cast<int>(output)];
  auto* tensor = response->add_outputs();
  tensor->set_name(spec.name);
  tensor->set_datatype(DatatypeOf(spec.type));
  tensor->add_shape(num_elements);
  response->add_raw_output_contents(std::move(raw));
}

}  // namespace

const char* DatatypeOf(inference::DataType type) {
  switch (type) {
    case inference::TYPE_BOOL:
      return "BOOL";
    case inference::TYPE_UINT32:
      return "UINT32";
    case inference::TYPE_INT32:
      return "INT32";
    case inference::TYPE_FP32:
      return "FP32";
    case inference::TYPE_STRING:
      return "BYTES";
    default:
      return "INVALID";
  }
}

absl::StatusOr<Inputs> ReadInputs(const ModelInferRequest& request) {
  const int num_raw = request.raw_input_contents_size();
  if (num_raw != 0 && num_raw != request.inputs_size()) {
    return FieldError("raw_input_contents",
                      absl::StrCat(num_raw, " entries for ", request.inputs_size(), " inputs"));
  }
  Inputs inputs;
  for (int i = 0; i < request.inputs_size(); ++i) {
    const std::string* raw = num_raw == 0 ? nullptr : &request.raw_input_contents(i);
    RETURN_IF_ERROR(ReadInput(request.inputs(i), raw, &inputs));
  }
  for (const InputSpec& spec : kInputs) {
    if (spec.optional || inputs.count(spec.name) > 0) continue;
    return FieldError(absl::StrCat("inputs.", spec.name), "is missing");
  }
  return inputs;
}

void AddOutput(Output output, absl::string_view text, inference::ModelInferResponse* response) {
  std::string raw;
  raw.reserve(4 + text.size());
  AppendUint32(static_cast<uint32_t>(text.size()), &raw);
  raw.append(text.data(), text.size());
  AddRaw(output, 1, std::move(raw), response);
}

void AddOutput(Output output, float value, inference::ModelInferResponse* response) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  std::string raw;
  AppendUint32(bits, &raw);
  AddRaw(output, 1, std::move(raw), response);
}

void AddOutput(Output output, const std::vector<uint32_t>& values,
               inference::ModelInferResponse* response) {
  std::string raw;
  raw.reserve(4 * values.size());
  for (const uint32_t value : values) AppendUint32(value, &raw);
  AddRaw(output, static_cast<int64_t>(values.size()), std::move(raw), response);
}

}  // namespace adamoe
