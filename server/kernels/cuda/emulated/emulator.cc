#undef _FORTIFY_SOURCE  // whose longjmp refuses to go to another stack
#include "server/kernels/cuda/emulated/emulator.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ADAMOE_SWITCH_BY_CONTEXT
#endif

namespace adamoe::cuda::emulated {
namespace {

constexpr size_t kStackBytes = size_t{256} << 10;
// Stacks begin at other offsets, or all fibers would be in the same few lines of the cache.
constexpr size_t kStackShift = 9 * 64;
constexpr size_t kMaxStackShift = size_t{64} << 10;
constexpr unsigned kWarp = 32;
constexpr size_t kLaneBytes = 64;
constexpr size_t kMaxSharedBytes = 227 << 10;
constexpr unsigned kMaxThreads = 1024;

[[noreturn]] void Fail(const char* why, const char* detail = "") {
  std::fprintf(stderr, "emulated kernel: %s %s\n", why, detail);
  std::abort();
}

// Where a number of threads meet.
struct Meeting {
  unsigned expected = 0;
  unsigned arrived = 0;
  uint64_t round = 0;
};

struct Warp {
  Meeting meeting;
  const char* what = nullptr;
  uint8_t lanes[2][kWarp][kLaneBytes];  // by parity of the round
};

using Group = std::vector<std::function<void()>>;
struct AsyncWork {
  std::deque<Group> committed;
  Group open;
};

// A place to go on from. To go there by longjmp spares the two system calls that swapcontext makes
// to keep the signal mask; sanitizers know the latter only.
struct Place {
  ucontext_t context;
  jmp_buf jump;
  bool started = false;
};

// Leaves `from`, to come back when another fiber goes there.
[[gnu::noinline]] void Switch(Place* from, Place* to) {
#if defined(ADAMOE_SWITCH_BY_CONTEXT)
  swapcontext(&from->context, &to->context);
#else
  if (_setjmp(from->jump) != 0) return;
  from->started = true;
  if (to->started) _longjmp(to->jump, 1);
  setcontext(&to->context);
#endif
}

// Runs one thread of every block.
struct Fiber {
  Place place;
  void* stack = nullptr;
  void* fake_stack = nullptr;  // the address sanitizer's
  dim3 thread;
  bool done = false;
  const Meeting* waits_at = nullptr;
  uint64_t waits_in_round = 0;
  AsyncWork work[2];
};

class Emulator {
 public:
  void Run(dim3 grid, unsigned threads, size_t shared_bytes, const std::function<void()>& body) {
    if (threads == 0 || threads > kMaxThreads) Fail("a block of that many threads");
    if (threads % kWarp != 0) Fail("a block that is not whole warps");
    if (shared_bytes > kMaxSharedBytes) Fail("too much shared memory");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) Fail("an empty grid");
    grid_ = grid;
    block_size_ = dim3(threads);
    body_ = &body;
    while (fibers_.size() < threads) fibers_.push_back(NewFiber(fibers_.size()));
    for (unsigned z = 0; z < grid.z; ++z) {
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) RunBlock(dim3(x, y, z), threads, shared_bytes);
      }
    }
  }

  void Meet(Meeting* meeting) {
    if (++meeting->arrived == meeting->expected) {
      meeting->arrived = 0;
      ++meeting->round;
      return;
    }
    current_->waits_at = meeting;
    current_->waits_in_round = meeting->round;
    SwitchToScheduler();
  }

  Schedule schedule_;
  dim3 grid_;
  dim3 block_;
  dim3 block_size_;
  Meeting block_meeting_;
  std::vector<Warp> warps_;
  Fiber* current_ = nullptr;
  std::vector<uint8_t> shared_;
  unsigned char* shared_base_ = nullptr;
  size_t shared_bytes_ = 0;

 private:
  static std::unique_ptr<Fiber> NewFiber(size_t index) {
    auto fiber = std::make_unique<Fiber>();
    fiber->stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber->stack == MAP_FAILED) Fail("no memory for stacks");
    ucontext_t& context = fiber->place.context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber->stack;
    context.uc_stack.ss_size = kStackBytes - index * kStackShift % kMaxStackShift;
    context.uc_link = nullptr;
    makecontext(&context, &Emulator::Main, 0);
    return fiber;
  }

  void PrepareShared(size_t bytes) {
    constexpr size_t kAlign = 1024;
    shared_bytes_ = bytes;
    // Of its own for each block, so that tools see reads past the end.
    shared_.assign(bytes + kAlign, 0xff);
    shared_.shrink_to_fit();
    const auto address = reinterpret_cast<uintptr_t>(shared_.data());
    shared_base_ = reinterpret_cast<unsigned char*>((address + kAlign - 1) / kAlign * kAlign);
  }

  void RunBlock(dim3 block, unsigned threads, size_t shared_bytes) {
    block_ = block;
    block_meeting_ = {threads, 0, 0};
    warps_.assign(threads / kWarp, Warp{});
    for (Warp& warp : warps_) warp.meeting.expected = kWarp;
    PrepareShared(shared_bytes);
    for (unsigned t = 0; t < threads; ++t) Prepare(fibers_[t].get(), t);
    std::vector<unsigned> order(threads);
    std::iota(order.begin(), order.end(), 0u);
    if (schedule_.order == Order::kDescending) std::reverse(order.begin(), order.end());
    for (unsigned left = threads; left > 0;) {
      if (schedule_.order == Order::kShuffled) std::shuffle(order.begin(), order.end(), random_);
      bool progress = false;
      for (unsigned t : order) {
        Fiber* fiber = fibers_[t].get();
        if (fiber->done || Waits(*fiber)) continue;
        progress = true;
        SwitchTo(fiber);
        if (fiber->done) --left;
      }
      if (!progress) Fail("threads wait for others that have ended or wait elsewhere");
    }
  }

  static bool Waits(const Fiber& fiber) {
    return fiber.waits_at != nullptr && fiber.waits_at->round == fiber.waits_in_round;
  }

  void Prepare(Fiber* fiber, unsigned thread) {
    fiber->thread = dim3(thread, 0, 0);
    fiber->done = false;
    fiber->waits_at = nullptr;
    for (AsyncWork& work : fiber->work) work.committed.clear();
  }

  [[noreturn]] static void Main();

  void SwitchTo(Fiber* fiber) {
    current_ = fiber;
    fiber->waits_at = nullptr;
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, fiber->stack, kStackBytes);
#endif
    Switch(&scheduler_, &fiber->place);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
    current_ = nullptr;
  }

  void SwitchToScheduler() {
    Fiber* fiber = current_;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fiber->fake_stack, scheduler_stack_, scheduler_stack_bytes_);
#endif
    Switch(&fiber->place, &scheduler_);
#if defined(__SANITIZE_ADDRESS__)
    // A launch may come from another thread than the last one.
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
  }

  const std::function<void()>* body_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  Place scheduler_;
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_bytes_ = 0;
  std::mt19937 random_{1};
};

Emulator& The() {
  static Emulator emulator;
  return emulator;
}

void Emulator::Main() {
  Emulator& emulator = The();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &emulator.scheduler_stack_,
                                  &emulator.scheduler_stack_bytes_);
#endif
  for (;;) {
    (*emulator.body_)();
    for (const AsyncWork& work : emulator.current_->work) {
      if (!work.open.empty()) Fail("asynchronous work that no group holds");
    }
    emulator.current_->done = true;
    emulator.SwitchToScheduler();
  }
}

}  // namespace

void SetSchedule(const Schedule& schedule) { The().schedule_ = schedule; }

void RunGrid(dim3 grid, unsigned threads_per_block, size_t shared_bytes,
             const std::function<void()>& body) {
  The().Run(grid, threads_per_block, shared_bytes, body);
}

const dim3& ThreadIndex() { return The().current_->thread; }
const dim3& BlockIndex() { return The().block_; }
const dim3& BlockSize() { return The().block_size_; }
const dim3& GridSize() { return The().grid_; }
unsigned char* DynamicShared() { return The().shared_base_; }
size_t DynamicSharedBytes() { return The().shared_bytes_; }

void BlockBarrier() { The().Meet(&The().block_meeting_); }

const uint8_t* WarpExchange(const void* data, size_t num_bytes, const char* what) {
  if (num_bytes > kLaneBytes) Fail("too many bytes for one lane in", what);
  Emulator& emulator = The();
  const unsigned thread = emulator.current_->thread.x;
  Warp& warp = emulator.warps_[thread / kWarp];
  if (warp.meeting.arrived == 0) warp.what = what;
  if (warp.what != what && std::strcmp(warp.what, what) != 0)
    Fail("lanes of a warp meet in different instructions:", what);
  const uint64_t parity = warp.meeting.round % 2;
  std::memcpy(warp.lanes[parity][thread % kWarp], data, num_bytes);
  emulator.Meet(&warp.meeting);
  return &warp.lanes[parity][0][0];
}

void Enqueue(Queue queue, std::function<void()> work) {
  Emulator& emulator = The();
  if (emulator.schedule_.late) {
    emulator.current_->work[static_cast<int>(queue)].open.push_back(std::move(work));
  } else {
    work();
  }
}

void CommitGroup(Queue queue) {
  AsyncWork& work = The().current_->work[static_cast<int>(queue)];
  work.committed.push_back(std::move(work.open));
  work.open.clear();
}

void WaitForGroups(Queue queue, int pending) {
  AsyncWork& work = The().current_->work[static_cast<int>(queue)];
  while (static_cast<int>(work.committed.size()) > pending) {
    for (const auto& item : work.committed.front()) item();
    work.committed.pop_front();
  }
}

}  // namespace adamoe::cuda::emulated
