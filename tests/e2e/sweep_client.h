#ifndef QSWEEP_TESTS_E2E_SWEEP_CLIENT_H_
#define QSWEEP_TESTS_E2E_SWEEP_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "common/base/mutex.h"
#include "common/rpc/coordinator_client.h"
#include "tests/e2e/ledger.h"

namespace qsweep::testing {

// A user on a thread of its own: submits one job after the other and watches
// each to its end, whatever happens to the coordinator. Repeats a submit with
// its UUID until it is answered, resumes a watch from the last number it saw,
// and retries a job that failed because its tasks ran out of attempts. Writes
// what it was told, and gaps among the numbers, into the ledger. Thread-safe.
class SweepClient {
 public:
  // job: the i-th request; its corpus is stored. ledger outlives the client.
  SweepClient(const Endpoint& endpoint,
              std::function<v1::SubmitJobRequest(int)> job, Ledger& ledger);
  ~SweepClient();  // gives up what runs

  // Submits no more jobs.
  void Stop();
  // Stop was called and the last job has succeeded.
  bool finished() const;
  int jobs() const;  // that have succeeded

 private:
  void Run();
  // False: it is time to give up.
  bool RunJob(int index);
  bool Submit(const v1::SubmitJobRequest& request);
  // Where the events of a job have been seen to.
  struct Position {
    uint64_t seq = 0;
    uint64_t job_seq = 0;
  };
  // Until the job or the stream ends.
  absl::Status Watch(const std::string& job, Position& position);
  bool Pause();  // false: it is time to give up
  void NewClient();

  const Endpoint endpoint_;
  const std::function<v1::SubmitJobRequest(int)> job_;
  Ledger& ledger_;
  std::unique_ptr<CoordinatorClient> client_;  // the thread's

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  int jobs_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_E2E_SWEEP_CLIENT_H_
