#include "server/http/tls_context.h"

#include <utility>  // for Boost.Asio 1.74, which uses std::exchange without it
//
#include <openssl/ssl.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/context.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace adamoe {

absl::StatusOr<std::shared_ptr<TlsContext>> MakeTlsContext(const TlsMaterial& material) {
  namespace ssl = boost::asio::ssl;
  const auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  boost::system::error_code error;
  const auto check = [&error](const char* what) {
    if (!error) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("TLS: ", what, ": ", error.message()));
  };
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  // A session that is taken up again would not be checked against new files.
  SSL_CTX_set_session_cache_mode(context->native_handle(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context->native_handle(), SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_num_tickets(context->native_handle(), 0);
  context->use_certificate_chain(boost::asio::buffer(material.certificates), error);
  RETURN_IF_ERROR(check("certificates"));
  context->use_private_key(boost::asio::buffer(material.private_key), ssl::context::pem, error);
  RETURN_IF_ERROR(check("key"));
  if (material.client_ca.empty()) return context;
  context->add_certificate_authority(boost::asio::buffer(material.client_ca), error);
  RETURN_IF_ERROR(check("client CA"));
  context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
  RETURN_IF_ERROR(check("client certificates"));
  return context;
}

absl::StatusOr<std::shared_ptr<TlsContext>> CurrentTlsContext::Get() {
  auto current = files_.current();
  if (current == material_) return context_;
  ASSIGN_OR_RETURN(context_, MakeTlsContext(*current));
  material_ = std::move(current);
  return context_;
}

}  // namespace adamoe
