#include "coordinator/core/worker_state_check.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

constexpr size_t kHelloBytesMax = 64 << 10;
constexpr size_t kBytesMax = 4 << 20;  // partial metrics of two tasks
constexpr double kUsdPerHourMax = 1e6;
constexpr double kGflopsMax = 1e12;
constexpr uint64_t kMemoryMax = uint64_t{1} << 50;  // bytes
// What an id or a counter is kept in.
constexpr uint64_t kNumberMax = std::numeric_limits<int64_t>::max();
constexpr uint64_t kLifetimeMaxMs = uint64_t{1} << 50;

// A hello is stored, a report kept in memory.
absl::Status CheckSize(const v1::WorkerState& report) {
  const size_t hello = report.hello().ByteSizeLong();
  const size_t all = report.ByteSizeLong();
  if (hello <= kHelloBytesMax && all <= kBytesMax) {
    return absl::OkStatus();
  }
  return MakeError(
      kBadValue,
      absl::StrCat("a message of ", all, " bytes, of which ", hello,
                   " are hello; at most ", kBytesMax, " and ", kHelloBytesMax),
      hello > kHelloBytesMax ? "hello" : "");
}

absl::Status CheckBetween(double value, double most, const std::string& field) {
  if (value >= 0 && value <= most) {  // a NaN is not
    return absl::OkStatus();
  }
  return MakeError(kBadValue,
                   absl::StrCat(field, " is ", value, ", not 0 to ", most),
                   field);
}

absl::Status CheckAtMost(uint64_t value, uint64_t most,
                         const std::string& field) {
  if (value <= most) {
    return absl::OkStatus();
  }
  return MakeError(kBadValue,
                   absl::StrCat(field, " is ", value, ", more than ", most),
                   field);
}

absl::Status CheckFinite(double value, const std::string& field) {
  if (std::isfinite(value)) {
    return absl::OkStatus();
  }
  return MakeError(kBadValue, absl::StrCat(field, " is ", value), field);
}

absl::Status CheckHello(const v1::Hello& hello) {
  QSWEEP_RETURN_IF_ERROR(
      CheckBetween(hello.usd_per_hour(), kUsdPerHourMax, "hello.usd_per_hour"));
  QSWEEP_RETURN_IF_ERROR(
      CheckAtMost(hello.boot_seq(), kNumberMax, "hello.boot_seq"));
  if (hello.devices_size() > kDevicesMax) {
    return MakeError(kBadValue,
                     absl::StrCat("a worker of ", hello.devices_size(),
                                  " devices; at most ", kDevicesMax),
                     "hello.devices", "Run one worker for each device.");
  }
  for (int i = 0; i < hello.devices_size(); ++i) {
    const std::string field = absl::StrCat("hello.devices[", i, "].");
    QSWEEP_RETURN_IF_ERROR(CheckBetween(hello.devices(i).gflops(), kGflopsMax,
                                        absl::StrCat(field, "gflops")));
    QSWEEP_RETURN_IF_ERROR(CheckAtMost(hello.devices(i).memory_bytes(),
                                       kMemoryMax,
                                       absl::StrCat(field, "memory_bytes")));
  }
  return absl::OkStatus();
}

absl::Status CheckHeld(const v1::HeldTask& held, const std::string& field) {
  const v1::TaskProgress& progress = held.progress();
  QSWEEP_RETURN_IF_ERROR(
      CheckAtMost(held.task_id(), kNumberMax, absl::StrCat(field, "task_id")));
  QSWEEP_RETURN_IF_ERROR(
      CheckAtMost(held.epoch(), kNumberMax, absl::StrCat(field, "epoch")));
  if (progress.phase() < v1::TASK_PHASE_FETCH ||
      progress.phase() > v1::TASK_PHASE_COMMIT) {
    return MakeError(
        kBadValue,
        absl::StrCat("task ", held.task_id(), " is in phase ",
                     static_cast<int>(progress.phase()), ", which is none"),
        absl::StrCat(field, "progress.phase"));
  }
  QSWEEP_RETURN_IF_ERROR(CheckFinite(progress.fraction(),
                                     absl::StrCat(field, "progress.fraction")));
  for (const v1::PartialMetric& partial : progress.partial()) {
    for (const double sum : {partial.nll_sum(), partial.nll_fp_sum()}) {
      QSWEEP_RETURN_IF_ERROR(
          CheckFinite(sum, absl::StrCat(field, "progress.partial")));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckWorkerState(const v1::WorkerState& report) {
  QSWEEP_RETURN_IF_ERROR(CheckSize(report));
  QSWEEP_RETURN_IF_ERROR(CheckHello(report.hello()));
  QSWEEP_RETURN_IF_ERROR(CheckAtMost(report.lifetime_left_ms(), kLifetimeMaxMs,
                                     "lifetime_left_ms"));
  for (int i = 0; i < report.held_size(); ++i) {
    QSWEEP_RETURN_IF_ERROR(
        CheckHeld(report.held(i), absl::StrCat("held[", i, "].")));
  }
  return absl::OkStatus();
}

}  // namespace qsweep
