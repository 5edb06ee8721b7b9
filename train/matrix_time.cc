#include "train/matrix_time.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>

namespace adamoe {
namespace {

using Clock = std::chrono::steady_clock;

// Operations that call none of the others: each product is counted once.
constexpr std::array<std::string_view, 4> kProducts = {"aten::mm", "aten::addmm", "aten::bmm",
                                                       "aten::baddbmm"};

std::atomic<int64_t> nanoseconds = 0;

struct Begin : at::ObserverContext {
  Clock::time_point time = Clock::now();
};

std::unique_ptr<at::ObserverContext> OnBegin(const at::RecordFunction& operation) {
  if (std::find(kProducts.begin(), kProducts.end(), operation.name()) == kProducts.end()) {
    return nullptr;
  }
  return std::make_unique<Begin>();
}

void OnEnd(const at::RecordFunction&, at::ObserverContext* context) {
  if (context == nullptr) return;
  const auto spent = Clock::now() - static_cast<Begin*>(context)->time;
  nanoseconds += std::chrono::duration_cast<std::chrono::nanoseconds>(spent).count();
}

}  // namespace

double MatrixProductSeconds() {
  [[maybe_unused]] static const at::CallbackHandle handle = at::addGlobalCallback(
      at::RecordFunctionCallback(OnBegin, OnEnd).scopes({at::RecordScope::FUNCTION}));
  return static_cast<double>(nanoseconds) / 1e9;
}

}  // namespace adamoe
