#include "server/security/loopback.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace adamoe {
namespace {

bool IsLoopbackV4(const unsigned char* address) { return address[0] == 127; }

bool IsLoopbackAddress(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return IsLoopbackV4(reinterpret_cast<const unsigned char*>(&v4.sin_addr));
  }
  if (address.sa_family != AF_INET6) return false;
  const in6_addr& v6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && IsLoopbackV4(&v6.s6_addr[12]));
}

}  // namespace

absl::StatusOr<bool> IsLoopback(const std::string& host) {
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const std::string name = bracketed ? host.substr(1, host.size() - 2) : host;
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | (bracketed ? AI_NUMERICHOST : 0);
  addrinfo* addresses = nullptr;
  const int error = getaddrinfo(name.c_str(), nullptr, &hints, &addresses);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("'", host, "' stands for no address: ", gai_strerror(error)));
  }
  const auto closer = absl::MakeCleanup([addresses] { freeaddrinfo(addresses); });
  for (const addrinfo* entry = addresses; entry != nullptr; entry = entry->ai_next) {
    if (!IsLoopbackAddress(*entry->ai_addr)) return false;
  }
  return true;
}

}  // namespace adamoe
