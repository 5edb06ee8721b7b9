// Where a router's picks hang on rounding, and what comes of the other pick: wraps the operations
// of a CPU model. Two devices that round alike but add in another order may pick different experts
// where two are nearly equally likely; nowhere else. Not thread-safe.
//
//   RoutingProbe probe(num_layers, 0.02);
//   auto model = ... probe.Wrap(CreateCpuOps(...)) ...
//   probe.Restart({});                  // before the first step of a run
//   ... steps ...
//   for (const RouterTie& tie : probe.ties()) ...
//   probe.Restart({probe.ties()[3]});   // the same steps again, with the other expert there
#ifndef ADAMOE_TESTS_GPU_ROUTING_PROBE_H_
#define ADAMOE_TESTS_GPU_ROUTING_PROBE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/kernels/ops.h"

namespace adamoe {

// Two experts of one token and layer, and what exchanging them changes: which experts are kept, or
// how many slots are null.
struct RouterTie {
  int64_t step = 0;   // of the run
  int32_t token = 0;  // of the step
  int32_t layer = 0;
  int32_t likelier = 0;  // true experts first, then null ones
  int32_t other = 0;
  // How far the router's input would have to be off, as a share of its length and in a random
  // direction, to make up for the difference of the two logits.
  double gap = 0.0;
  double probabilities[2] = {};  // of `likelier` and `other`

  std::string ToString() const;
};

class RoutingProbe {
 public:
  // `tolerance`: pairs of a smaller gap are ties.
  RoutingProbe(int32_t num_layers, double tolerance);

  // `ops` with the probe in the router's way, which must outlive it.
  std::unique_ptr<Ops> Wrap(std::unique_ptr<Ops> ops);

  // Forgets the ties seen and begins to count steps anew. The experts of `exchanged` change places:
  // each gets the logit of the other.
  void Restart(std::vector<RouterTie> exchanged);

  // Of the steps since, but for tokens and layers where experts were exchanged.
  const std::vector<RouterTie>& ties() const { return ties_; }

 private:
  friend class ProbedOps;

  // Of the layer and step at hand. x, router: what the logits were made from.
  void Route(std::vector<float>* logits, const float* x, const Matrix& router, int32_t num_tokens,
             const RouterParams& params);
  void FindTies(const std::vector<float>& logits, const float* x, const Matrix& router,
                int32_t token, const RouterParams& params);

  const int32_t num_layers_;
  const double tolerance_;
  int64_t num_calls_ = 0;
  std::vector<RouterTie> exchanged_;
  std::vector<RouterTie> ties_;
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_GPU_ROUTING_PROBE_H_
