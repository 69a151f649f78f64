#include "worker/engine/thread_pool.h"

#include <atomic>
#include <cstddef>
#include <set>
#include <stop_token>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace qsweep
