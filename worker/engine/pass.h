#ifndef QSWEEP_WORKER_ENGINE_PASS_H_
#define QSWEEP_WORKER_ENGINE_PASS_H_

#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/engine/products.h"
#include "worker/engine/weight_sources.h"
#include "worker/kernels/row_kernels.h"
#include "worker/model/checkpoint.h"
#include "worker/sweep/executor.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// Sums over one document's tokens under one configuration.
struct DocumentSums {
  // A token without a finite loss on either side is in `tokens` and
  // `nonfinite` alone, so that the losses stay sums over the same tokens.
  void Add(const kernels::TokenScore& score);

  double nll = 0;
  double nll_fp = 0;
  double kl = 0;
  uint64_t tokens = 0;
  uint64_t top1 = 0;
  uint64_t nonfinite = 0;
  bool final = false;
};

// The documents that go through the model together, and their results.
struct Pass {
  std::vector<std::span<const int32_t>> documents;  // ids, two at least
  // [configurations][documents]: filled by PassMachine::Score.
  std::vector<std::vector<DocumentSums>> sums;
};

// The rows of a pass, a row per token that is scored, documents one after the
// other.
struct PassRows {
  explicit PassRows(const Pass& pass);

  struct Document {
    int64_t first = 0;  // its rows
    int64_t count = 0;
  };
  std::vector<Document> documents;
  std::vector<int32_t> gold;  // [rows] the id to predict
  int64_t longest = 1;        // rows of a document
  int64_t count() const { return static_cast<int64_t>(gold.size()); }
};

// Called on the thread that runs the sweep, after each step: what has been done
// of the pass, in terms of LayerWork and HeadWork, and the step for people.
// Sums of finished documents are in the pass.
using PassProgress =
    std::function<void(double work_done, const std::string& step)>;

// Multiplications of one row through a layer, and through the head.
double LayerWork(const ModelConfig& config);
double HeadWork(const ModelConfig& config);

// What a device needs to take a pass through a model. Everything borrowed must
// outlive the machine made of it.
struct PassContext {
  const Checkpoint& checkpoint;
  const ModelDescription& model;
  const SweepPlan& plan;
  WeightSources sources;  // for every scheme of the plan
  Compute compute = Compute::kFp32;
  SumOrder order = SumOrder::kUsual;  // of the products
  std::stop_token stop;
  int num_slots = 0;
  // Per state, as StateUses counts them: whether it is in a file in
  // state_directory. Devices that keep all in memory look at neither.
  std::vector<bool> states_in_file;
  std::string state_directory;
  Pass& pass;
  PassProgress progress;
};

// A decoder that takes the documents of a pass through its layers. One thread
// calls it.
class PassMachine : public SweepMachine {
 public:
  // Rows that the products of a layer have been computed for: layer
  // evaluations times the rows of the pass.
  virtual int64_t rows_advanced() const = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_PASS_H_
