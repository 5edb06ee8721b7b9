// The implementations of Ops this machine can run, for tests that hold for each of them.
#ifndef ADAMOE_TESTS_UNIT_MODEL_OPS_UNDER_TEST_H_
#define ADAMOE_TESTS_UNIT_MODEL_OPS_UNDER_TEST_H_

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "server/kernels/ops.h"

namespace adamoe {

struct OpsUnderTest {
  std::string name;                            // letters and digits
  std::function<std::unique_ptr<Ops>()> make;  // must outlive what it makes
};

inline std::ostream& operator<<(std::ostream& out, const OpsUnderTest& ops) {
  return out << ops.name;
}

// One for each supported instruction set; never empty. The ops run on a pool of `num_threads`,
// which lives as long as one of these does and serves one model at a time.
std::vector<OpsUnderTest> OpsOf(Precision precision, int num_threads = 2);

}  // namespace adamoe

#endif  // ADAMOE_TESTS_UNIT_MODEL_OPS_UNDER_TEST_H_
