// qsim: the simulation of the coordinator, seed after seed.
//   qsim --seeds A:B [--tasks N] [--threads N] [--jsonl FILE]
//   qsim --seed N --trace [--tasks N]
//   qsim --exhaustive DEPTH
//   qsim --placement
// qsim_planted is the same with one of the planted bugs: --planted NAME.
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

#include "common/base/log.h"
#include "tests/sim/exhaustive.h"
#include "tests/sim/placement.h"
#include "tests/sim/planted_bugs.h"
#include "tests/sim/run_seeds.h"
#include "tests/sim/world.h"

namespace qsweep::sim {
namespace {

int Usage() {
  std::cerr << "usage: qsim --seeds A:B [--tasks N] [--threads N] "
               "[--jsonl FILE]\n"
               "       qsim --seed N [--tasks N] [--trace]\n"
               "       qsim --exhaustive DEPTH [--faults N]\n"
               "       qsim --placement\n";
  return 2;
}

int RunOne(uint64_t seed, int tasks, bool trace) {
  std::string lines;
  const SeedResult result =
      World({.seed = seed, .tasks = tasks, .trace = trace ? &lines : nullptr})
          .Run();
  std::cout << lines;
  for (const std::string& problem : result.problems) {
    std::cout << "seed " << seed << ": " << problem << "\n";
  }
  std::cout << "seed " << seed << ": " << result.events << " events in "
            << absl::FormatDuration(result.virtual_time) << " of virtual time, "
            << result.problems.size() << " violations\n";
  return result.problems.empty() ? 0 : 1;
}

int RunExhaustive(const ExhaustiveOptions& options) {
  const ExhaustiveResult result = SearchExhaustively(options);
  for (const std::string& problem : result.problems) {
    std::cout << problem << "\n";
  }
  std::cout << FormatExhaustive(options, result) << "\n";
  return result.problems.empty() ? 0 : 1;
}

int RunMany(const SeedsOptions& options) {
  const SeedsResult result = RunSeeds(options);
  std::cout << FormatReport(options, result);
  const std::vector<std::string> seldom = TooSeldom(result);
  for (const std::string& line : seldom) {
    std::cout << "too seldom: " << line << "\n";
  }
  return result.violations.empty() && seldom.empty() ? 0 : 1;
}

int Main(const std::vector<std::string>& args) {
  SeedsOptions options;
  ExhaustiveOptions exhaustive = {.depth = 0};
  bool one = false;
  bool trace = false;
  for (size_t i = 1; i < args.size(); ++i) {
    const absl::string_view name = args[i];
    if (name == "--trace") {
      trace = true;
      continue;
    }
    if (name == "--placement") {
      std::cout << FormatPlacement(ComparePlacement());
      return 0;
    }
    if (++i == args.size()) {
      return Usage();
    }
    const std::vector<std::string> range = absl::StrSplit(args[i], ':');
    bool ok = true;
    if (name == "--seeds") {
      ok = range.size() == 2 && absl::SimpleAtoi(range[0], &options.first) &&
           absl::SimpleAtoi(range[1], &options.last);
    } else if (name == "--seed") {
      one = true;
      ok = absl::SimpleAtoi(args[i], &options.first);
    } else if (name == "--tasks") {
      ok = absl::SimpleAtoi(args[i], &options.tasks);
    } else if (name == "--threads") {
      ok = absl::SimpleAtoi(args[i], &options.threads);
    } else if (name == "--jsonl") {
      options.jsonl = args[i];
    } else if (name == "--exhaustive") {
      ok = absl::SimpleAtoi(args[i], &exhaustive.depth);
    } else if (name == "--faults") {
      ok = absl::SimpleAtoi(args[i], &exhaustive.faults);
#ifdef QSWEEP_PLANTED_BUGS
    } else if (name == "--planted") {
      ok = PlantBug(args[i]);
#endif
    } else {
      ok = false;
    }
    if (!ok) {
      return Usage();
    }
  }
  SilenceLog();
  if (exhaustive.depth > 0) {
    return RunExhaustive(exhaustive);
  }
  return one ? RunOne(options.first, options.tasks, trace) : RunMany(options);
}

}  // namespace
}  // namespace qsweep::sim

int main(int argc, char** argv) {
  return qsweep::sim::Main({argv, argv + argc});
}
