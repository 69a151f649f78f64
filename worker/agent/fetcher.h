#ifndef QSWEEP_WORKER_AGENT_FETCHER_H_
#define QSWEEP_WORKER_AGENT_FETCHER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/digest.h"
#include "common/rpc/retry.h"
#include "common/rpc/worker_client.h"
#include "qsweep/v1/engine.pb.h"

namespace qsweep {

// Brings what a task needs to this machine: the texts of its languages, from
// DIR/cache or the coordinator, and the place of its model and of ready
// checkpoints. Blocks; for one
// thread.
class Fetcher {
 public:
  // client must outlive it. sleeper: false ends the repeats of a fetch.
  Fetcher(std::string cache_directory, WorkerClient* client, Sleeper sleeper);

  // The task with its inputs. NOT_FOUND QS3001: the model, or a ready
  // checkpoint, is not on this machine. UNAVAILABLE QS4001: no answer for two
  // minutes. Otherwise as WorkerClient::GetArtifact. DATA_LOSS QS4042: an
  // artifact is not what the task says.
  absl::StatusOr<std::shared_ptr<const v1::EngineRun>> Fetch(
      const v1::TaskSpec& task);

 private:
  absl::StatusOr<std::string> GetArtifact(const Digest& digest);
  absl::Status StoreInCache(const std::string& path, const std::string& bytes);

  const std::string cache_directory_;
  WorkerClient* const client_;
  const Sleeper sleeper_;
  Random random_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_AGENT_FETCHER_H_
