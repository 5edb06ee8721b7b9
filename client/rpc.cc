#include "client/rpc.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace adamoe {
namespace {

// What the details add to the message; details that are missing or unreadable add nothing.
std::vector<std::string> DescribeDetails(const std::string& serialized,
                                         const std::string& message) {
  std::vector<std::string> parts;
  google::rpc::Status details;
  if (serialized.empty() || !details.ParseFromString(serialized)) return parts;
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        const bool said = message.find(violation.description()) != std::string::npos;
        parts.push_back(
            said ? absl::StrCat("field ", violation.field())
                 : absl::StrCat("field ", violation.field(), ": ", violation.description()));
      }
    } else if (any.UnpackTo(&retry)) {
      const absl::Duration delay = absl::Seconds(retry.retry_delay().seconds()) +
                                   absl::Nanoseconds(retry.retry_delay().nanos());
      parts.push_back(absl::StrCat("retry after ", absl::FormatDuration(delay)));
    }
  }
  return parts;
}

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;

// Adds a token to the metadata of a call.
class TokenInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit TokenInterceptor(const std::string& token) : token_(token) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace("authorization", absl::StrCat("Bearer ", token_));
    }
    methods->Proceed();
  }

 private:
  const std::string& token_;
};

class TokenInterceptorFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit TokenInterceptorFactory(std::string token) : token_(std::move(token)) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo*) override {
    return new TokenInterceptor(token_);  // gRPC's to delete; the channel keeps this factory
  }

 private:
  const std::string token_;
};

}  // namespace

std::shared_ptr<grpc::Channel> Connect(const std::string& target) {
  return Connect(target, grpc::InsecureChannelCredentials(), "");
}

std::shared_ptr<grpc::Channel> Connect(const std::string& target,
                                       const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                                       std::string token) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
  if (!token.empty()) {
    interceptors.push_back(std::make_unique<TokenInterceptorFactory>(std::move(token)));
  }
  return grpc::experimental::CreateCustomChannelWithInterceptors(target, credentials, arguments,
                                                                 std::move(interceptors));
}

void SetTimeout(absl::Duration timeout, grpc::ClientContext* context) {
  if (timeout != absl::InfiniteDuration()) {
    context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  std::string message = status.error_message();
  const std::vector<std::string> details = DescribeDetails(status.error_details(), message);
  if (!details.empty()) absl::StrAppend(&message, " (", absl::StrJoin(details, "; "), ")");
  // gRPC and Abseil number their codes alike.
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrReplaceAll(message, {{"\n", " "}, {"\r", " "}}));
}

std::string StatusLine(const absl::Status& status) {
  return absl::StrCat(absl::StatusCodeToString(status.code()), ": ", status.message());
}

}  // namespace adamoe
