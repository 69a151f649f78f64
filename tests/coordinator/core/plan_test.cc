#include "coordinator/core/plan.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/model_descriptions.h"

namespace qsweep::testing {
namespace {

// Baseline, no protection, each layer protected alone.
std::vector<Configuration> LayerSweep(const ModelDescription& model) {
  const Quantizer quantizer = *ParseQuantizer("rtn:bits=4,group=8");
  std::vector<Configuration> configurations = {
      MakeBaseline(model, Compute::kFp32)};
  std::vector<std::string> texts = {"none"};
  for (int i = 0; i < model.layers; ++i) {
    texts.push_back(absl::StrCat("L", i));
  }
  for (const std::string& text : texts) {
    configurations.push_back(*MakeConfiguration(
        model, quantizer, *LayerSet::Parse(text), Compute::kFp32));
  }
  return configurations;
}

struct Sweep {
  ModelDescription model;
  std::vector<Configuration> configurations;
  PlanInput input;
};

// units x languages documents of `tokens` each; everything is missing.
Sweep MakeSweep(int layers, int units, int languages, double tokens,
                double gflops) {
  Sweep sweep{.model = TinyLlamaDescription(layers)};
  sweep.configurations = LayerSweep(sweep.model);
  for (int unit = 0; unit < units; ++unit) {
    for (int language = 0; language < languages; ++language) {
      sweep.input.documents.push_back(
          {.digest = Digest::Of(absl::StrCat(unit, "/", language)),
           .language = language,
           .unit = unit,
           .tokens = tokens});
    }
  }
  sweep.input.gflops = gflops;
  sweep.input.missing.assign(
      sweep.configurations.size() * sweep.input.documents.size(), true);
  return sweep;
}

std::vector<PlannedTask> Plan(Sweep& sweep, const Settings& settings = {}) {
  std::vector<const Configuration*> configurations;
  for (const Configuration& configuration : sweep.configurations) {
    configurations.push_back(&configuration);
  }
  TrieSizes tries(sweep.model, configurations);
  sweep.input.tries = &tries;
  return PlanTasks(sweep.input, settings);
}

double Seconds(Sweep& sweep) {
  double seconds = 0;
  for (const PlannedTask& task : Plan(sweep)) {
    seconds += task.estimated_seconds;
  }
  return seconds;
}

void ExpectCoversExactlyTheMissing(const Sweep& sweep,
                                   const std::vector<PlannedTask>& tasks) {
  std::vector<int> times(sweep.input.missing.size(), 0);
  for (const PlannedTask& task : tasks) {
    for (const int c : task.configurations) {
      for (const int d : task.documents) {
        ++times[static_cast<size_t>(c) * sweep.input.documents.size() +
                static_cast<size_t>(d)];
      }
    }
  }
  for (size_t i = 0; i < times.size(); ++i) {
    ASSERT_EQ(times[i], sweep.input.missing[i] ? 1 : 0) << "key " << i;
  }
}

TEST(TrieSize, MatchesWorkedCounts) {
  // quantization.md 5.1: singles + baseline.
  for (const auto& [layers, want] : {std::pair(30, 524), std::pair(32, 591)}) {
    const ModelDescription model = TinyLlamaDescription(layers);
    const std::vector<Configuration> all = LayerSweep(model);
    std::vector<const Configuration*> pointers;
    for (const Configuration& configuration : all) {
      pointers.push_back(&configuration);
    }
    EXPECT_EQ(TrieSize(model, pointers), want);
    EXPECT_EQ(TrieSize(model, {}), layers);  // the baseline alone
  }
}

TEST(PlanTasks, MakesOneTask_WhenWorkIsShort) {
  Sweep sweep = MakeSweep(2, 5, 3, 10, 60);
  const auto tasks = Plan(sweep);
  ASSERT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].layer_evaluations_naive, 4 * 2);
  ExpectCoversExactlyTheMissing(sweep, tasks);
}

TEST(PlanTasks, CountsTheBaselineOnBothSides_WhenItIsThereAlready) {
  Sweep sweep = MakeSweep(2, 5, 3, 10, 60);
  const int64_t all = Plan(sweep).at(0).layer_evaluations;
  std::fill_n(sweep.input.missing.begin(), sweep.input.documents.size(), false);
  const auto tasks = Plan(sweep);
  ASSERT_EQ(tasks.size(), 1u);
  ASSERT_EQ(tasks[0].configurations.size(), 3u);
  // It runs beside them all the same.
  EXPECT_EQ(tasks[0].layer_evaluations, all);
  EXPECT_EQ(tasks[0].layer_evaluations_naive, 4 * 2);
}

// How many units have documents in more than one task.
int CutUnits(const Sweep& sweep, const std::vector<PlannedTask>& tasks) {
  std::map<int, std::set<size_t>> tasks_of_unit;
  for (size_t t = 0; t < tasks.size(); ++t) {
    for (const int d : tasks[t].documents) {
      tasks_of_unit[sweep.input.documents[static_cast<size_t>(d)].unit].insert(
          t);
    }
  }
  return static_cast<int>(std::ranges::count_if(
      tasks_of_unit, [](const auto& unit) { return unit.second.size() > 1; }));
}

TEST(PlanTasks, MakesFourTasksOfWholeUnits_WhenUnitsAreEven) {
  Sweep sweep = MakeSweep(2, 8, 3, 1000, 60);
  sweep.input.gflops *= Seconds(sweep) / 25;  // 25 s in all
  const auto tasks = Plan(sweep);
  EXPECT_EQ(tasks.size(), 4u);
  ExpectCoversExactlyTheMissing(sweep, tasks);
  EXPECT_EQ(CutUnits(sweep, tasks), 0);
}

TEST(PlanTasks, MakesTasksOfEqualLength_WhenUnitsAreNot) {
  Sweep sweep = MakeSweep(2, 4, 6, 1000, 60);
  for (PlanDocument& document : sweep.input.documents) {
    document.tokens *= document.unit == 0 ? 2.5 : 1;
  }
  sweep.input.gflops *= Seconds(sweep) / 235;
  const auto tasks = Plan(sweep);
  ASSERT_EQ(tasks.size(), 4u);
  ExpectCoversExactlyTheMissing(sweep, tasks);
  for (const PlannedTask& task : tasks) {
    EXPECT_NEAR(task.estimated_seconds, 60, 8);
  }
}

// Four articles of the UDHR in six languages, as bench.sh sweeps them: units as
// different as 7 to 1, documents of one as 3 to 1.
TEST(PlanTasks, MakesTasksOfEqualLength_WhenUnitsDifferMuch) {
  constexpr double kUnits[] = {580, 80, 160, 280};
  constexpr double kLanguages[] = {1, 1.1, 2.9, 1.3, 0.9, 2.2};
  Sweep sweep = MakeSweep(2, 4, 6, 0, 60);
  for (PlanDocument& document : sweep.input.documents) {
    document.tokens = kUnits[document.unit] * kLanguages[document.language];
  }
  sweep.input.gflops *= Seconds(sweep) / 110;
  const auto tasks = Plan(sweep);
  ASSERT_EQ(tasks.size(), 4u);
  ExpectCoversExactlyTheMissing(sweep, tasks);
  for (const PlannedTask& task : tasks) {
    EXPECT_NEAR(task.estimated_seconds, 110. / 4, 2.75);
    EXPECT_TRUE(std::ranges::is_sorted(task.documents));
  }
}

// Llama-2-7B is 13.5 GB in bf16, and a worker reads 1 GB/s.
Sweep MakeSevenB(double seconds, double bandwidth) {
  Sweep sweep = MakeSweep(2, 40, 3, 1000, 60);
  sweep.model = Llama2Description();
  sweep.configurations = {MakeBaseline(sweep.model, Compute::kFp32)};
  sweep.input.missing.assign(sweep.input.documents.size(), true);
  sweep.input.gflops *= Seconds(sweep) / seconds;
  sweep.input.reading_seconds =
      static_cast<double>(sweep.model.stored_bytes()) / bandwidth;
  return sweep;
}

TEST(PlanTasks, ReadsTheWeightsOnce_WhenMoreTasksWouldMostlyRead) {
  Sweep sweep = MakeSevenB(24, 1e9);
  EXPECT_NEAR(sweep.input.reading_seconds, 13.5, 0.1);
  auto tasks = Plan(sweep);
  ASSERT_EQ(tasks.size(), 1u);  // not four of 6 s
  EXPECT_NEAR(tasks[0].estimated_seconds, 24 + 13.5, 0.1);
  sweep = MakeSevenB(24, 100e9);
  tasks = Plan(sweep);
  ASSERT_EQ(tasks.size(), 4u);
  EXPECT_NEAR(tasks[0].estimated_seconds, 6 + 0.135, 0.3);
}

TEST(PlanTasks, TakesTheTargetOrFourReadings_WhenWorkIsLong) {
  struct Case {
    double bandwidth, tasks, seconds;
  };
  for (const Case& c : {Case{1e9, 22, 59}, Case{0.25e9, 6, 220.6}}) {
    SCOPED_TRACE(c.bandwidth);
    Sweep sweep = MakeSevenB(1000, c.bandwidth);
    const auto tasks = Plan(sweep);
    ExpectCoversExactlyTheMissing(sweep, tasks);
    EXPECT_EQ(tasks.size(), static_cast<size_t>(c.tasks));
    for (const PlannedTask& task : tasks) {
      EXPECT_NEAR(task.estimated_seconds, c.seconds, c.seconds / 10);
    }
  }
}

TEST(PlanTasks, MakesATaskPerDocument_WhenThereAreFew) {
  Sweep sweep = MakeSweep(2, 1, 3, 1000, 60);
  sweep.input.gflops *= Seconds(sweep) / 25;
  EXPECT_EQ(Plan(sweep).size(), 3u);
}

TEST(PlanTasks, CutsAtTheTarget_WhenWorkIsLong) {
  Sweep sweep = MakeSweep(2, 40, 3, 1000, 60);
  sweep.input.gflops *= Seconds(sweep) / 1190;
  const auto tasks = Plan(sweep);
  EXPECT_EQ(tasks.size(), 20u);
  for (const PlannedTask& task : tasks) {
    EXPECT_NEAR(task.estimated_seconds, 59.5, 0.1);
  }
  ExpectCoversExactlyTheMissing(sweep, tasks);
}

TEST(PlanTasks, CutsUnitsAndConfigurations_WhenOneDocumentIsTooLong) {
  Sweep sweep = MakeSweep(4, 1, 2, 1000, 60);
  sweep.input.gflops *= Seconds(sweep) / 1000;
  const auto tasks = Plan(sweep);
  ExpectCoversExactlyTheMissing(sweep, tasks);
  EXPECT_EQ(tasks.size(), 2u * sweep.configurations.size());
  for (const PlannedTask& task : tasks) {
    EXPECT_EQ(task.documents.size(), 1u);
  }
}

TEST(PlanTasks, KeepsRowsBelowTheLimit) {
  Sweep sweep = MakeSweep(6, 10, 3, 10, 60);
  Settings settings;
  for (const int64_t limit : {50, 5}) {
    settings.max_rows_per_task = limit;
    const auto tasks = Plan(sweep, settings);
    ExpectCoversExactlyTheMissing(sweep, tasks);
    for (const PlannedTask& task : tasks) {
      EXPECT_LE(task.configurations.size() * task.documents.size(),
                static_cast<size_t>(limit));
    }
  }
}

// Its rows alone are more than a result can have.
TEST(PlanTasks, CutsTheConfigurationsOfOneDocument_WhenTheyAreTooManyRows) {
  Sweep sweep = MakeSweep(1, 1, 1, 1, 1e6);
  std::vector<const Configuration*> many(2 * kMostRowsPerTask,
                                         &sweep.configurations[1]);
  TrieSizes tries(sweep.model, many);
  sweep.input.tries = &tries;
  sweep.input.missing.assign(many.size(), true);
  Settings settings;
  for (const int64_t limit : {settings.max_rows_per_task, kMostRowsPerTask}) {
    settings.max_rows_per_task = limit;
    const auto tasks = PlanTasks(sweep.input, settings);
    ExpectCoversExactlyTheMissing(sweep, tasks);
    EXPECT_EQ(tasks.size(), many.size() / static_cast<size_t>(limit));
    for (const PlannedTask& task : tasks) {
      EXPECT_EQ(task.configurations.size(), static_cast<size_t>(limit));
    }
  }
}

TEST(PlanTasks, FillsOnlyHoles) {
  Sweep sweep = MakeSweep(3, 4, 2, 10, 60);
  const size_t num_documents = sweep.input.documents.size();
  for (size_t i = 0; i < sweep.input.missing.size(); ++i) {
    // Configuration 2 is measured, document 1 too, and (0, 5).
    sweep.input.missing[i] =
        i / num_documents != 2 && i % num_documents != 1 && i != 5;
  }
  const auto tasks = Plan(sweep);
  EXPECT_EQ(tasks.size(), 2u);  // with and without configuration 0
  ExpectCoversExactlyTheMissing(sweep, tasks);
  sweep.input.missing.assign(sweep.input.missing.size(), false);
  EXPECT_TRUE(Plan(sweep).empty());
}

TEST(EstimateMemoryBytes, IsWhatTheWeightsInFlightTake) {
  // qengine names 115 MiB as the least, of which 7 are buffers.
  EXPECT_EQ(EstimateMemoryBytes(SmolLm2Description()), 49152u * 576 * 4);
  const uint64_t layer = 4u * 4096 * 4096 + 3u * 4096 * 11008 + 2u * 4096;
  EXPECT_EQ(EstimateMemoryBytes(Llama2Description()), 3 * layer * 4);
}

// As the engine's test of memory does (tests/worker/engine/memory_test.cc).
TEST(EstimateMemoryBytes, AllowsAModelFourTimesTheMemory_WhoseStatesGoToAFile) {
  const ModelDescription model = LlamaDescription("deep", {.layers = 20,
                                                           .hidden = 256,
                                                           .key_value = 128,
                                                           .feed_forward = 768,
                                                           .vocabulary = 256,
                                                           .tied = true});
  uint64_t elements = 0;
  for (const TensorDescription& tensor : model.tensors) {
    elements += static_cast<uint64_t>(tensor.num_elements());
  }
  EXPECT_LE(EstimateMemoryBytes(model), elements * sizeof(float) / 4);
}

TEST(TokenCost, CountsLayersAndHeads) {
  const ModelDescription model = SmolLm2Description();
  // 30 layers of 3,538,944 and a head of 576 x 49,152 elements, per token.
  const double layer = 2.0 * (576 * 576 * 2 + 576 * 192 * 2 + 3 * 576 * 1536);
  const double head = 2.0 * 576 * 49152;
  EXPECT_NEAR(TokenCost(model).Seconds(524, 32, 7169, 180),
              (layer * 524 + head * 32) * 7169 / 180e9, 1e-6);
}

}  // namespace
}  // namespace qsweep::testing
