// What the server and a grammar process say to each other over a socket that keeps messages whole
// (SOCK_SEQPACKET); texts and masks lie in memory that both map.
#ifndef ADAMOE_SERVER_STRUCTURED_GRAMMAR_WIRE_H_
#define ADAMOE_SERVER_STRUCTURED_GRAMMAR_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

namespace adamoe {

// The first message. The text lies at the start of the shared memory.
struct CompileCommand {
  char syntax;  // GrammarText::Syntax
  uint64_t text_bytes;
  int64_t timeout_ms;
  uint64_t max_bytes;  // of memory, beside what the process has when it starts
  int64_t token_limit_ms;
};

// The answer to it.
struct CompileReply {
  int32_t code;  // absl::StatusCode
  uint64_t grammar_bytes;
  char message[512];  // ends with a 0
};

// Further messages. A matcher has a slot: its mask is the slot's share of the shared memory.
struct MatcherCommand {
  static constexpr size_t kMaxStops = 256;
  enum class Op : uint32_t { kOpen, kAppend, kClose };

  Op op;
  uint32_t slot;
  uint32_t ticket;           // of the matcher that has the slot
  int32_t count;             // kOpen: number of stop tokens; kAppend: the token
  int32_t stops[kMaxStops];  // only `count` of them are sent, with kOpen alone

  size_t num_bytes() const {
    return offsetof(MatcherCommand, stops) + (op == Op::kOpen ? count * sizeof(int32_t) : 0);
  }
};

// The answer to kOpen and kAppend.
struct MatcherReply {
  enum class Result : uint32_t {
    kMask,     // the mask is there
    kDeadEnd,  // nothing may come, and the output is not complete
    kRefused,  // the token may not come here
  };
  uint32_t slot;
  uint32_t ticket;
  Result result;
};

// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { Close(); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }

  int get() const { return fd_; }
  void Close();

 private:
  int fd_ = -1;
};

// Memory of a file without a name, mapped; what another process maps of the same file is the same
// memory.
class SharedMemory {
 public:
  // Of `num_bytes`, zeros. Errors of the system are RESOURCE_EXHAUSTED.
  static absl::StatusOr<SharedMemory> Make(size_t num_bytes);
  // All of a file that was made so.
  static absl::StatusOr<SharedMemory> Map(Fd file);
  ~SharedMemory();
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;

  char* data() const { return data_; }
  size_t size() const { return size_; }
  const Fd& file() const { return file_; }

 private:
  SharedMemory(Fd file, char* data, size_t size)
      : file_(std::move(file)), data_(data), size_(size) {}

  Fd file_;
  char* data_;
  size_t size_;
};

struct SocketPair {
  Fd ours;
  Fd theirs;
};
absl::StatusOr<SocketPair> MakeSocketPair();

// Sends `num_fds` descriptors with one byte. False when nobody is there to take them.
bool SendFds(const Fd& socket, const int* fds, size_t num_fds);
// Takes them, as many as were sent. False at the end of the stream, or when it is not these.
bool ReceiveFds(const Fd& socket, Fd* fds, size_t num_fds);

}  // namespace adamoe

#endif  // ADAMOE_SERVER_STRUCTURED_GRAMMAR_WIRE_H_
