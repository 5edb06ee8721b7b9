// A libcuda.so.1 that answers what the server asks of a driver before it uses one, as the
// environment says: FAKE_CUDA_DEVICES, capabilities as "8.0 9.0" (unset: none); FAKE_CUDA_INIT, the
// result of cuInit. It runs nothing.
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::vector<std::string> Devices() {
  const char* const text = std::getenv("FAKE_CUDA_DEVICES");
  std::istringstream words(text == nullptr ? "" : text);
  std::vector<std::string> devices;
  for (std::string word; words >> word;) devices.push_back(word);
  return devices;
}

}  // namespace

extern "C" {

int cuInit(unsigned) {
  const char* const result = std::getenv("FAKE_CUDA_INIT");
  return result == nullptr ? 0 : std::atoi(result);
}

int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(Devices().size());
  return 0;
}

int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return 0;
}

int cuDeviceGetName(char* name, int size, int) {
  std::strncpy(name, "Fake GPU", static_cast<size_t>(size));
  return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  const std::string capability = Devices().at(static_cast<size_t>(device));
  const size_t dot = capability.find('.');
  *value = std::stoi(attribute == 75 ? capability.substr(0, dot) : capability.substr(dot + 1));
  return 0;
}

int cuGetErrorName(int error, const char** name) {
  *name = error == 999 ? "CUDA_ERROR_UNKNOWN" : "CUDA_ERROR_OTHER";
  return 0;
}

}  // extern "C"
