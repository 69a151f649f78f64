#include "tests/sim/exhaustive.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "tests/sim/small_world.h"

namespace qsweep::sim {
namespace {

constexpr int kStepsToTheEnd = 400;
constexpr size_t kProblemsMax = 3;

class Search {
 public:
  explicit Search(const ExhaustiveOptions& options) : options_(options) {}

  ExhaustiveResult Run() {
    Visit(SmallWorld(), options_.depth, options_.faults);
    return std::move(result_);
  }

 private:
  bool Over() {
    result_.complete &= result_.states < options_.states_max;
    return !result_.complete || result_.problems.size() >= kProblemsMax;
  }

  bool Fails(const SmallWorld& world) {
    if (world.problems().empty()) {
      return false;
    }
    result_.problems.push_back(absl::StrCat(
        world.problems().front(), ", after: ", absl::StrJoin(path_, ", ")));
    return true;
  }

  void Visit(const SmallWorld& world, int depth, int faults) {
    if (Over() || Fails(world)) {
      return;
    }
    auto [seen, fresh] =
        seen_.try_emplace(absl::HashOf(world.Key(), faults), depth);
    if (!fresh && seen->second >= depth) {
      return;
    }
    seen->second = depth;
    result_.states += fresh;
    if (depth == 0 || world.settled()) {
      GoOn(world);
      return;
    }
    for (size_t i = 0; i < world.num_messages(); ++i) {
      Try(world, depth, faults, world.MessageText(i) + " arrives",
          [i](SmallWorld& w) { w.Deliver(i, false); });
    }
    for (int i = 0; i < SmallWorld::kWorkers; ++i) {
      if (world.Running(i)) {
        Try(world, depth, faults, absl::StrCat("w", i + 1, " finishes"),
            [i](SmallWorld& w) { w.FinishRun(i); });
      }
    }
    Try(world, depth, faults, "time passes",
        [](SmallWorld& w) { w.PassTime(); });
    if (faults > 0) {
      Break(world, depth, faults - 1);
    }
  }

  void Break(const SmallWorld& world, int depth, int faults) {
    for (size_t i = 0; i < world.num_messages(); ++i) {
      Try(world, depth, faults, world.MessageText(i) + " is lost",
          [i](SmallWorld& w) { w.Lose(i); });
      Try(world, depth, faults, world.MessageText(i) + " arrives, not last",
          [i](SmallWorld& w) { w.Deliver(i, true); });
    }
    for (int i = 0; i < SmallWorld::kWorkers; ++i) {
      Try(world, depth, faults, absl::StrCat("w", i + 1, " restarts"),
          [i](SmallWorld& w) { w.RestartWorker(i); });
    }
    Try(world, depth, faults, "coordinator restarts",
        [](SmallWorld& w) { w.RestartCoordinator(); });
    Try(world, depth, faults, "silence",
        [](SmallWorld& w) { w.PassSilence(); });
  }

  template <typename Step>
  void Try(const SmallWorld& world, int depth, int faults, std::string what,
           Step step) {
    if (Over()) {
      return;
    }
    ++result_.steps;
    SmallWorld next = world;
    step(next);
    path_.push_back(std::move(what));
    Visit(next, depth - 1, faults);
    path_.pop_back();
  }

  // Without further faults, the oldest message first.
  void GoOn(const SmallWorld& from) {
    ++result_.leaves;
    SmallWorld world = from;
    for (int i = 0; i < kStepsToTheEnd; ++i) {
      if (Fails(world) || (world.settled() && world.num_messages() == 0)) {
        return;
      }
      if (world.num_messages() > 0) {
        world.Deliver(0, false);
      } else if (world.Running(0)) {
        world.FinishRun(0);
      } else if (world.Running(1)) {
        world.FinishRun(1);
      } else {
        world.PassTime();
      }
    }
    if (!world.settled()) {
      result_.problems.push_back(
          absl::StrCat("never ends after: ", absl::StrJoin(path_, ", ")));
    }
  }

  const ExhaustiveOptions options_;
  ExhaustiveResult result_;
  absl::flat_hash_map<uint64_t, int> seen_;  // -> steps that were left
  std::vector<std::string> path_;
};

}  // namespace

std::string FormatExhaustive(const ExhaustiveOptions& options,
                             const ExhaustiveResult& result) {
  return absl::StrCat(result.states, " states, ", result.steps, " steps, ",
                      result.leaves, " ran to the end; depth ", options.depth,
                      ", up to ", options.faults, " faults",
                      result.complete ? "" : ", cut short", "; ",
                      result.problems.size(), " violations");
}

ExhaustiveResult SearchExhaustively(const ExhaustiveOptions& options) {
  return Search(options).Run();
}

}  // namespace qsweep::sim
