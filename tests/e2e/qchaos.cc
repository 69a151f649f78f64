// qchaos: the fault tests at any length, outside the test run.
//   qchaos rounds [--seed N] [--rounds N]      random kills, then the oracles
//   qchaos soak [--seed N] [--minutes N]       gentle kills, the coordinator
//                                              measured all along
//   qchaos watchers [--watchers N] [--turns N] task rate with and without
//                                              stopped watchers
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include <gtest/gtest.h>

#include "tests/e2e/kill_rounds.h"
#include "tests/e2e/slow_watchers.h"
#include "tests/e2e/soak.h"

namespace qsweep::testing {
namespace {

int Usage() {
  std::fprintf(stderr,
               "usage: qchaos rounds [--seed N] [--rounds N]\n"
               "       qchaos soak [--seed N] [--minutes N]\n"
               "       qchaos watchers [--watchers N] [--turns N]\n");
  return 2;
}

struct Flags {
  uint64_t seed = 1;
  int rounds = 200;
  double minutes = 20;
  int watchers = 50;
  int turns = 3;
};

bool ParseFlags(int argc, char** argv, Flags& flags) {
  for (int i = 2; i < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    const bool good =
        name == "--seed"       ? absl::SimpleAtoi(value, &flags.seed)
        : name == "--rounds"   ? absl::SimpleAtoi(value, &flags.rounds)
        : name == "--watchers" ? absl::SimpleAtoi(value, &flags.watchers)
        : name == "--turns"
            ? absl::SimpleAtoi(value, &flags.turns)
            : name == "--minutes" && absl::SimpleAtod(value, &flags.minutes);
    if (!good) {
      return false;
    }
  }
  return argc >= 2;
}

void RunRounds(const Flags& flags) {
  KillRounds rounds({.seed = flags.seed});
  rounds.Start();
  while (!::testing::Test::HasFailure() && rounds.rounds() < flags.rounds) {
    rounds.RunRound();
    if (rounds.rounds() % 10 == 0) {
      std::printf("%d rounds\n", rounds.rounds());
      std::fflush(stdout);
    }
  }
  if (!::testing::Test::HasFailure()) {
    rounds.Finish();
  }
  std::printf("%s", rounds.Report().c_str());
}

int Main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  Flags flags;
  if (!ParseFlags(argc, argv, flags)) {
    return Usage();
  }
  const std::string command = argv[1];
  if (command == "rounds") {
    RunRounds(flags);
  } else if (command == "soak") {
    RunSoak({.seed = flags.seed, .duration = absl::Minutes(flags.minutes)});
  } else if (command == "watchers") {
    CompareRates(flags.watchers, flags.turns);
  } else {
    return Usage();
  }
  const bool failed = ::testing::Test::HasFailure();
  std::printf("%s\n", failed ? "FAILED" : "PASSED");
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace qsweep::testing

int main(int argc, char** argv) { return qsweep::testing::Main(argc, argv); }
