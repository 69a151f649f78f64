#include "tests/e2e/soak.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/base/clock.h"
#include "tests/e2e/kill_rounds.h"

namespace qsweep::testing {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
// The coordinator truncates its WAL at 64 MiB, after the commit that reached
// them.
constexpr int64_t kWalMax = 72 * kMiB;
// Fragmentation of the heap, and caches that a new process has not filled.
constexpr int64_t kRssAboveNewMax = 16 * kMiB;
constexpr int64_t kDescriptorGrowthMax = 8;
constexpr int kRoundsPerCheck = 20;
constexpr int kStrikesPerQuarantine = 50;  // of engines, at least
constexpr int kRoundsOfNew = 8;            // load for the new process

// Least squares, per hour.
template <typename Value>
double SlopePerHour(std::span<const ResourceSample> samples, Value value) {
  double mean_x = 0;
  double mean_y = 0;
  for (const ResourceSample& sample : samples) {
    mean_x +=
        absl::ToDoubleHours(sample.at) / static_cast<double>(samples.size());
    mean_y += value(sample) / static_cast<double>(samples.size());
  }
  double xy = 0;
  double xx = 0;
  for (const ResourceSample& sample : samples) {
    const double x = absl::ToDoubleHours(sample.at) - mean_x;
    xy += x * (value(sample) - mean_y);
    xx += x * x;
  }
  return xx > 0 ? xy / xx : 0;
}

template <typename Value>
double Mean(std::span<const ResourceSample> samples, Value value) {
  double sum = 0;
  for (const ResourceSample& sample : samples) {
    sum += value(sample);
  }
  return samples.empty() ? 0 : sum / static_cast<double>(samples.size());
}

double DescriptorsOf(const ResourceSample& sample) {
  return static_cast<double>(sample.descriptors);
}

void Print(const ResourceSample& sample) {
  std::printf("%8.1f min  RSS %6.1f MiB  WAL %5.1f MiB  descriptors %3ld\n",
              absl::ToDoubleMinutes(sample.at),
              static_cast<double>(sample.rss_bytes) / kMiB,
              static_cast<double>(sample.wal_bytes) / kMiB,
              static_cast<long>(sample.descriptors));
  std::fflush(stdout);
}

}  // namespace

ResourceSample SampleResources(pid_t pid, const std::string& database_path) {
  ResourceSample sample;
  const std::string process = absl::StrCat("/proc/", pid);
  std::ifstream statm(process + "/statm");
  int64_t pages = 0;
  int64_t resident = 0;
  if (statm >> pages >> resident) {
    sample.rss_bytes = resident * sysconf(_SC_PAGESIZE);
  }
  std::error_code error;
  const auto wal =
      std::filesystem::file_size(absl::StrCat(database_path, "-wal"), error);
  sample.wal_bytes = error ? 0 : static_cast<int64_t>(wal);
  sample.descriptors =
      std::distance(std::filesystem::directory_iterator(process + "/fd", error),
                    std::filesystem::directory_iterator());
  return sample;
}

SoakVerdict JudgeSoak(const std::vector<ResourceSample>& all,
                      int64_t rss_of_new) {
  SoakVerdict verdict;
  const std::span<const ResourceSample> samples =
      std::span(all).subspan(all.size() / 4);
  if (samples.size() < 8) {
    verdict.breaches.push_back("too few samples to judge");
    return verdict;
  }
  verdict.rss_mib_per_hour =
      SlopePerHour(samples, [](const ResourceSample& sample) {
        return static_cast<double>(sample.rss_bytes) / kMiB;
      });
  verdict.descriptors_per_hour = SlopePerHour(samples, DescriptorsOf);
  for (const ResourceSample& sample : all) {
    verdict.wal_bytes_max = std::max(verdict.wal_bytes_max, sample.wal_bytes);
  }
  verdict.rss_bytes_above_new = samples.back().rss_bytes - rss_of_new;
  if (verdict.rss_bytes_above_new > kRssAboveNewMax) {
    verdict.breaches.push_back(absl::StrCat(
        "RSS is ", verdict.rss_bytes_above_new / kMiB,
        " MiB above that of a new process with the same database"));
  }
  if (verdict.wal_bytes_max > kWalMax) {
    verdict.breaches.push_back(
        absl::StrCat("the WAL reached ", verdict.wal_bytes_max / kMiB, " MiB"));
  }
  const size_t third = samples.size() / 3;
  const double growth = Mean(samples.last(third), DescriptorsOf) -
                        Mean(samples.first(third), DescriptorsOf);
  if (growth > kDescriptorGrowthMax) {
    verdict.breaches.push_back(
        absl::StrCat("descriptors grew by ", growth, " on average"));
  }
  return verdict;
}

void RunSoak(const SoakOptions& options) {
  KillRounds rounds({.seed = options.seed,
                     .gentle = true,
                     .task_time = absl::Milliseconds(400)});
  ASSERT_NO_FATAL_FAILURE(rounds.Start());
  LocalCluster& cluster = rounds.cluster();
  const std::string database = cluster.coordinator_dir() + "/coordinator.db";
  const SteadyTime began = Clock::Real().SteadyNow();
  std::vector<ResourceSample> samples;
  absl::Duration at;
  while (at < options.duration && !::testing::Test::HasFailure()) {
    ASSERT_NO_FATAL_FAILURE(rounds.RunRound(
        /*check=*/rounds.rounds() % kRoundsPerCheck == kRoundsPerCheck - 1));
    at = Clock::Real().SteadyNow() - began;
    samples.push_back(SampleResources(cluster.coordinator().pid(), database));
    samples.back().at = at;
    if (rounds.rounds() % kRoundsPerCheck == 0) {
      Print(samples.back());
    }
  }
  cluster.KillCoordinator();
  ASSERT_NO_FATAL_FAILURE(cluster.StartCoordinator());
  for (int i = 0; i < kRoundsOfNew; ++i) {
    ASSERT_NO_FATAL_FAILURE(rounds.RunRound(/*check=*/false));
  }
  const ResourceSample of_new =
      SampleResources(cluster.coordinator().pid(), database);
  ASSERT_NO_FATAL_FAILURE(rounds.Finish());
  // A worker whose engine is struck three times within some thirty tasks is
  // quarantined: by chance about once in a hundred strikes.
  EXPECT_LE(cluster.QueryInteger(
                "SELECT count(*) FROM workers_v1 WHERE mode = 'quarantined'"),
            1 + rounds.engine_strikes() / kStrikesPerQuarantine);
  const SoakVerdict verdict = JudgeSoak(samples, of_new.rss_bytes);
  std::printf("%s", rounds.Report().c_str());
  std::printf(
      "RSS at the end %.1f MiB, of a new process %.1f MiB; slope %.1f MiB per "
      "hour\nWAL at most %.1f MiB\ndescriptors at the end %ld, slope %.1f per "
      "hour\n",
      static_cast<double>(samples.back().rss_bytes) / kMiB,
      static_cast<double>(of_new.rss_bytes) / kMiB, verdict.rss_mib_per_hour,
      static_cast<double>(verdict.wal_bytes_max) / kMiB,
      static_cast<long>(samples.back().descriptors),
      verdict.descriptors_per_hour);
  for (const std::string& breach : verdict.breaches) {
    ADD_FAILURE() << breach;
  }
}

}  // namespace qsweep::testing
