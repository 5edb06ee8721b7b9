// The files TLS needs, checked as a whole before anything is served with them, and read again when
// they change. Thread-safe.
#ifndef ADAMOE_SERVER_SECURITY_TLS_FILES_H_
#define ADAMOE_SERVER_SECURITY_TLS_FILES_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace adamoe {

struct TlsPaths {
  std::string certificate_file;  // the server's own first, then those that signed it
  std::string key_file;
  std::string client_ca_file;  // empty: clients need no certificate
};

// What the files hold: PEM.
struct TlsMaterial {
  std::string certificates;
  std::string private_key;
  std::string client_ca;  // empty: clients need no certificate
  absl::Time expiry;      // of the server's own certificate
};

// INVALID_ARGUMENT (or why a file cannot be read) names the flag and the file: not PEM, an
// encrypted key, a key of another certificate, a key too weak to be used.
absl::StatusOr<TlsMaterial> ReadTlsFiles(const TlsPaths& paths);

class TlsFiles {
 public:
  // Errors as ReadTlsFiles'.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Open(TlsPaths paths);

  // What to greet clients with now. Never null; the same object as long as the files are the same.
  std::shared_ptr<const TlsMaterial> current() const ABSL_LOCKS_EXCLUDED(mu_);

  // Reads the files again. True: they hold something else than before, which is current from now
  // on. Errors leave what was current.
  absl::StatusOr<bool> Reload() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  explicit TlsFiles(TlsPaths paths) : paths_(std::move(paths)) {}

  const TlsPaths paths_;
  mutable absl::Mutex mu_;
  std::shared_ptr<const TlsMaterial> current_ ABSL_GUARDED_BY(mu_) =
      std::make_shared<TlsMaterial>();
};

}  // namespace adamoe

#endif  // ADAMOE_SERVER_SECURITY_TLS_FILES_H_
