#include "server/structured/fork_server.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/structured/compile.h"
#include "server/structured/grammar_process.h"

namespace adamoe {
namespace {

absl::Status Gone() { return absl::InternalError("the process that starts grammars is gone"); }

// Each token's length and bytes, one after the other.
absl::StatusOr<SharedMemory> Pack(const Vocabulary& vocabulary) {
  size_t num_bytes = 1;  // nothing cannot be mapped
  for (const std::string& token : vocabulary) num_bytes += sizeof(uint32_t) + token.size();
  ASSIGN_OR_RETURN(SharedMemory memory, SharedMemory::Make(num_bytes));
  char* out = memory.data();
  for (const std::string& token : vocabulary) {
    const auto length = static_cast<uint32_t>(token.size());
    std::memcpy(out, &length, sizeof(length));
    std::memcpy(out + sizeof(length), token.data(), token.size());
    out += sizeof(length) + token.size();
  }
  return memory;
}

Vocabulary Unpack(const SharedMemory& memory) {
  Vocabulary vocabulary;
  const char* const end = memory.data() + memory.size() - 1;
  for (const char* in = memory.data(); in < end;) {
    uint32_t length;
    std::memcpy(&length, in, sizeof(length));
    vocabulary.emplace_back(in + sizeof(length), length);
    in += sizeof(length) + length;
  }
  return vocabulary;
}

// Signals for the server's process group are the server's own business: it closes the sockets when
// it ends. Children are not waited for.
void LeaveServer() {
  prctl(PR_SET_NAME, "adamoe_forks");
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_IGN);
  std::signal(SIGCHLD, SIG_IGN);
  mallopt(M_ARENA_MAX, 1);  // a second one would count against a grammar's memory
  const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  dup2(null.get(), STDIN_FILENO);
  dup2(null.get(), STDOUT_FILENO);
}

[[noreturn]] void Serve(const Fd& socket) {
  LeaveServer();
  Fd vocabulary_file;
  if (!ReceiveFds(socket, &vocabulary_file, 1)) _exit(0);
  const auto packed = SharedMemory::Map(std::move(vocabulary_file));
  if (!packed.ok()) _exit(1);
  const xgrammar::TokenizerInfo vocabulary = MakeTokenizerInfo(Unpack(*packed));
  Fd fds[2];
  while (ReceiveFds(socket, fds, 2)) {
    if (fork() == 0) {
      const int own = socket.get();
      close(own);
      const auto memory = SharedMemory::Map(std::move(fds[1]));
      if (!memory.ok()) _exit(1);
      RunGrammarProcess(fds[0], *memory, vocabulary);
    }
    for (Fd& fd : fds) fd.Close();
  }
  _exit(0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ForkServer>> ForkServer::Start() {
  ASSIGN_OR_RETURN(SocketPair sockets, MakeSocketPair());
  const pid_t pid = fork();
  if (pid < 0) return absl::ResourceExhaustedError(absl::StrCat("fork: ", std::strerror(errno)));
  if (pid == 0) {
    sockets.ours.Close();
    Serve(sockets.theirs);
  }
  return std::unique_ptr<ForkServer>(new ForkServer(std::move(sockets.ours), pid));
}

ForkServer::~ForkServer() {
  socket_.Close();
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

absl::Status ForkServer::SetVocabulary(const Vocabulary& vocabulary) {
  ASSIGN_OR_RETURN(const SharedMemory packed, Pack(vocabulary));
  const int fd = packed.file().get();
  return SendFds(socket_, &fd, 1) ? absl::OkStatus() : Gone();
}

absl::Status ForkServer::Fork(const Fd& socket, const SharedMemory& memory) {
  const int fds[] = {socket.get(), memory.file().get()};
  return SendFds(socket_, fds, 2) ? absl::OkStatus() : Gone();
}

}  // namespace adamoe
