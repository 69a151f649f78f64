#include "tests/sim/run_seeds.h"

#include <csignal>
#include <cstdio>
#include <optional>
#include <thread>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "tests/sim/seed_log.h"
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

void Add(const SeedsResult& part, SeedsResult& total) {
  total.seeds += part.seeds;
  total.counts.Add(part.counts);
  total.violations.insert(total.violations.end(), part.violations.begin(),
                          part.violations.end());
}

// What the threads share.
class Run {
 public:
  Run(const SeedsOptions& options, SeedLog* log)
      : options_(options),
        block_(log == nullptr ? 1 : SeedLog::kBlock),
        next_(options.first),
        log_(log) {
    if (log != nullptr) {
      total_ = log->total();
    }
  }

  // A thread's work.
  void Work() {
    while (const std::optional<uint64_t> first = NextBlock()) {
      const SteadyTime began = Clock::Real().SteadyNow();
      SeedsResult block;
      for (uint64_t seed = *first;
           seed < *first + block_ && seed <= options_.last; ++seed) {
        running_seed = seed;
        const SeedResult result =
            World({.seed = seed, .tasks = options_.tasks}).Run();
        ++block.seeds;
        block.counts.Add(result.counts);
        for (const std::string& problem : result.problems) {
          block.violations.push_back(
              absl::StrCat("seed ", seed, ": ", problem));
        }
      }
      block.seconds = absl::ToDoubleSeconds(Clock::Real().SteadyNow() - began);
      Finish(*first, block);
    }
  }
  SeedsResult Take() {
    MutexLock lock(mutex_);
    return std::move(total_);
  }

 private:
  std::optional<uint64_t> NextBlock() {
    MutexLock lock(mutex_);
    while (log_ != nullptr && log_->Has(next_) && next_ <= options_.last) {
      next_ += block_;
    }
    if (next_ > options_.last || total_.violations.size() >= kViolationsMax) {
      return std::nullopt;
    }
    return std::exchange(next_, next_ + block_);
  }

  void Finish(uint64_t first, const SeedsResult& block) {
    MutexLock lock(mutex_);
    Add(block, total_);
    if (log_ == nullptr) {
      return;
    }
    if (const absl::Status status = log_->Append(first, block); !status.ok()) {
      total_.violations.push_back(status.ToString());
    }
    absl::FPrintF(stderr, "%d of %d seeds, %d violations\n", total_.seeds,
                  options_.last - options_.first + 1, total_.violations.size());
  }

  const SeedsOptions options_;
  const uint64_t block_;
  Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_);
  SeedsResult total_ ABSL_GUARDED_BY(mutex_);
  SeedLog* const log_;  // used under mutex_
};

}  // namespace

SeedsResult RunSeeds(const SeedsOptions& options) {
  std::signal(SIGABRT, OnAbort);
  const SteadyTime began = Clock::Real().SteadyNow();
  std::optional<SeedLog> log;
  if (!options.jsonl.empty()) {
    absl::StatusOr<SeedLog> opened = SeedLog::Open(options);
    if (!opened.ok()) {
      return {.violations = {opened.status().ToString()}};
    }
    log = *std::move(opened);
  }
  Run run(options, log ? &*log : nullptr);
  std::vector<std::thread> threads;
  for (int i = 1; i < options.threads; ++i) {
    threads.emplace_back([&run] { run.Work(); });
  }
  run.Work();
  for (std::thread& thread : threads) {
    thread.join();
  }
  SeedsResult total = run.Take();
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
