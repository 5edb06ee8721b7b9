// Makes absl::Mutex and absl::CondVar visible to the thread sanitizer. Linked into builds with it
// only.
//
// The sanitizer sees the synchronization of what it has compiled. The system's Abseil is not among
// that, so every access that one of its locks orders would be reported as a race. The linker sends
// our calls here (--wrap), and each says what it orders: taking a lock comes after every release of
// it before.
//
// The condition of an Await is evaluated inside Abseil, by the waiter or by whoever gives the lock
// back, always under the lock: it is wrapped so that each evaluation is a section of its own. This
// file is compiled without the sanitizer, or reading the wrapping itself would be reported.
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

extern "C" {

void __tsan_acquire(void* address);
void __tsan_release(void* address);

}  // extern "C"

namespace {

class VisibleCondition {
 public:
  VisibleCondition(absl::Mutex* mu, const absl::Condition* condition)
      : mu_(mu), condition_(condition), visible_(&Eval, this) {}
  const absl::Condition* get() const { return &visible_; }

 private:
  static bool Eval(VisibleCondition* self) {
    __tsan_acquire(self->mu_);
    const bool holds = self->condition_->Eval();
    __tsan_release(self->mu_);
    return holds;
  }

  absl::Mutex* const mu_;
  const absl::Condition* const condition_;
  const absl::Condition visible_;
};

// A call that gives the lock back for a while.
class Waiting {
 public:
  explicit Waiting(absl::Mutex* mu) : mu_(mu) { __tsan_release(mu); }
  ~Waiting() { __tsan_acquire(mu_); }

 private:
  absl::Mutex* const mu_;
};

}  // namespace

// Defines the wrapper of a symbol, which calls the real one.
#define WRAP(result, symbol, ...)      \
  result __real_##symbol(__VA_ARGS__); \
  result __wrap_##symbol(__VA_ARGS__)

extern "C" {

WRAP(void, _ZN4absl7debian35Mutex4LockEv, absl::Mutex* mu) {
  __real__ZN4absl7debian35Mutex4LockEv(mu);
  __tsan_acquire(mu);
}

WRAP(void, _ZN4absl7debian35Mutex10ReaderLockEv, absl::Mutex* mu) {
  __real__ZN4absl7debian35Mutex10ReaderLockEv(mu);
  __tsan_acquire(mu);
}

WRAP(bool, _ZN4absl7debian35Mutex7TryLockEv, absl::Mutex* mu) {
  const bool locked = __real__ZN4absl7debian35Mutex7TryLockEv(mu);
  if (locked) __tsan_acquire(mu);
  return locked;
}

WRAP(void, _ZN4absl7debian35Mutex6UnlockEv, absl::Mutex* mu) {
  __tsan_release(mu);
  __real__ZN4absl7debian35Mutex6UnlockEv(mu);
}

WRAP(void, _ZN4absl7debian35Mutex12ReaderUnlockEv, absl::Mutex* mu) {
  __tsan_release(mu);
  __real__ZN4absl7debian35Mutex12ReaderUnlockEv(mu);
}

WRAP(void, _ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE, absl::Mutex* mu,
     const absl::Condition* condition) {
  const Waiting waiting(mu);
  const VisibleCondition visible(mu, condition);
  __real__ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE(mu, visible.get());
}

WRAP(void, _ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE, absl::Mutex* mu,
     const absl::Condition* condition) {
  const Waiting waiting(mu);
  const VisibleCondition visible(mu, condition);
  __real__ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE(mu, visible.get());
}

WRAP(bool, _ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE,
     absl::Mutex* mu, const absl::Condition* condition, absl::Duration timeout) {
  const Waiting waiting(mu);
  const VisibleCondition visible(mu, condition);
  return __real__ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE(
      mu, visible.get(), timeout);
}

WRAP(bool, _ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE, absl::Mutex* mu,
     const absl::Condition* condition, absl::Time deadline) {
  const Waiting waiting(mu);
  const VisibleCondition visible(mu, condition);
  return __real__ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE(
      mu, visible.get(), deadline);
}

WRAP(void, _ZN4absl7debian37CondVar4WaitEPNS0_5MutexE, absl::CondVar* condvar, absl::Mutex* mu) {
  const Waiting waiting(mu);
  __real__ZN4absl7debian37CondVar4WaitEPNS0_5MutexE(condvar, mu);
}

WRAP(bool, _ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE,
     absl::CondVar* condvar, absl::Mutex* mu, absl::Duration timeout) {
  const Waiting waiting(mu);
  return __real__ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE(condvar, mu,
                                                                                     timeout);
}

WRAP(bool, _ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE,
     absl::CondVar* condvar, absl::Mutex* mu, absl::Time deadline) {
  const Waiting waiting(mu);
  return __real__ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE(condvar, mu,
                                                                                  deadline);
}

}  // extern "C"
