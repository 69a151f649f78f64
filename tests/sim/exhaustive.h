#ifndef QSWEEP_TESTS_SIM_EXHAUSTIVE_H_
#define QSWEEP_TESTS_SIM_EXHAUSTIVE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace qsweep::sim {

// Every order in which things can happen to two workers and three tasks, up to
// a number of steps: a message arrives (any that is on its way, in any order),
// an engine finishes, time passes, and at most `faults` of: a message is lost
// or comes twice, a worker or the coordinator dies and starts again, a worker
// is silent beyond its leases. The decisions are the real core's and
// AgentCore's; orders that differ only in steps which do not touch each other
// are one. From each state at the depth, and from each that has no step left,
// everything must end well without further faults.
struct ExhaustiveOptions {
  int depth = 4;
  int faults = 1;
  int64_t states_max = int64_t{1} << 40;
};

struct ExhaustiveResult {
  int64_t states = 0;                 // different ones
  int64_t steps = 0;                  // tried
  int64_t leaves = 0;                 // ran to the end
  bool complete = true;               // false: states_max came first
  std::vector<std::string> problems;  // with the steps that lead there
};

// "N states, ... to depth D", one line.
std::string FormatExhaustive(const ExhaustiveOptions& options,
                             const ExhaustiveResult& result);

ExhaustiveResult SearchExhaustively(const ExhaustiveOptions& options);

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_EXHAUSTIVE_H_
