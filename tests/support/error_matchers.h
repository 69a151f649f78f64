#ifndef QSWEEP_TESTS_SUPPORT_ERROR_MATCHERS_H_
#define QSWEEP_TESTS_SUPPORT_ERROR_MATCHERS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"

#include "common/base/error.h"

namespace qsweep::testing {

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& value) {
  return value.status();
}

// "QS1010"; "" for a status without a code, "OK" for none.
template <typename StatusLike>
std::string CodeOf(const StatusLike& value) {
  const absl::Status& status = StatusOf(value);
  if (status.ok()) {
    return "OK";
  }
  const auto info = GetErrorInfo(status);
  return info ? info->code : "";
}

template <typename StatusLike>
std::string FieldOf(const StatusLike& value) {
  const auto info = GetErrorInfo(StatusOf(value));
  return info ? info->field : "";
}

template <typename StatusLike>
std::string HintOf(const StatusLike& value) {
  const auto info = GetErrorInfo(StatusOf(value));
  return info ? info->hint : "";
}

}  // namespace qsweep::testing

// Fails, and says why, unless the Status or StatusOr is OK.
#define QSWEEP_ASSERT_OK(expr) \
  ASSERT_EQ(::qsweep::testing::StatusOf(expr), absl::OkStatus())
#define QSWEEP_EXPECT_OK(expr) \
  EXPECT_EQ(::qsweep::testing::StatusOf(expr), absl::OkStatus())

#endif  // QSWEEP_TESTS_SUPPORT_ERROR_MATCHERS_H_
