#include "coordinator/service/refusal_log.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"

namespace qsweep {

int64_t RefusalLog::Take() {
  const SteadyTime now = clock_.SteadyNow();
  MutexLock lock(mutex_);
  ++untold_;
  const int64_t passed = (now - refilled_at_) / kInterval;
  if (passed > 0) {
    lines_left_ = static_cast<int>(
        std::min<int64_t>(kBurst, int64_t{lines_left_} + passed));
    refilled_at_ = now;
  }
  if (lines_left_ == 0) {
    return 0;
  }
  --lines_left_;
  return std::exchange(untold_, 0);
}

void RefusalLog::Add(const std::string& actor, absl::string_view method,
                     const absl::Status& why) {
  const int64_t count = Take();
  if (count == 0) {
    return;
  }
  const std::optional<ErrorInfo> info = GetErrorInfo(why);
  sink_({.actor = actor,
         .action = "refused",
         .subject = std::string(method),
         .detail = absl::StrCat(info ? info->code : "", " ", why.message()),
         .count = count});
}

}  // namespace qsweep
