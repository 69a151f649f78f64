#include "tests/sim/run_seeds.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <thread>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "tests/sim/world.h"

namespace qsweep::sim {
namespace {

constexpr size_t kViolationsMax = 5;

thread_local uint64_t running_seed = 0;

// Prints the seed of a failed check; the signal then ends the process.
void OnAbort(int) {
  char text[64];
  const int size = std::snprintf(text, sizeof text, "seed %llu: aborted\n",
                                 static_cast<unsigned long long>(running_seed));
  [[maybe_unused]] const auto written =
      write(STDERR_FILENO, text, static_cast<size_t>(size));
}

void AppendTally(const char* title, const Tally& tally, std::string& out) {
  absl::StrAppend(&out, title, "\n");
  for (const auto& [name, n] : tally.all()) {
    absl::StrAppendFormat(&out, "  %10d  %s\n", n, name);
  }
}

}  // namespace

SeedsResult RunSeeds(const SeedsOptions& options) {
  std::signal(SIGABRT, OnAbort);
  const SteadyTime began = Clock::Real().SteadyNow();
  Mutex mutex;
  SeedsResult total;
  std::atomic<uint64_t> next = options.first;
  std::atomic<bool> stop = false;
  const auto work = [&] {
    SeedsResult mine;
    for (uint64_t seed = next++; seed <= options.last && !stop; seed = next++) {
      running_seed = seed;
      const SeedResult result =
          World({.seed = seed, .tasks = options.tasks}).Run();
      ++mine.seeds;
      mine.counts.Add(result.counts);
      for (const std::string& problem : result.problems) {
        mine.violations.push_back(absl::StrCat("seed ", seed, ": ", problem));
      }
      stop = stop || mine.violations.size() >= kViolationsMax;
    }
    MutexLock lock(mutex);
    total.seeds += mine.seeds;
    total.counts.Add(mine.counts);
    total.violations.insert(total.violations.end(), mine.violations.begin(),
                            mine.violations.end());
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < options.threads; ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) {
    thread.join();
  }
  total.seconds = absl::ToDoubleSeconds(Clock::Real().SteadyNow() - began);
  return total;
}

std::string FormatReport(const SeedsOptions& options,
                         const SeedsResult& result) {
  std::string out = absl::StrFormat(
      "%d seeds, %d violations\n%d tasks a seed, %d threads, %.1f s, %.1f "
      "seeds/s\n",
      result.seeds, result.violations.size(), options.tasks, options.threads,
      result.seconds, static_cast<double>(result.seeds) / result.seconds);
  for (const std::string& violation : result.violations) {
    absl::StrAppend(&out, violation, "\n");
  }
  AppendTally("faults", result.counts.faults, out);
  AppendTally("task moves", result.counts.transitions, out);
  AppendTally("answers to results", result.counts.outcomes, out);
  AppendTally("checks", result.counts.checks, out);
  return out;
}

}  // namespace qsweep::sim
