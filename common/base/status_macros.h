#ifndef QSWEEP_COMMON_BASE_STATUS_MACROS_H_
#define QSWEEP_COMMON_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Upstream's names with our prefix; Debian 12's Abseil does not have them yet.

// Returns from the enclosing function when expr, an absl::Status, is not OK.
#define QSWEEP_RETURN_IF_ERROR(expr)                                  \
  do {                                                                \
    if (absl::Status qsweep_status_ = (expr); !qsweep_status_.ok()) { \
      return qsweep_status_;                                          \
    }                                                                 \
  } while (false)

// Declares or assigns lhs from expr, an absl::StatusOr, or returns its status.
#define QSWEEP_ASSIGN_OR_RETURN(lhs, expr)                                  \
  QSWEEP_ASSIGN_OR_RETURN_IMPL_(QSWEEP_CONCAT_(qsweep_statusor_, __LINE__), \
                                lhs, expr)

#define QSWEEP_CONCAT_INNER_(a, b) a##b
#define QSWEEP_CONCAT_(a, b) QSWEEP_CONCAT_INNER_(a, b)
#define QSWEEP_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expr) \
  auto statusor = (expr);                                  \
  if (!statusor.ok()) {                                    \
    return std::move(statusor).status();                   \
  }                                                        \
  lhs = *std::move(statusor)

#endif  // QSWEEP_COMMON_BASE_STATUS_MACROS_H_
