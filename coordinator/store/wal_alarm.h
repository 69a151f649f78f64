#ifndef QSWEEP_COORDINATOR_STORE_WAL_ALARM_H_
#define QSWEEP_COORDINATOR_STORE_WAL_ALARM_H_

#include <cstdint>
#include <optional>
#include <string>

namespace qsweep {

// Twice what the log is cut back to when nobody holds it.
inline constexpr int64_t kWalAlarmBytes = int64_t{128} << 20;

// What a log of this size means; nothing up to kWalAlarmBytes.
std::optional<std::string> WalWarning(int64_t bytes);

// Says when the write-ahead log has grown too large, again each time it has
// doubled since, and when it is small again. Single-thread.
class WalAlarm {
 public:
  // bytes: after a commit, and a checkpoint that could not end it. What people
  // should be told.
  std::optional<std::string> Watch(int64_t bytes);

 private:
  int64_t next_ = kWalAlarmBytes;  // told above it
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_WAL_ALARM_H_
