#ifndef QSWEEP_TESTS_SIM_RUN_SEEDS_H_
#define QSWEEP_TESTS_SIM_RUN_SEEDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/counts.h"

namespace qsweep::sim {

struct SeedsOptions {
  uint64_t first = 1;
  uint64_t last = 2000;  // included
  int tasks = 200;       // of each seed
  int threads = 2;
  // A file that keeps what ran, block by block: the same call goes on from
  // there. Empty: none. Says on stderr how far it is.
  std::string jsonl;
};

struct SeedsResult {
  int64_t seeds = 0;
  std::vector<std::string> violations;  // "seed 7: invariant 2: ..."
  Counts counts;
  double seconds = 0;  // of real time
};

// Runs the seeds, each a world of its own, on so many threads; stops early
// after 5 seeds with violations. A defect that ends the process prints its
// seed first.
SeedsResult RunSeeds(const SeedsOptions& options);

// "N seeds, M violations", the violations and all counts.
std::string FormatReport(const SeedsOptions& options,
                         const SeedsResult& result);

// Which faults, moves and outcomes came too seldom for so many seeds; empty:
// the run has met enough to prove something.
std::vector<std::string> TooSeldom(const SeedsResult& result);

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_RUN_SEEDS_H_
