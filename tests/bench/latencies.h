#ifndef QSWEEP_TESTS_BENCH_LATENCIES_H_
#define QSWEEP_TESTS_BENCH_LATENCIES_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "absl/time/time.h"

namespace qsweep::bench {

// Every duration that was seen; a benchmark has few enough to keep them all.
// Value.
class Latencies {
 public:
  void Add(absl::Duration latency) {
    ms_.push_back(absl::ToDoubleMilliseconds(latency));
  }
  void Add(const Latencies& other) {
    ms_.insert(ms_.end(), other.ms_.begin(), other.ms_.end());
  }

  size_t count() const { return ms_.size(); }
  // The least value that `part` of all do not exceed; 0 when there is none.
  double PercentileMs(double part) const {
    if (ms_.empty()) {
      return 0;
    }
    std::vector<double> sorted = ms_;
    const auto rank = static_cast<size_t>(
        std::ceil(part * static_cast<double>(sorted.size())));
    const auto at =
        sorted.begin() + static_cast<std::ptrdiff_t>(rank == 0 ? 0 : rank - 1);
    std::nth_element(sorted.begin(), at, sorted.end());
    return *at;
  }
  // How many lie at or below each bound and above the one before; the last
  // count is of those above all bounds.
  std::vector<size_t> Histogram(const std::vector<double>& bounds_ms) const {
    std::vector<size_t> counts(bounds_ms.size() + 1, 0);
    for (const double ms : ms_) {
      const auto bound =
          std::lower_bound(bounds_ms.begin(), bounds_ms.end(), ms);
      ++counts[static_cast<size_t>(bound - bounds_ms.begin())];
    }
    return counts;
  }

 private:
  std::vector<double> ms_;
};

}  // namespace qsweep::bench

#endif  // QSWEEP_TESTS_BENCH_LATENCIES_H_
