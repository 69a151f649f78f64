#include "coordinator/service/parallel_for.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "common/base/host_cpus.h"

namespace qsweep {
namespace {

// More would take the machine from whoever else works on it.
constexpr size_t kMostThreads = 8;

}  // namespace

void ParallelFor(size_t count, const std::function<void(size_t)>& part) {
  std::atomic<size_t> next = 0;
  const auto run = [&] {
    for (size_t i = next++; i < count; i = next++) {
      part(i);
    }
  };
  const size_t threads =
      std::min({count, kMostThreads, static_cast<size_t>(AvailableHostCpus())});
  std::vector<std::jthread> helpers;
  for (size_t i = 1; i < threads; ++i) {
    helpers.emplace_back(run);
  }
  run();
}

}  // namespace qsweep
