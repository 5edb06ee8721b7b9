// Keeps and sums what the executor reports. Thread-safe.
#ifndef ADAMOE_TESTS_FAKES_RECORDING_OBSERVER_H_
#define ADAMOE_TESTS_FAKES_RECORDING_OBSERVER_H_

#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/request/step_observer.h"

namespace adamoe {

class RecordingObserver : public StepObserver {
 public:
  struct Record {
    std::vector<StepReport> steps;
    LoadReport load;  // the last
    std::vector<absl::Duration> first_tokens;
    std::vector<absl::Duration> next_tokens;
    std::vector<double> token_experts;
    std::vector<absl::Duration> admissions;
  };

  void OnStep(const StepReport& report) override {
    absl::MutexLock lock(&mu_);
    record_.steps.push_back(report);
  }
  void OnLoad(const LoadReport& load) override {
    absl::MutexLock lock(&mu_);
    record_.load = load;
  }
  void OnFirstToken(absl::Duration since_submit) override {
    absl::MutexLock lock(&mu_);
    record_.first_tokens.push_back(since_submit);
  }
  void OnNextToken(absl::Duration since_previous) override {
    absl::MutexLock lock(&mu_);
    record_.next_tokens.push_back(since_previous);
  }
  void OnTokenExperts(double mean_experts_per_layer) override {
    absl::MutexLock lock(&mu_);
    record_.token_experts.push_back(mean_experts_per_layer);
  }
  void OnAdmitted(absl::Duration queue_time) override {
    absl::MutexLock lock(&mu_);
    record_.admissions.push_back(queue_time);
  }

  Record record() const {
    absl::MutexLock lock(&mu_);
    return record_;
  }

 private:
  mutable absl::Mutex mu_;
  Record record_ ABSL_GUARDED_BY(mu_);
};

}  // namespace adamoe

#endif  // ADAMOE_TESTS_FAKES_RECORDING_OBSERVER_H_
