#include "server/structured/grammar.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/status_macros.h"

namespace adamoe {
namespace {

// What a matcher may hold up its batch: at once, and altogether as so much for a start and so much
// for each token.
constexpr absl::Duration kPatience = absl::Milliseconds(500);
constexpr absl::Duration kFirstAllowance = absl::Seconds(1);
constexpr absl::Duration kAllowancePerToken = absl::Milliseconds(1);

// What the process may be late with the news that it has run out of time.
constexpr absl::Duration kGrace = absl::Seconds(1);
// How often a wait looks whether it is to stop.
constexpr absl::Duration kGlance = absl::Milliseconds(50);

absl::Status TooSlow() {
  return absl::ResourceExhaustedError(
      "structured: to say which tokens may come next takes too much time or memory");
}

// Waits until there is something to read. False when there is not by `until`.
bool AwaitReadable(const Fd& socket, absl::Time until) {
  while (true) {
    const absl::Duration left = std::max(until - absl::Now(), absl::ZeroDuration());
    pollfd poll_fd = {socket.get(), POLLIN, 0};
    timespec timeout = absl::ToTimespec(left);
    const int ready = ppoll(&poll_fd, 1, &timeout, nullptr);
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return true;  // reading says what is wrong
  }
}

absl::StatusOr<CompileReply> AwaitCompiled(const Fd& socket, const Grammar::Limits& limits,
                                           const absl::Notification& stop) {
  const absl::Time begin = absl::Now();
  const absl::Time until = begin + limits.compile_timeout + kGrace;
  while (!AwaitReadable(socket, std::min(until, absl::Now() + kGlance))) {
    if (stop.HasBeenNotified()) return absl::CancelledError("the server is shutting down");
    if (absl::Now() >= until) break;
  }
  CompileReply reply;
  if (recv(socket.get(), &reply, sizeof(reply), MSG_DONTWAIT) == ssize_t{sizeof(reply)}) {
    return reply;
  }
  if (absl::Now() - begin >= limits.compile_timeout) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "takes more than ", absl::FormatDuration(limits.compile_timeout), " to work out"));
  }
  return absl::ResourceExhaustedError("takes too much memory or too deep a recursion to work out");
}

}  // namespace

class Grammar::Matcher final : public TokenMatcher {
 public:
  Matcher(std::shared_ptr<Grammar> grammar, uint32_t slot)
      : grammar_(std::move(grammar)), slot_(slot) {}
  ~Matcher() override { grammar_->Close(slot_); }

  absl::StatusOr<TokenMask> Allowed() override {
    const absl::Time begin = absl::Now();
    auto mask = grammar_->Await(slot_, std::clamp(allowance_, absl::ZeroDuration(), kPatience));
    allowance_ -= absl::Now() - begin;
    return mask;
  }

  void Append(int32_t token) override {
    allowance_ = std::min(allowance_ + kAllowancePerToken, kFirstAllowance);
    grammar_->Append(slot_, token);
  }

 private:
  const std::shared_ptr<Grammar> grammar_;
  const uint32_t slot_;
  absl::Duration allowance_ = kFirstAllowance;
};

absl::StatusOr<std::shared_ptr<Grammar>> Grammar::Compile(const GrammarText& text,
                                                          const Limits& limits, int32_t vocab_size,
                                                          const absl::Notification& stop,
                                                          ForkServer* fork_server) {
  const size_t num_words = TokenMaskWords(vocab_size);
  ASSIGN_OR_RETURN(SocketPair sockets, MakeSocketPair());
  ASSIGN_OR_RETURN(
      SharedMemory memory,
      SharedMemory::Make(std::max(text.text.size(), kMaxMatchers * num_words * sizeof(uint32_t))));
  std::memcpy(memory.data(), text.text.data(), text.text.size());
  RETURN_IF_ERROR(fork_server->Fork(sockets.theirs, memory));
  sockets.theirs.Close();
  const CompileCommand command = {static_cast<char>(text.syntax), text.text.size(),
                                  absl::ToInt64Milliseconds(limits.compile_timeout),
                                  limits.compile_bytes,
                                  absl::ToInt64Milliseconds(limits.token_limit)};
  (void)send(sockets.ours.get(), &command, sizeof(command), MSG_NOSIGNAL);
  ASSIGN_OR_RETURN(const CompileReply reply, AwaitCompiled(sockets.ours, limits, stop));
  if (reply.code != 0) {
    return absl::Status(static_cast<absl::StatusCode>(reply.code), reply.message);
  }
  // The process takes messages as fast as it can; one that does not is given up.
  const timeval patience = absl::ToTimeval(kPatience);
  setsockopt(sockets.ours.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  return std::shared_ptr<Grammar>(
      new Grammar(std::move(sockets.ours), std::move(memory), num_words, reply.grammar_bytes));
}

Grammar::Grammar(Fd socket, SharedMemory memory, size_t num_words, size_t num_bytes)
    : socket_(std::move(socket)),
      memory_(std::move(memory)),
      num_words_(num_words),
      num_bytes_(num_bytes) {}

Grammar::~Grammar() = default;

absl::StatusOr<std::unique_ptr<TokenMatcher>> Grammar::NewMatcher(
    absl::Span<const int32_t> stop_token_ids) {
  if (stop_token_ids.size() > MatcherCommand::kMaxStops) {
    return absl::InvalidArgumentError(
        absl::StrCat("goes with at most ", MatcherCommand::kMaxStops, " stop tokens"));
  }
  MatcherCommand command;
  command.op = MatcherCommand::Op::kOpen;
  command.count = static_cast<int32_t>(stop_token_ids.size());
  std::copy(stop_token_ids.begin(), stop_token_ids.end(), command.stops);
  {
    absl::MutexLock lock(&mu_);
    if (free_slots_.empty() && slots_.size() >= kMaxMatchers) {
      return absl::ResourceExhaustedError(
          absl::StrCat(kMaxMatchers, " requests with the same form are waiting or running"));
    }
    if (free_slots_.empty()) {
      command.slot = static_cast<uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      command.slot = free_slots_.back();
      free_slots_.pop_back();
    }
    command.ticket = next_ticket_++;
    Slot& slot = slots_[command.slot];
    slot.state = Slot::State::kBusy;
    slot.ticket = command.ticket;
    Send(command);
  }
  return std::make_unique<Matcher>(shared_from_this(), command.slot);
}

bool Grammar::alive() const {
  absl::MutexLock lock(&mu_);
  return alive_;
}

void Grammar::Append(uint32_t slot, int32_t token) {
  absl::MutexLock lock(&mu_);
  slots_[slot].state = Slot::State::kBusy;
  MatcherCommand command;
  command.op = MatcherCommand::Op::kAppend;
  command.slot = slot;
  command.ticket = slots_[slot].ticket;
  command.count = token;
  Send(command);
}

absl::StatusOr<TokenMask> Grammar::Await(uint32_t slot, absl::Duration patience) {
  const absl::Time until = absl::Now() + patience;
  do {
    absl::MutexLock lock(&mu_);
    TakeAnswers(slot);
    if (!alive_ || slots_[slot].state == Slot::State::kAnswered) return Answer(slot);
  } while (AwaitReadable(socket_, until));
  return TooSlow();
}

void Grammar::Close(uint32_t slot) {
  absl::MutexLock lock(&mu_);
  MatcherCommand command;
  command.op = MatcherCommand::Op::kClose;
  command.slot = slot;
  command.ticket = slots_[slot].ticket;
  command.count = 0;
  Send(command);
  slots_[slot].state = Slot::State::kFree;
  free_slots_.push_back(slot);
}

void Grammar::Send(const MatcherCommand& command) {
  if (!alive_) return;
  ssize_t sent;
  do {
    sent = send(socket_.get(), &command, command.num_bytes(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) alive_ = false;
}

void Grammar::TakeAnswers(uint32_t slot) {
  while (alive_ && slots_[slot].state == Slot::State::kBusy) {
    MatcherReply reply;
    const ssize_t received = recv(socket_.get(), &reply, sizeof(reply), MSG_DONTWAIT);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (received != ssize_t{sizeof(reply)} || reply.slot >= slots_.size()) {
      alive_ = false;
      return;
    }
    Slot& answered = slots_[reply.slot];
    if (answered.ticket != reply.ticket || answered.state != Slot::State::kBusy) continue;
    answered.state = Slot::State::kAnswered;
    answered.result = reply.result;
  }
}

absl::StatusOr<TokenMask> Grammar::Answer(uint32_t slot) const {
  if (slots_[slot].state != Slot::State::kAnswered) return TooSlow();
  switch (slots_[slot].result) {
    case MatcherReply::Result::kMask:
      break;
    case MatcherReply::Result::kDeadEnd:
      return absl::InvalidArgumentError(
          "structured: no token may come next, and the output is not complete");
    case MatcherReply::Result::kRefused:
      return absl::InvalidArgumentError("structured: allows special tokens, which no text holds");
  }
  const auto* const masks = reinterpret_cast<const uint32_t*>(memory_.data());
  return TokenMask(masks + slot * num_words_, num_words_);
}

}  // namespace adamoe
