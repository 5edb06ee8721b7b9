#include "server/structured/grammar_process.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <xgrammar/matcher.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "server/request/token_matcher.h"
#include "server/structured/compile.h"
#include "server/structured/fill_mask.h"

namespace adamoe {
namespace {

constexpr size_t kStackBytes = 8 << 20;
constexpr int kNiceness = 10;
constexpr time_t kTokenSeconds = 1;

// A timer whose signal ends the process.
void SetTimer(__itimer_which_t which, int64_t ms) {
  itimerval timer = {};
  timer.it_value.tv_sec = ms / 1000;
  timer.it_value.tv_usec = ms % 1000 * 1000;
  setitimer(which, &timer, nullptr);
}

// Of this process, in bytes.
size_t AddressSpace() {
  size_t pages = 0;
  FILE* const file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%zu", &pages) != 1) pages = 0;
  if (file != nullptr) std::fclose(file);
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// No more than `more_bytes` beside what there is, and no core file.
void LimitResources(size_t more_bytes) {
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  const rlimit memory = {AddressSpace() + more_bytes, AddressSpace() + more_bytes};
  setrlimit(RLIMIT_AS, &memory);
}

struct Compilation {
  GrammarText text;
  absl::Duration token_limit;
  const xgrammar::TokenizerInfo* vocabulary;
  absl::StatusOr<xgrammar::CompiledGrammar> grammar;
};

// Body of the thread that compiles: it has a priority and a stack of its own.
void* RunCompilation(void* argument) {
  auto* const work = static_cast<Compilation*>(argument);
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNiceness);
  work->grammar = Compile(work->text, *work->vocabulary);
  if (!work->grammar.ok()) return nullptr;
  const absl::Status tried = TryOut(*work->grammar, work->token_limit);
  if (!tried.ok()) work->grammar = tried;
  return nullptr;
}

absl::StatusOr<xgrammar::CompiledGrammar> CompileInThread(
    const CompileCommand& command, const SharedMemory& memory,
    const xgrammar::TokenizerInfo& vocabulary) {
  Compilation work = {{static_cast<GrammarText::Syntax>(command.syntax),
                       std::string(memory.data(), command.text_bytes)},
                      absl::Milliseconds(command.token_limit_ms),
                      &vocabulary,
                      absl::ResourceExhaustedError("takes too much memory to work out")};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  if (pthread_create(&thread, &attributes, RunCompilation, &work) == 0) {
    pthread_join(thread, nullptr);
  }
  return std::move(work.grammar);
}

template <typename Message>
void SendOrExit(const Fd& socket, const Message& message) {
  ssize_t sent;
  do {
    sent = send(socket.get(), &message, sizeof(message), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent != static_cast<ssize_t>(sizeof(message))) _exit(0);
}

// The next message, at least `min_bytes` of it.
template <typename Message>
void ReceiveOrExit(const Fd& socket, size_t min_bytes, Message* message) {
  ssize_t received;
  do {
    received = recv(socket.get(), message, sizeof(*message), 0);
  } while (received < 0 && errno == EINTR);
  if (received < static_cast<ssize_t>(min_bytes)) _exit(0);
}

xgrammar::CompiledGrammar CompileOrExit(const Fd& socket, const SharedMemory& memory,
                                        const xgrammar::TokenizerInfo& vocabulary) {
  CompileCommand command;
  ReceiveOrExit(socket, sizeof(command), &command);
  LimitResources(command.max_bytes);
  SetTimer(ITIMER_REAL, command.timeout_ms);
  auto grammar = CompileInThread(command, memory, vocabulary);
  SetTimer(ITIMER_REAL, 0);
  CompileReply reply = {static_cast<int32_t>(grammar.status().code()), 0, {}};
  if (grammar.ok()) {
    reply.grammar_bytes = grammar->MemorySizeBytes();
  } else {
    const absl::string_view message = grammar.status().message();
    std::memcpy(reply.message, message.data(), std::min(message.size(), sizeof(reply.message) - 1));
  }
  SendOrExit(socket, reply);
  if (!grammar.ok()) _exit(0);
  return *std::move(grammar);
}

// The matchers of one grammar.
class Matchers {
 public:
  Matchers(const xgrammar::CompiledGrammar& grammar, const SharedMemory& memory)
      : grammar_(grammar),
        masks_(reinterpret_cast<uint32_t*>(memory.data())),
        vocab_size_(grammar.GetTokenizerInfo().GetVocabSize()),
        num_words_(TokenMaskWords(vocab_size_)),
        matchers_(memory.size() / (num_words_ * sizeof(uint32_t))) {}

  // Nothing where no answer is due.
  std::optional<MatcherReply> Do(const MatcherCommand& command) {
    if (command.slot >= matchers_.size()) _exit(0);
    auto& matcher = matchers_[command.slot];
    MatcherReply reply = {command.slot, command.ticket, MatcherReply::Result::kRefused};
    switch (command.op) {
      case MatcherCommand::Op::kClose:
        matcher.reset();
        return std::nullopt;
      case MatcherCommand::Op::kOpen: {
        std::optional<std::vector<int>> stops;
        if (command.count > 0) stops.emplace(command.stops, command.stops + command.count);
        matcher.emplace(grammar_, stops);
        break;
      }
      case MatcherCommand::Op::kAppend:
        if (!matcher.has_value() || !matcher->AcceptToken(command.count)) return reply;
        break;
    }
    reply.result = Fill(command.slot);
    return reply;
  }

 private:
  MatcherReply::Result Fill(uint32_t slot) {
    uint32_t* const mask = masks_ + slot * num_words_;
    FillMask(*matchers_[slot], vocab_size_, absl::MakeSpan(mask, num_words_));
    const auto none = [](uint32_t word) { return word == 0; };
    const bool dead_end =
        std::all_of(mask, mask + num_words_, none) && !matchers_[slot]->IsCompleted();
    return dead_end ? MatcherReply::Result::kDeadEnd : MatcherReply::Result::kMask;
  }

  const xgrammar::CompiledGrammar grammar_;
  uint32_t* const masks_;  // [number of slots, num_words_]
  const int32_t vocab_size_;
  const size_t num_words_;
  std::vector<std::optional<xgrammar::GrammarMatcher>> matchers_;
};

}  // namespace

void RunGrammarProcess(const Fd& socket, const SharedMemory& memory,
                       const xgrammar::TokenizerInfo& vocabulary) {
  prctl(PR_SET_NAME, "adamoe_grammar");
  try {
    Matchers matchers(CompileOrExit(socket, memory, vocabulary), memory);
    while (true) {
      MatcherCommand command;
      ReceiveOrExit(socket, offsetof(MatcherCommand, stops), &command);
      SetTimer(ITIMER_PROF, kTokenSeconds * 1000);
      if (const auto reply = matchers.Do(command)) SendOrExit(socket, *reply);
    }
  } catch (const std::exception&) {
    _exit(1);
  }
}

}  // namespace adamoe
