// What a run has to have met. The numbers are for 100 seeds of 200 tasks, far
// below what is usual: a fault that stops happening is what they catch. In a
// few seeds chance alone makes one rare, so three deviations less are enough.
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"

#include "tests/sim/run_seeds.h"

namespace qsweep::sim {
namespace {

struct Least {
  const char* name;
  int64_t per_100_seeds;
};

constexpr Least kFaults[] = {
    {"JOB_ACTION_PAUSE", 5},
    {"JOB_ACTION_RETRY", 2},
    {"JOB_ACTION_STOP", 5},
    {"worker drained", 10},
    {"cancel", 20},
    {"garbage collected", 20},
    {"job for some workers only", 20},
    {"large cancel interrupted by a restart", 2},
    {"large job tried again", 2},
    {"queue timeout", 5},
    {"commit fails, nothing written", 20},
    {"commit written, error said", 20},
    {"coordinator drained", 10},
    {"coordinator gave up", 10},
    {"coordinator killed", 50},
    {"death after commit", 10},
    {"death amid replies", 10},
    {"death at start", 5},
    {"death before commit", 10},
    {"death between steps", 10},
    {"death in commit", 10},
    {"disk filled", 20},
    {"disk full met", 5},
    {"engine crashed", 20},
    {"engine hangs", 10},
    {"forged result", 20},
    {"message late", 1000},
    {"message lost", 500},
    {"message twice", 500},
    {"partition", 20},
    {"partition, in only", 20},
    {"partition, out only", 20},
    {"plan interrupted by a restart", 2},
    {"poison task kills its engine", 10},
    {"poison task kills its machine", 10},
    {"poison task refused", 10},
    {"power cut", 20},
    {"read error", 5},
    {"request the database cannot take", 10},
    {"other codes", 60},
    {"short write", 5},
    {"slow consumer cut", 5},
    {"slow sync", 20},
    {"stream broken", 50},
    {"submit sent again after an unknown outcome", 5},
    {"sync error", 5},
    {"task with a late result refused", 1},
    {"results of a revoked worker", 2},
    {"revoked worker replaced", 5},
    {"token of a worker revoked", 10},
    {"wall clock drifts", 10},
    {"wall clock jumps", 30},
    {"watch broken", 20},
    {"watch buffer full", 40},
    {"worker frozen", 20},
    {"worker frozen beyond its leases", 20},
    {"worker killed", 20},
    {"worker machine lost", 10},
    {"worker preempted", 50},
    {"worker with a time limit", 20},
    {"worker_uuid used twice", 20},
    {"write error", 5},
    {"wrong result", 100},
    {"times that were not", 100},
};

constexpr Least kTaskMoves[] = {
    {"READY -> LEASED", 10'000},   {"LEASED -> DONE", 10'000},
    {"LEASED -> READY", 100},      {"LEASED -> BACKOFF", 500},
    {"LEASED -> QUARANTINED", 10}, {"LEASED -> CANCELLED", 5},
    {"BACKOFF -> READY", 300},     {"READY -> CANCELLED", 50},
    {"READY -> DONE", 3},          {"BACKOFF -> DONE", 2},
    {"QUARANTINED -> DONE", 1},    {"BACKOFF -> CANCELLED", 1},
    {"QUARANTINED -> READY", 5},   {"CANCELLED -> READY", 100}};

constexpr Least kOutcomes[] = {
    {"COMMIT_OUTCOME_OK", 10'000},    {"COMMIT_OUTCOME_ALREADY_COMMITTED", 50},
    {"COMMIT_OUTCOME_SUPERSEDED", 8}, {"COMMIT_OUTCOME_CANCELLED", 5},
    {"COMMIT_OUTCOME_REJECTED", 20},
};

constexpr Least kChecks[] = {
    {"all of State", 100},
    {"fair grant compared", 1000},
    {"finished sweep submitted again", 50},
    {"job deleted", 20},
    {"lease charged", 10'000},
    {"lease charged from the end of another", 1000},
    {"stored charge", 10'000},
    {"an unknown commit had been written", 20},
    {"call with a revoked token refused", 3},
    {"load within a worker's life", 20},
    {"measurement of a deleted job", 200},
    {"model that fits into small memory", 500},
    {"no speed of times that were not", 50},
    {"task lost on three workers", 3},
    {"task of a worker with one method", 500},
    {"other codes raise the alarm", 20},
    {"plans added up", 50},
    {"progress frames", 5000},
    {"reload equals what was written", 500},
    {"repeated measurements compared", 1000},
    {"repeated measurements differ", 5},
    {"result with codes", 1000},
    {"skipped documents counted", 100},
    {"skipped documents counted after a retry", 3},
    {"watch waits for room", 1000},
    {"watched events", 10'000},
};

template <typename Leasts>
void AddSeldom(const Leasts& leasts, const Tally& tally, int64_t seeds,
               std::vector<std::string>& seldom) {
  for (const Least& least : leasts) {
    const double expected =
        static_cast<double>(least.per_100_seeds * seeds) / 100;
    const auto want = static_cast<int64_t>(expected - 3 * std::sqrt(expected));
    if (tally.of(least.name) < want) {
      seldom.push_back(absl::StrCat(least.name, ": ", tally.of(least.name),
                                    " times, not ", want));
    }
  }
}

}  // namespace

std::vector<std::string> TooSeldom(const SeedsResult& result) {
  std::vector<std::string> seldom;
  AddSeldom(kFaults, result.counts.faults, result.seeds, seldom);
  AddSeldom(kTaskMoves, result.counts.transitions, result.seeds, seldom);
  AddSeldom(kOutcomes, result.counts.outcomes, result.seeds, seldom);
  AddSeldom(kChecks, result.counts.checks, result.seeds, seldom);
  return seldom;
}

}  // namespace qsweep::sim
