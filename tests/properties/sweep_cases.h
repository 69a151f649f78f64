#ifndef QSWEEP_TESTS_PROPERTIES_SWEEP_CASES_H_
#define QSWEEP_TESTS_PROPERTIES_SWEEP_CASES_H_

#include <iosfwd>
#include <set>
#include <string>
#include <vector>

#include "common/job/model_description.h"
#include "qsweep/v1/coordinator.pb.h"
#include "qsweep/v1/job.pb.h"
#include "rapidcheck.h"

namespace qsweep::testing {

// Random sweeps of tiny models together with what the grammar says they mean,
// found without the product's parser.

// Any of the 2^n sets of 0 to n - 1.
rc::Gen<std::set<int>> AnySubset(int n);

// A text of the layer set language, and the layers it protects whole.
struct WrittenLayers {
  std::string text;
  bool all = false;  // "all", embeddings too
  std::set<int> layers;
};
// For a model with num_layers. Each item as a number, from the end, a range, a
// share of the depth, or even and odd; items may overlap and repeat.
rc::Gen<WrittenLayers> AnyLayers(int num_layers);

// {protect: each} and the like, or one text.
struct WrittenPattern {
  enum class Kind { kEach, kPairs, kTriples, kQuantizeEach, kText };
  Kind kind = Kind::kEach;
  WrittenLayers text;  // kText
};

// One of a few quantizers in one of its spellings.
struct WrittenQuantizer {
  int method = 0;    // equal numbers, equal quantizers
  int spelling = 0;  // any number
};

struct WrittenEvaluation {
  std::string eval;
  uint32_t samples = 0;  // 0: all
  uint32_t max_tokens = 0;
};

struct SweepCase {
  v1::JobKind kind = v1::JOB_KIND_LAYER_SWEEP;
  int num_models = 1;
  int num_layers = 2;
  std::set<int> tried;  // empty: all
  std::vector<WrittenPattern> patterns;
  std::vector<WrittenQuantizer> quantizers;
  int replicates = 1;
  // Ids of each language of the corpus, in order of code. Some are in all.
  std::vector<std::set<int>> ids;
  std::vector<int> languages;  // asked for, in this order; empty: all
  int reference = -1;          // language; -1: not said
  std::vector<WrittenEvaluation> evals;

  // By the grammar: configurations of each model, the baseline included.
  int64_t num_configurations() const;
  // The languages asked for, the reference included.
  std::set<int> chosen() const;
  // Of one evaluation: languages x documents.
  int64_t num_documents(const WrittenEvaluation& eval) const;

  v1::JobSpec Spec() const;
  std::vector<ModelDescription> Models() const;
  v1::Corpus Corpus() const;
  // uuid: stands for one.
  v1::SubmitJobRequest Request(const std::string& uuid) const;
};

// Small enough that a few hundred are expanded in a second.
rc::Gen<SweepCase> AnySweep();
// The same sweep: patterns, quantizers and languages in another order, each
// quantizer in another spelling.
rc::Gen<SweepCase> Rewritten(const SweepCase& sweep);

void showValue(const SweepCase& sweep, std::ostream& out);
void showValue(const WrittenLayers& layers, std::ostream& out);

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_PROPERTIES_SWEEP_CASES_H_
