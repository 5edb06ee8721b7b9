// Early return on an absl::Status that is not ok. (This Abseil ships no such macros.)
#ifndef ADAMOE_SERVER_BASE_STATUS_MACROS_H_
#define ADAMOE_SERVER_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// RETURN_IF_ERROR(Check(x));
#define RETURN_IF_ERROR(expr)                           \
  do {                                                  \
    if (absl::Status status_ = (expr); !status_.ok()) { \
      return status_;                                   \
    }                                                   \
  } while (false)

// ASSIGN_OR_RETURN(auto file, Open(path));
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL_(ASSIGN_OR_RETURN_NAME_(statusor_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_NAME_(a, b) ASSIGN_OR_RETURN_NAME2_(a, b)
#define ASSIGN_OR_RETURN_NAME2_(a, b) a##b
#define ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expr) \
  auto statusor = (expr);                           \
  if (!statusor.ok()) return statusor.status();     \
  lhs = *std::move(statusor)

#endif  // ADAMOE_SERVER_BASE_STATUS_MACROS_H_
