#include "worker/engine/thread_pool.h"

#include <atomic>
#include <system_error>
#include <utility>

namespace qsweep {

struct ThreadPool::Batch {
  int64_t count = 0;
  std::stop_token stop;
  const Item* item = nullptr;
  std::atomic<int64_t> next = 0;
  std::atomic<bool> failed = false;
  Mutex mutex;
  int64_t failed_index ABSL_GUARDED_BY(mutex) = -1;
  absl::Status status ABSL_GUARDED_BY(mutex);

  void Fail(int64_t index, absl::Status error) {
    const MutexLock lock(mutex);
    failed = true;
    if (failed_index < 0 || index < failed_index) {
      failed_index = index;
      status = std::move(error);
    }
  }
};

ThreadPool::ThreadPool(int num_threads) {
  try {
    for (int thread = 1; thread < num_threads; ++thread) {
      threads_.emplace_back(
          [this, thread](std::stop_token stop) { Work(stop, thread); });
    }
  } catch (const std::system_error&) {
    // No more are to be had: num_threads() tells.
  }
}

ThreadPool::~ThreadPool() {
  for (std::jthread& thread : threads_) {
    thread.request_stop();
  }
  {
    const MutexLock lock(mutex_);
    wake_.NotifyAll();
  }
  threads_.clear();  // joins
}

void ThreadPool::RunItems(Batch& batch, int thread) {
  while (!batch.failed) {
    const int64_t index = batch.next.fetch_add(1);
    if (index >= batch.count) {
      return;
    }
    absl::Status status = batch.stop.stop_requested()
                              ? absl::CancelledError("The run was cancelled.")
                              : (*batch.item)(index, thread);
    if (!status.ok()) {
      batch.Fail(index, std::move(status));
    }
  }
}

void ThreadPool::Work(std::stop_token stop, int thread) {
  int64_t seen = 0;
  while (true) {
    Batch* batch = nullptr;
    {
      const MutexLock lock(mutex_);
      while (!stop.stop_requested() &&
             (batch_ == nullptr || batch_number_ == seen)) {
        wake_.Wait(mutex_);
      }
      if (stop.stop_requested()) {
        return;
      }
      seen = batch_number_;
      batch = batch_;
      ++working_;
    }
    RunItems(*batch, thread);
    const MutexLock lock(mutex_);
    if (--working_ == 0) {
      done_.NotifyOne();
    }
  }
}

absl::Status ThreadPool::ParallelFor(int64_t count, std::stop_token stop,
                                     const Item& item) {
  Batch batch;
  batch.count = count;
  batch.stop = std::move(stop);
  batch.item = &item;
  {
    const MutexLock lock(mutex_);
    batch_ = &batch;
    ++batch_number_;
    wake_.NotifyAll();
  }
  RunItems(batch, 0);
  {
    const MutexLock lock(mutex_);
    batch_ = nullptr;  // a thread that wakes late finds nothing
    while (working_ > 0) {
      done_.Wait(mutex_);
    }
  }
  const MutexLock lock(batch.mutex);
  return batch.status;
}

kernels::ParallelFor OnPool(ThreadPool& pool, std::stop_token stop) {
  return [&pool, stop = std::move(stop)](
             int64_t count, const std::function<void(int64_t)>& item) {
    return pool
        .ParallelFor(count, stop,
                     [&item](int64_t index, int) {
                       item(index);
                       return absl::OkStatus();
                     })
        .ok();
  };
}

}  // namespace qsweep
