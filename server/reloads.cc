#include "server/reloads.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace adamoe {

Reloads::Reloads(TlsFiles* tls, Authenticator* authenticator, ServerMetrics* metrics)
    : tls_(tls), authenticator_(authenticator), metrics_(metrics) {
  if (tls_ != nullptr) {
    metrics_->SetReloadSuccessful(watched_tls_.what, true);
    metrics_->SetCertificateExpiry(tls_->current()->expiry);
  }
  if (authenticator_ != nullptr) metrics_->SetReloadSuccessful(watched_tokens_.what, true);
}

void Reloads::Run() {
  if (tls_ != nullptr && Reload(tls_->Reload(), watched_tls_)) {
    const absl::Time expiry = tls_->current()->expiry;
    metrics_->SetCertificateExpiry(expiry);
    spdlog::info("TLS: new certificates, the server's is good until {}",
                 absl::FormatTime(expiry, absl::UTCTimeZone()));
  }
  if (authenticator_ != nullptr && Reload(authenticator_->Reload(), watched_tokens_)) {
    spdlog::info("tokens: the file has changed, {} are valid", authenticator_->num_tokens());
  }
}

bool Reloads::Reload(absl::StatusOr<bool> result, Watched& watched) {
  const std::string problem = result.ok() ? "" : std::string(result.status().message());
  if (problem != watched.problem) {
    // First: whoever has read the line finds the metric changed.
    metrics_->SetReloadSuccessful(watched.what, problem.empty());
    if (!problem.empty()) spdlog::error("{}; the last good ones stay in use", problem);
    if (problem.empty()) spdlog::info("{}: the files can be used again", watched.what);
    watched.problem = problem;
  }
  return result.ok() && *result;
}

}  // namespace adamoe
