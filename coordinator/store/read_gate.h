#ifndef QSWEEP_COORDINATOR_STORE_READ_GATE_H_
#define QSWEEP_COORDINATOR_STORE_READ_GATE_H_

#include <cstdint>

#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "coordinator/store/wal_alarm.h"

namespace qsweep {

// Reads that overlap hold the write-ahead log for ever, though each of them is
// short: it begins anew only while nobody reads it. Above a size, new reads
// wait until those that run have ended and a checkpoint has emptied the log. A
// read of a minute holds it all the same, so nobody waits longer than `most`,
// and for ten times as long nobody waits again. Thread-safe.
class ReadGate {
 public:
  // most: a little more than an ordinary read may last.
  explicit ReadGate(int64_t closes_above_bytes = kWalAlarmBytes,
                    absl::Duration most = absl::Milliseconds(2500))
      : closes_above_bytes_(closes_above_bytes), most_(most) {}

  // Before a read begins: blocks while the gate is closed.
  void Wait();
  // The size of the log after a commit or a checkpoint; 0: all of it is in the
  // database.
  void Watch(int64_t bytes);
  bool closed() const;

 private:
  absl::Duration Left() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t closes_above_bytes_;
  const absl::Duration most_;
  mutable Mutex mutex_;
  CondVar changed_;
  SteadyTime closed_until_ ABSL_GUARDED_BY(mutex_);
  SteadyTime not_again_before_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_STORE_READ_GATE_H_
