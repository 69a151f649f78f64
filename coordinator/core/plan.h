#ifndef QSWEEP_COORDINATOR_CORE_PLAN_H_
#define QSWEEP_COORDINATOR_CORE_PLAN_H_

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/base/digest.h"
#include "common/job/configuration.h"
#include "common/job/model_description.h"
#include "coordinator/core/settings.h"

namespace qsweep {

// How missing measurements become tasks: configurations that share a trie stay
// together, documents are cut into chunks. Pure; shapes: [configurations,
// documents] row-major.

struct PlanDocument {
  Digest digest;
  int language = 0;   // into the job's languages
  int unit = 0;       // rank of the aligned id
  double tokens = 0;  // estimated from its bytes
};

// TrieSize of sets of configurations of one model, each computed once: a large
// job has the same sets over and over. Single-thread; borrows both.
class TrieSizes {
 public:
  TrieSizes(const ModelDescription& model,
            std::vector<const Configuration*> configurations)
      : model_(model), configurations_(std::move(configurations)) {}

  // indexes: into the configurations, ascending.
  int64_t Of(const std::vector<int>& indexes);
  // Layer evaluations one configuration at a time, the baseline among them as
  // in the trie.
  int64_t NaiveOf(const std::vector<int>& indexes) const;
  const ModelDescription& model() const { return model_; }
  size_t num_configurations() const { return configurations_.size(); }

 private:
  const ModelDescription& model_;
  const std::vector<const Configuration*> configurations_;
  absl::flat_hash_map<std::vector<int>, int64_t> sizes_;
};

// One model under one evaluation.
struct PlanInput {
  TrieSizes* tries = nullptr;           // of the model and its configurations
  std::vector<PlanDocument> documents;  // by unit, then language
  std::vector<bool> missing;            // [configurations, documents]
  double gflops = 0;                    // of the slowest worker that may run it
  double reading_seconds = 0;           // of the model's weights, there, once
};

struct PlannedTask {
  std::vector<int> configurations;  // into PlanInput, ascending
  std::vector<int> documents;       // into PlanInput, ascending
  double estimated_seconds = 0;
  int64_t layer_evaluations = 0;        // size of its trie
  int64_t layer_evaluations_naive = 0;  // one configuration at a time
};

// Seconds of computing that a task is to have beside one reading of the
// weights: together task_target, or four readings where these take longer.
double WorkOfTask(double reading_seconds, const Settings& settings);

// Tasks that cover every missing key once and no other. Documents that lack the
// same configurations are cut into chunks of equal length (balance.h) of about
// task_target, at least four where that takes longer than a third of it, so
// that first results come early in all languages and workers share the work
// evenly; but into none shorter than four readings of the weights, which each
// task reads again. One document's configurations are cut in slices only where
// a task would else be twice too long or have too many rows.
std::vector<PlannedTask> PlanTasks(const PlanInput& input,
                                   const Settings& settings);

// What a task measures, as its identity: the same for all jobs that need just
// that. own: not empty for a job that shares nothing, whose tasks differ.
Digest TaskContentKey(const std::string& evaluation,
                      const std::set<Digest>& configurations,
                      const std::set<Digest>& documents,
                      const std::string& own);

// Layer evaluations of the trie of these configurations and the baseline: the
// distinct (embedding, layers 1..i) prefixes of their schemes.
int64_t TrieSize(const ModelDescription& model,
                 const std::vector<const Configuration*>& configurations);

// Bytes below which no engine can run the model, by the executor's layout:
// three layers in flight, or one tensor outside of them, in fp32. Nothing for
// states, which may be in a file (docs/adr/0024), nor for the libraries, which
// an engine does not count in what it has. The buffers of its threads come on
// top: an engine that is short of them says so (QS5006).
uint64_t EstimateMemoryBytes(const ModelDescription& model);

// How many floating-point operations a model takes for one token.
struct TokenCost {
  explicit TokenCost(const ModelDescription& model);

  // Seconds that the trie takes over `tokens` at `gflops`: matrix products of
  // the layers and of one head for each configuration.
  double Seconds(int64_t trie_size, int64_t num_configurations, double tokens,
                 double gflops) const;

  double of_layer = 0;
  double of_head = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_PLAN_H_
