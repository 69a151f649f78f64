#ifndef QSWEEP_WORKER_AGENT_WORKER_DIRECTORY_H_
#define QSWEEP_WORKER_AGENT_WORKER_DIRECTORY_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/ids.h"

namespace qsweep {

// A worker's folder, held by one process: identity and lock. Files: `lock`
// (flock), `worker_uuid`, `boot_seq`, `worker.pid` ("PID START_TICKS", the
// second as in /proc/PID/stat).
class WorkerDirectory {
 public:
  // Makes the folder and what is missing in it; each call is a new start.
  // FAILED_PRECONDITION: QS4003 another process holds it; QS7002 the folder or
  // a file cannot be made, or worker_uuid or boot_seq is damaged.
  static absl::StatusOr<WorkerDirectory> Open(const std::string& path);
  ~WorkerDirectory();  // removes worker.pid, lets go of the lock
  WorkerDirectory(WorkerDirectory&& other) noexcept;
  WorkerDirectory& operator=(WorkerDirectory&&) = delete;

  // From the next start on the worker is this one. Thread-safe. As for Open:
  // QS7002.
  absl::Status KeepIdentity(const WorkerUuid& worker) const;

  const std::string& path() const { return path_; }
  const WorkerUuid& worker() const {
    return worker_;
  }                                                // the same at each start
  const BootId& boot() const { return boot_; }     // of this start
  uint64_t boot_seq() const { return boot_seq_; }  // grows at each start

 private:
  WorkerDirectory(std::string path, int lock)
      : path_(std::move(path)), lock_(lock) {}

  std::string path_;
  int lock_ = -1;
  WorkerUuid worker_;
  BootId boot_;
  uint64_t boot_seq_ = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_WORKER_DIRECTORY_H_
