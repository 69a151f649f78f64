#include "worker/engine/thread_pool.h"

#include <atomic>
#include <cstddef>
#include <pthread.h>
#include <set>
#include <stop_token>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"
#include "worker/engine/engine.h"

namespace qsweep {
namespace {

TEST(ThreadPool, RunsEachItemOnce_OverManyBatches) {
  ThreadPool pool(4);
  for (const int64_t count : {0, 1, 3, 1000, 2, 500}) {
    std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
    const absl::Status status = pool.ParallelFor(
        count, std::stop_token(), [&](int64_t index, int thread) {
          EXPECT_GE(thread, 0);
          EXPECT_LT(thread, 4);
          ++runs[static_cast<size_t>(index)];
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok());
    for (const std::atomic<int>& run : runs) {
      EXPECT_EQ(run, 1);
    }
  }
}

TEST(ThreadPool, NeverRunsTwoItemsUnderOneThreadNumber) {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> inside(3);
  const absl::Status status =
      pool.ParallelFor(2000, std::stop_token(), [&](int64_t, int thread) {
        std::atomic<int>& mine = inside[static_cast<size_t>(thread)];
        EXPECT_EQ(++mine, 1);
        --mine;
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok());
}

TEST(ThreadPool, ReturnsTheFirstItemsError_AndStartsNoOthers) {
  ThreadPool pool(1);
  int started = 0;
  const absl::Status status =
      pool.ParallelFor(100, std::stop_token(), [&](int64_t index, int) {
        ++started;
        return index < 7 ? absl::OkStatus()
                         : absl::DataLossError(absl::StrCat("item ", index));
      });
  EXPECT_EQ(status, absl::DataLossError("item 7"));
  EXPECT_EQ(started, 8);
}

TEST(ThreadPool, ReturnsCancelled_OnceStopIsRequested) {
  ThreadPool pool(2);
  std::stop_source stop;
  std::atomic<int> started = 0;
  const absl::Status status =
      pool.ParallelFor(1000, stop.get_token(), [&](int64_t, int) {
        if (++started == 10) {
          stop.request_stop();
        }
        return absl::OkStatus();
      });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_LT(started, 20);
}

// While it lives no thread can be started: a stack would need all addresses.
class NoMoreThreads {
 public:
  NoMoreThreads() {
    pthread_attr_init(&attributes_);
    pthread_getattr_default_np(&before_);
    pthread_attr_setstacksize(&attributes_, size_t{1} << 47);
    EXPECT_EQ(pthread_setattr_default_np(&attributes_), 0);
  }
  ~NoMoreThreads() {
    EXPECT_EQ(pthread_setattr_default_np(&before_), 0);
    pthread_attr_destroy(&before_);
    pthread_attr_destroy(&attributes_);
  }
  NoMoreThreads(const NoMoreThreads&) = delete;
  NoMoreThreads& operator=(const NoMoreThreads&) = delete;

 private:
  pthread_attr_t attributes_;
  pthread_attr_t before_;
};

TEST(ThreadPool, WorksWithTheThreadsThereAre_WhenNoMoreCanBeStarted) {
  const NoMoreThreads no_more;
  ThreadPool pool(4);
  EXPECT_EQ(pool.num_threads(), 1);
  int runs = 0;
  QSWEEP_EXPECT_OK(pool.ParallelFor(7, std::stop_token(), [&](int64_t, int) {
    ++runs;
    return absl::OkStatus();
  }));
  EXPECT_EQ(runs, 7);
}

TEST(Engine, SaysHowManyThreadsThereAre_WhenNoMoreCanBeStarted) {
  const NoMoreThreads no_more;
  const absl::Status status =
      Engine::Create({.device = "cpu", .threads = 4}).status();
  EXPECT_EQ(testing::CodeOf(status), "QS1004");
  EXPECT_EQ(status.message(), "The system starts 1 of 4 threads.");
}

}  // namespace
}  // namespace qsweep
