#ifndef QSWEEP_WORKER_SWEEP_PASS_PLAN_H_
#define QSWEEP_WORKER_SWEEP_PASS_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/job/model_description.h"
#include "worker/sweep/trie.h"

namespace qsweep {

// Which documents go through a model together, and where their states are.
// States that do not fit into memory leave two ways: fewer documents at a time,
// which costs a reading of the weights per pass, or a file, which costs the
// bytes that go there and come back. Pure functions over values.

// How often each state is read or written as a whole: a state per slot of the
// executors, then one per copy that leaves of one slot under several final
// norms need.
std::vector<int64_t> StateUses(const SweepPlan& plan, bool naive);

// Bytes of weights that one pass reads from the model's file and makes of them.
int64_t WeightBytesPerPass(const ModelDescription& model, const SweepPlan& plan,
                           bool naive);

// All in bytes, but row_step.
struct PassLimits {
  int64_t memory = 0;     // for states and what comes with them
  int64_t file_room = 0;  // for states in a file; 0: they cannot be in one
  int64_t state_row = 0;  // of one state
  int64_t other_row = 0;  // of a row of the pass, whatever the states
  int64_t row_step = 1;   // states have a multiple of so many rows
  int64_t weights = 0;    // WeightBytesPerPass
};

// Of a state of so many rows.
int64_t StateBytes(const PassLimits& limits, int64_t rows);

struct PassPlan {
  std::vector<std::vector<size_t>> passes;  // documents of each, in order
  std::vector<bool> in_file;                // per state
  int64_t file_bytes = 0;                   // of the largest pass; 0: no file
};

// The plan that moves the fewest bytes; of equal ones that with the smaller
// file. document_rows: of each document; 0: it is in no pass. uses: of
// StateUses. Nothing: the longest document does not fit.
std::optional<PassPlan> PlanPasses(std::span<const int64_t> document_rows,
                                   std::span<const int64_t> uses,
                                   const PassLimits& limits);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_SWEEP_PASS_PLAN_H_
