#include "coordinator/store/wal_alarm.h"

#include "absl/strings/str_cat.h"

namespace qsweep {

std::optional<std::string> WalWarning(int64_t bytes) {
  if (bytes <= kWalAlarmBytes) {
    return std::nullopt;
  }
  return absl::StrCat("the write-ahead log has ", bytes >> 20,
                      " MiB: a query, an export, a backup or another program "
                      "reads an old state of the database, and until that "
                      "ends it grows with each commit");
}

std::optional<std::string> WalAlarm::Watch(int64_t bytes) {
  if (bytes > next_) {
    next_ = 2 * bytes;
    return WalWarning(bytes);
  }
  if (bytes <= kWalAlarmBytes && next_ > kWalAlarmBytes) {
    next_ = kWalAlarmBytes;
    return "the write-ahead log is used from its beginning again";
  }
  return std::nullopt;
}

}  // namespace qsweep
