#ifndef QSWEEP_TESTS_E2E_RECORDING_WORKER_H_
#define QSWEEP_TESTS_E2E_RECORDING_WORKER_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/rpc/worker_client.h"
#include "tests/e2e/ledger.h"

namespace qsweep::testing {

// A worker on a thread of the test, which survives what the others do not: it
// keeps each result until it is answered, and writes the answers into the
// ledger. Now and then it is the worker one would not want: it sends a result
// again, or one for which its lease has run out. Thread-safe.
class RecordingWorker {
 public:
  // task_time: what a task takes. ledger outlives the worker.
  RecordingWorker(const Endpoint& endpoint, absl::Duration heartbeat,
                  absl::Duration task_time, uint64_t seed, Ledger& ledger);
  ~RecordingWorker();  // leaves without a goodbye

 private:
  void Run();
  void Attach();
  v1::WorkerState MakeState();
  void TakeLease(const v1::DesiredState& desired);
  void SendResult();
  bool stopping() {
    MutexLock lock(mutex_);
    return stopping_;
  }

  const Endpoint endpoint_;
  const absl::Duration heartbeat_;
  const absl::Duration task_time_;
  Ledger& ledger_;

  // The thread's.
  Random random_;
  v1::Hello hello_;
  std::unique_ptr<WorkerClient> client_;
  std::unique_ptr<AttachStream> stream_;
  std::string session_id_;
  std::string model_digest_;  // of the last task
  uint64_t beat_seq_ = 0;
  uint64_t ack_seq_ = 0;
  std::optional<v1::DesiredLease> running_;
  std::string granted_in_;  // session
  SteadyTime run_until_;    // or when its result is sent again
  std::optional<v1::ResultEnvelope> result_;
  std::optional<v1::ResultEnvelope> last_result_;  // answered already

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<v1::DesiredState> desired_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_E2E_RECORDING_WORKER_H_
