#ifndef QSWEEP_COORDINATOR_COMMIT_GATHER_H_
#define QSWEEP_COORDINATOR_COMMIT_GATHER_H_

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/mutex.h"
#include "coordinator/loop.h"
#include "qsweep/v1/worker.pb.h"

namespace qsweep {

// The answers of a request with several parts, which are calls of their own:
// one that is refused does not hold up the others. Thread-safe: a part is
// refused on the caller's thread, answered on the loop's.
class CommitGather {
 public:
  CommitGather(int num_parts, Reply<v1::CommitResultResponse> reply)
      : reply_(std::move(reply)), waiting_(num_parts) {
    for (int i = 0; i < num_parts; ++i) {
      response_.add_results();
    }
  }

  // Once for each index in [0, num_parts). The last one replies: with every
  // part, or with the error of one.
  void Add(int index, absl::StatusOr<v1::CommitResultResponse::One> one) {
    absl::StatusOr<v1::CommitResultResponse> whole;
    {
      MutexLock lock(mutex_);
      if (one.ok()) {
        *response_.mutable_results(index) = *std::move(one);
      } else {
        status_ = one.status();
      }
      if (--waiting_ > 0) {
        return;
      }
      if (status_.ok()) {
        whole = std::move(response_);
      } else {
        whole = status_;
      }
    }
    reply_(std::move(whole));
  }

 private:
  const Reply<v1::CommitResultResponse> reply_;

  Mutex mutex_;
  v1::CommitResultResponse response_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  int waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_COMMIT_GATHER_H_
