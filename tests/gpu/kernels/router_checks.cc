// The router: logits, picks, weights, the counting sort and its inverse.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "server/kernels/cuda/router.h"
#include "tests/fakes/reference_ops.h"
#include "tests/gpu/kernels/check_values.h"
#include "tests/gpu/kernels/checks.h"
#include "tests/gpu/kernels/device_memory.h"

namespace adamoe {
namespace {

struct Shape {
  int32_t n, m, k;
};

// What Route left on the device.
struct Answer {
  Routing routing;  // as ops.h has it
  std::vector<int32_t> active_experts;
  std::vector<std::vector<int32_t>> token_rows;
};

struct Input {
  std::vector<float> logits;
  std::vector<float> null_bias;
  std::vector<uint32_t> max_experts;
  int32_t num_tokens = 0;
  int32_t num_valid = 0;
};

Answer RouteOnDevice(const Input& input, const Shape& shape, const std::string& what) {
  constexpr int32_t kLayers = 3;  // the counts of one layer lie among those of others
  constexpr int32_t kLayer = 1;
  const int32_t tokens = input.num_tokens;
  const DeviceArray<float> logits(input.logits);
  const DeviceArray<float> bias(input.null_bias);
  const DeviceArray<uint32_t> limits(input.max_experts);
  const DeviceArray<int32_t> valid(std::vector<int32_t>{input.num_valid});
  const DeviceArray<uint8_t> null_slots(std::vector<uint8_t>(kLayers * tokens, 99));
  const DeviceArray<uint8_t> dropped(std::vector<uint8_t>(kLayers * tokens, 99));
  const DeviceArray<uint8_t> memory(
      static_cast<int64_t>(cuda::RoutingBytes(tokens, shape.n, shape.k)));
  const cuda::DeviceRouting routing = cuda::PlaceRouting(memory.get(), tokens, shape.n, shape.k);
  cuda::RouteArgs args;
  args.logits = logits.get();
  args.null_bias = bias.get();
  args.max_experts = limits.get();
  args.num_valid_tokens = valid.get();
  args.num_null_experts = shape.m;
  args.experts_per_token = shape.k;
  args.null_slots = null_slots.get() + kLayer;
  args.dropped = dropped.get() + kLayer;
  args.slot_stride = kLayers;
  ExpectLaunched(cuda::Route(args, routing, nullptr), what);

  // The routing's arrays by their offset in its memory.
  const std::vector<uint8_t> bytes = memory.ToHost();
  const auto array = [&](const auto* device, int64_t count) {
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(device)>>;
    const auto* from = reinterpret_cast<const T*>(
        bytes.data() + (reinterpret_cast<const uint8_t*>(device) - memory.get()));
    return std::vector<T>(from, from + count);
  };
  Answer answer;
  answer.routing.expert_begin = array(routing.expert_begin, shape.n + 1);
  const int64_t num_rows = answer.routing.expert_begin.back();
  answer.routing.row_token = array(routing.row_token, num_rows);
  answer.routing.row_weight = array(routing.row_weight, num_rows);
  answer.active_experts =
      array(routing.active_experts, array(routing.num_active_experts, 1).front());
  const auto counts = array(routing.num_token_rows, tokens);
  const auto rows = array(routing.token_rows, int64_t{tokens} * routing.max_picks);
  for (int32_t t = 0; t < tokens; ++t) {
    const auto from = rows.begin() + int64_t{t} * routing.max_picks;
    answer.token_rows.emplace_back(from, from + counts[t]);
  }
  const auto nulls = null_slots.ToHost();
  const auto drops = dropped.ToHost();
  for (int32_t t = 0; t < tokens; ++t) {
    answer.routing.null_slots.push_back(nulls[t * kLayers + kLayer]);
    answer.routing.dropped.push_back(drops[t * kLayers + kLayer]);
    Expect(nulls[t * kLayers] == 99 && nulls[t * kLayers + 2] == 99,
           what + ": another layer's counts");
  }
  return answer;
}

Routing Reference(const Input& input, const Shape& shape) {
  Routing routing;
  ReferenceOps().Route(
      input.logits.data(), input.num_valid,
      {shape.n, shape.m, shape.k, input.null_bias.data(), input.max_experts.data()}, &routing);
  return routing;
}

// The parts of an answer against each other.
void ExpectConsistent(const Answer& answer, const Shape& shape, const std::string& what) {
  const Routing& routing = answer.routing;
  std::vector<int32_t> active;
  std::vector<std::vector<int32_t>> token_rows(answer.token_rows.size());
  for (int32_t e = 0; e < shape.n; ++e) {
    if (routing.expert_begin[e] < routing.expert_begin[e + 1]) active.push_back(e);
    for (int32_t r = routing.expert_begin[e]; r < routing.expert_begin[e + 1]; ++r) {
      token_rows[routing.row_token[r]].push_back(r);
    }
  }
  ExpectEqual(answer.active_experts, active, what + ": active experts");
  ExpectEqual(answer.token_rows, token_rows, what + ": rows of tokens");
}

void CheckAgainstReference(const Input& input, const Shape& shape, const std::string& what) {
  const Answer answer = RouteOnDevice(input, shape, what);
  const Routing expected = Reference(input, shape);
  ExpectEqual(answer.routing.expert_begin, expected.expert_begin, what + ": expert_begin");
  ExpectEqual(answer.routing.row_token, expected.row_token, what + ": row_token");
  ExpectNear(answer.routing.row_weight, expected.row_weight, 2e-6, what + ": row_weight");
  std::vector<uint8_t> nulls = expected.null_slots;
  std::vector<uint8_t> drops = expected.dropped;
  nulls.resize(input.num_tokens, 99);  // padding is not written
  drops.resize(input.num_tokens, 99);
  ExpectEqual(answer.routing.null_slots, nulls, what + ": null slots");
  ExpectEqual(answer.routing.dropped, drops, what + ": dropped");
  ExpectConsistent(answer, shape, what);
}

}  // namespace

void CheckRoute() {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (const Shape& s : {Shape{1, 0, 1},
                         {8, 0, 2},
                         {8, 8, 3},
                         {8, 16, 4},
                         {5, 3, 8},
                         {1, 30, 7},
                         {33, 2, 5},
                         {64, 64, 128},
                         {64, 1, 2}}) {
    for (int32_t tokens : {1, 2, 33, 129, 300}) {
      if (tokens > 33 && s.k > 8) continue;  // the emulation takes its time
      Input input;
      input.num_tokens = tokens;
      input.num_valid = tokens > 2 ? tokens - 2 : tokens;
      for (int32_t i = 0; i < tokens * (s.n + s.m); ++i) {
        input.logits.push_back(std::round(4 * normal(random)) / 4);  // many ties
      }
      for (int32_t t = 0; t < tokens; ++t) {
        // Some tokens run nothing, some everything.
        input.null_bias.push_back(t % 7 == 3 ? 30.0f : normal(random));
        input.max_experts.push_back(random() % 4);
      }
      CheckAgainstReference(input, s,
                            "n " + std::to_string(s.n) + " m " + std::to_string(s.m) + " k " +
                                std::to_string(s.k) + " tokens " + std::to_string(tokens));
    }
  }
}

void CheckRouteOfStrangeLogits() {
  const float inf = INFINITY;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Shape shape = {3, 1, 3};
  Input input;
  input.logits = {nan, nan, nan, nan,  /**/ inf, inf, 1, 2, /**/ -inf, -inf, -inf, -inf, /**/
                  nan, 1,   inf, -inf, /**/ 1,   nan, 2, 3};
  input.num_tokens = input.num_valid = 5;
  input.null_bias.assign(5, 0.0f);
  input.max_experts.assign(5, 0);
  const Answer answer = RouteOnDevice(input, shape, "strange logits");
  ExpectConsistent(answer, shape, "strange logits");
  for (int32_t t = 0; t < 5; ++t) {
    Expect(answer.token_rows[t].size() + answer.routing.null_slots[t] == 3, "slots of a token");
  }
  for (float weight : answer.routing.row_weight) Expect(!std::isnan(weight), "a weight is NaN");

  input.logits = {-300, -301, 0, -1};
  input.num_tokens = input.num_valid = 1;
  input.null_bias = {0.0f};
  input.max_experts = {0};
  const Answer underflow = RouteOnDevice(input, {2, 2, 4}, "underflow");
  ExpectNear(underflow.routing.row_weight, {0.7310586f, 0.2689414f}, 1e-5, "underflow");
}

void CheckRouterLogits() {
  for (int32_t tokens : {1, 9}) {
    for (int32_t width : {1, 5, 16, 17, 70, 128}) {
      for (int32_t hidden : {8, 520}) {
        const auto x = RandomFloats(int64_t{tokens} * hidden, 1);
        const auto router = RandomFloats(int64_t{width} * hidden, 2);
        const DeviceArray<float> device_x(x);
        const DeviceArray<float> device_router(router);
        const DeviceArray<float> logits(int64_t{tokens} * width);
        ExpectLaunched(cuda::RouterLogits(device_x.get(), device_router.get(), tokens, hidden,
                                          width, logits.get(), nullptr),
                       "logits");
        std::vector<float> expected(logits.size());
        ReferenceOps().LinearFloat32({router.data(), DType::kFloat32, width, hidden}, x.data(),
                                     tokens, expected.data());
        ExpectNear(
            logits.ToHost(), expected, 1e-4,
            "logits of width " + std::to_string(width) + " hidden " + std::to_string(hidden));
      }
    }
  }
}

}  // namespace adamoe
