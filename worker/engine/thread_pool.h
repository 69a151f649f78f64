#ifndef QSWEEP_WORKER_ENGINE_THREAD_POOL_H_
#define QSWEEP_WORKER_ENGINE_THREAD_POOL_H_

#include <cstdint>
#include <functional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

#include "common/base/mutex.h"
#include "common/base/stopped.h"
#include "worker/kernels/parallel_for.h"

namespace qsweep {

// The engine's compute threads: the caller's and num_threads - 1 of its own, or
// as many as the system starts. One ParallelFor at a time.
class ThreadPool {
 public:
  // What an item is given: its index, and which thread runs it, in
  // [0, num_threads), to pick buffers by.
  using Item = std::function<absl::Status(int64_t index, int thread)>;

  // What is computed does not depend on how many there are in the end.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Runs item(0 .. count - 1), each once, and returns when all are done. Items
  // start in order; what they compute must not depend on which thread runs
  // them. Returns CANCELLED once `stop` is requested, or an item's error (that
  // of the lowest index among those that failed); then items that have not
  // started are left out.
  absl::Status ParallelFor(int64_t count, std::stop_token stop,
                           const Item& item);

 private:
  struct Batch;

  void Work(std::stop_token stop, int thread);
  static void RunItems(Batch& batch, int thread);

  Mutex mutex_;
  CondVar wake_;
  CondVar done_;
  Batch* batch_ ABSL_GUARDED_BY(mutex_) = nullptr;
  int64_t batch_number_ ABSL_GUARDED_BY(mutex_) = 0;
  int working_ ABSL_GUARDED_BY(mutex_) = 0;  // own threads inside batch_
  std::vector<std::jthread> threads_;
};

// The same for the kernels, which are told to stop with `stop`. pool must
// outlive what is returned.
kernels::ParallelFor OnPool(ThreadPool& pool, std::stop_token stop);

// For what asks on its own thread whether to give up.
inline Stopped StoppedBy(std::stop_token stop) {
  return [stop = std::move(stop)] { return stop.stop_requested(); };
}

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_THREAD_POOL_H_
