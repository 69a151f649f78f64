// What ExpandJob and the plan of a submit make of random sweeps.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "common/job/expand.h"
#include "coordinator/core/plan.h"
#include "coordinator/core/submit.h"
#include "rapidcheck/gtest.h"
#include "tests/properties/sweep_cases.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

Expansion Expanded(const SweepCase& sweep) {
  const auto expansion =
      ExpandJob(sweep.Spec(), sweep.Models(), sweep.Corpus());
  RC_ASSERT(expansion.status() == absl::OkStatus());
  return *expansion;
}

std::set<Digest> DigestsOf(const ExpandedModel& model) {
  std::set<Digest> digests;
  for (const ExpandedConfiguration& expanded : model.configurations) {
    digests.insert(expanded.configuration.digest);
  }
  return digests;
}

RC_GTEST_PROP(ExpandJob, HasAsManyConfigurationsAsTheGrammarSays, ()) {
  const SweepCase sweep = *AnySweep();
  const Expansion expansion = Expanded(sweep);
  RC_ASSERT(expansion.models.size() == static_cast<size_t>(sweep.num_models));
  for (const ExpandedModel& model : expansion.models) {
    RC_ASSERT(static_cast<int64_t>(model.configurations.size()) ==
              sweep.num_configurations());
    RC_ASSERT(DigestsOf(model).size() == model.configurations.size());
    RC_ASSERT(model.configurations.front().configuration.baseline());
  }
  int64_t documents = 0;
  RC_ASSERT(expansion.evaluations.size() == sweep.evals.size());
  for (size_t e = 0; e < sweep.evals.size(); ++e) {
    const int64_t expected = sweep.num_documents(sweep.evals[e]);
    RC_ASSERT(static_cast<int64_t>(expansion.evaluations[e].documents.size()) ==
              expected);
    documents += expected;
  }
  RC_ASSERT(expansion.num_measurements() ==
            documents * sweep.num_configurations() * sweep.num_models);
}

// Evaluation, language code, id and digest of each.
std::set<std::tuple<size_t, std::string, std::string, Digest>> UnitsOf(
    const Expansion& expansion, const v1::Corpus& corpus) {
  std::set<std::tuple<size_t, std::string, std::string, Digest>> units;
  for (size_t e = 0; e < expansion.evaluations.size(); ++e) {
    for (const ExpandedDocument& document :
         expansion.evaluations[e].documents) {
      const int position =
          expansion.languages[static_cast<size_t>(document.language)];
      units.emplace(e, corpus.languages(position).language(), document.id,
                    document.digest);
    }
  }
  return units;
}

RC_GTEST_PROP(ExpandJob, MeasuresTheSame_HoweverTheSpecIsWritten, ()) {
  const SweepCase sweep = *AnySweep();
  const SweepCase other = *Rewritten(sweep);
  const Expansion a = Expanded(sweep);
  const Expansion b = Expanded(other);
  for (size_t m = 0; m < a.models.size(); ++m) {
    RC_ASSERT(DigestsOf(a.models[m]) == DigestsOf(b.models[m]));
    RC_ASSERT(a.models[m].evaluations == b.models[m].evaluations);
  }
  RC_ASSERT(UnitsOf(a, sweep.Corpus()) == UnitsOf(b, sweep.Corpus()));
  RC_ASSERT(a.models.size() == b.models.size());
}

PreparedSubmit Prepared(const SweepCase& sweep, const std::string& uuid,
                        bool dry_run = false) {
  v1::SubmitJobRequest request = sweep.Request(uuid);
  request.set_dry_run(dry_run);
  auto prepared = PrepareSubmit(
      request, std::make_shared<const v1::Corpus>(sweep.Corpus()));
  RC_ASSERT(prepared.status() == absl::OkStatus());
  return *std::move(prepared);
}

// A measurement is there when its key's turn is among `share` of three.
std::vector<PanelStatuses> MeasuredIn(const PreparedSubmit& prepared,
                                      int share) {
  std::vector<PanelStatuses> measured;
  for (const SubmitPanel& panel : prepared.panels) {
    PanelStatuses& statuses = measured.emplace_back();
    for (const Digest& configuration : panel.configurations) {
      for (const PlanDocument& document : panel.documents) {
        const Digest key =
            Digest::Of(configuration.bytes() + document.digest.bytes());
        const int turn = static_cast<unsigned char>(key.bytes()[0]) % 3;
        statuses.push_back(turn < share ? v1::ROW_STATUS_OK
                                        : v1::ROW_STATUS_UNSPECIFIED);
      }
    }
  }
  return measured;
}

// Long tasks are cut more often when they may have few rows.
Settings SmallTasks(int rows) {
  Settings settings;
  settings.max_rows_per_task = rows;
  return settings;
}

// What the mutations of a submit add to the work.
struct Added {
  uint64_t tasks = 0;
  uint64_t shared = 0;
  uint64_t keys = 0;         // that new tasks measure
  uint64_t shared_keys = 0;  // that tasks of others bring
  uint64_t layer_evaluations = 0;
  uint64_t layer_evaluations_naive = 0;
  std::set<Digest> content_keys;
};

// Layer evaluations of the group's trie, from its configurations' digests.
int64_t TrieOf(const PreparedSubmit& prepared, const TaskGroup& group) {
  for (size_t m = 0; m < prepared.models.size(); ++m) {
    if (prepared.models[m].digest != group.model_digest) {
      continue;
    }
    std::vector<const Configuration*> configurations;
    for (const auto& expanded : prepared.expansion.models[m].configurations) {
      if (std::ranges::find(group.configurations,
                            expanded.configuration.digest) !=
          group.configurations.end()) {
        configurations.push_back(&expanded.configuration);
      }
    }
    return TrieSize(prepared.models[m], configurations);
  }
  RC_FAIL("a group of a model that the job does not have");
}

bool HasBaseline(const PreparedSubmit& prepared, const TaskGroup& group) {
  for (const ExpandedModel& model : prepared.expansion.models) {
    for (const auto& expanded : model.configurations) {
      if (expanded.configuration.baseline() &&
          std::ranges::count(group.configurations,
                             expanded.configuration.digest) > 0) {
        return true;
      }
    }
  }
  return false;
}

Added AddedBy(const PreparedSubmit& prepared,
              const std::vector<Mutation>& mutations, const State& after) {
  Added added;
  std::set<TaskId> own;
  for (const TaskAdded& task : Only<TaskAdded>(mutations)) {
    const TaskGroup& group = after.group(task.group);
    const uint64_t configurations = group.configurations.size();
    own.insert(task.id);
    ++added.tasks;
    added.keys += configurations * task.documents.size();
    added.layer_evaluations += static_cast<uint64_t>(TrieOf(prepared, group));
    added.layer_evaluations_naive +=
        (configurations + (HasBaseline(prepared, group) ? 0 : 1)) *
        static_cast<uint64_t>(prepared.models.front().layers);
    RC_ASSERT(added.content_keys.insert(task.content_key).second);
  }
  for (const JobTaskAdded& task : Only<JobTaskAdded>(mutations)) {
    if (!own.contains(task.task)) {
      ++added.shared;
      added.shared_keys += static_cast<uint64_t>(task.num_measurements);
    }
  }
  return added;
}

// A state in which another job runs, and some of the measurements are there.
RC_GTEST_PROP(DecideSubmit, AddsWhatItsDryRunSays, ()) {
  const SweepCase sweep = *AnySweep();
  const Settings settings = SmallTasks(*rc::gen::inRange(1, 40));
  State state = StateBuilder().Build();
  if (*rc::gen::arbitrary<bool>()) {
    SweepCase earlier = sweep;
    earlier.patterns.resize(earlier.patterns.size() / 2 + 1);
    earlier.quantizers.resize(1);
    const PreparedSubmit first = Prepared(earlier, "earlier");
    state = After(state, DecideSubmit(state, first, MeasuredIn(first, 0),
                                      settings, TestNow())
                             .mutations);
  }
  const int share = *rc::gen::inRange(0, 4);
  const PreparedSubmit prepared = Prepared(sweep, "job");
  const auto measured = MeasuredIn(prepared, share);
  const auto dry = DecideSubmit(state, Prepared(sweep, "job", true), measured,
                                settings, TestNow());
  const auto real =
      DecideSubmit(state, prepared, measured, settings, TestNow());
  RC_ASSERT(dry.reply.status() == absl::OkStatus());
  RC_ASSERT(dry.mutations.empty());
  const v1::JobPlan& plan = dry.reply->plan();
  RC_ASSERT(plan.SerializeAsString() == real.reply->plan().SerializeAsString());

  const State after = After(state, real.mutations);
  RC_ASSERT(CheckInvariants(after) == std::vector<std::string>());
  const Added added = AddedBy(prepared, real.mutations, after);
  RC_ASSERT(added.tasks == plan.tasks());
  RC_ASSERT(added.shared == plan.tasks_shared());
  RC_ASSERT(added.layer_evaluations == plan.layer_evaluations());
  RC_ASSERT(added.layer_evaluations_naive == plan.layer_evaluations_naive());
  RC_ASSERT(added.keys + added.shared_keys + plan.measurements_reused() ==
            plan.measurements());
  RC_ASSERT(static_cast<int64_t>(plan.measurements()) ==
            prepared.expansion.num_measurements());
  const Job& job = after.jobs().rbegin()->second;
  RC_ASSERT(job.measurements_total ==
            static_cast<int64_t>(plan.measurements()));
  RC_ASSERT(job.terminal() == (added.tasks + added.shared == 0));
}

// The content keys are those of the work, not of the text that asked for it.
RC_GTEST_PROP(DecideSubmit, MakesTheSameTasks_HoweverTheSpecIsWritten, ()) {
  const SweepCase sweep = *AnySweep();
  const PreparedSubmit a = Prepared(sweep, "a");
  const PreparedSubmit b = Prepared(*Rewritten(sweep), "b");
  const Settings settings = SmallTasks(2000);
  const State empty = StateBuilder().Build();
  const auto first =
      DecideSubmit(empty, a, MeasuredIn(a, 0), settings, TestNow());
  const auto alone =
      DecideSubmit(empty, b, MeasuredIn(b, 0), settings, TestNow());
  const State after = After(empty, first.mutations);
  RC_ASSERT(
      AddedBy(a, first.mutations, after).content_keys ==
      AddedBy(b, alone.mutations, After(empty, alone.mutations)).content_keys);
  const auto second =
      DecideSubmit(after, b, MeasuredIn(b, 0), settings, TestNow());
  RC_ASSERT(second.reply->plan().tasks() == 0u);
  RC_ASSERT(second.reply->plan().tasks_shared() == first.reply->plan().tasks());
}

}  // namespace
}  // namespace qsweep::testing
