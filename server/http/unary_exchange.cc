#include "server/http/unary_exchange.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace adamoe {
namespace {

class UnaryExchange final : public Exchange {
 public:
  UnaryExchange(std::function<Reply()> work, std::function<void()> wake)
      : work_(std::move(work)), wake_(std::move(wake)) {}

  void Start() override ABSL_LOCKS_EXCLUDED(mu_) {
    Reply reply = work_();
    {
      absl::MutexLock lock(&mu_);
      reply_ = std::move(reply);
    }
    wake_();
  }

  // Start is soon done, and then it ends.
  void Abandon() override {}

  Taken Take() override ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    Taken taken;
    taken.end = reply_.has_value();
    taken.reply.swap(reply_);
    return taken;
  }

 private:
  const std::function<Reply()> work_;
  const std::function<void()> wake_;
  absl::Mutex mu_;
  std::optional<Reply> reply_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::shared_ptr<Exchange> MakeUnaryExchange(std::function<Reply()> work,
                                            std::function<void()> wake) {
  return std::make_shared<UnaryExchange>(std::move(work), std::move(wake));
}

}  // namespace adamoe
