#ifndef QSWEEP_COORDINATOR_CORE_ESTIMATE_H_
#define QSWEEP_COORDINATOR_CORE_ESTIMATE_H_

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"

namespace qsweep {

// How long a task will take on a worker: from what attempts of the same model,
// evaluation and type of device took, else from the worker's own start-up
// measurement. Attempts took what workers say: within bounds of what follows
// without them, tight ones while there are few.

// In memory 2, on disk 1, else 0: where the worker has the model.
int Residency(const Worker& worker, const Digest& model);

// GFLOP/s that nine in ten attempts reach.
double SpeedOn(const State& state, const Worker& worker, const Digest& model,
               absl::string_view operation, const Settings& settings);

// Bytes of the model's weights a second that nine in ten attempts read.
double WeightBandwidthOn(const State& state, const Worker& worker,
                         const Digest& model, const Settings& settings);

struct Expected {
  absl::Duration run;   // nine in ten attempts are faster
  absl::Duration load;  // of the model, before; zero: it is in memory
};
// Of few attempts at most ten times what follows from the worker's own
// measurement: a task that seems too long for everybody is tried, and so found
// out about.
Expected ExpectedOn(const State& state, const Task& task, const Worker& worker,
                    const Settings& settings);

// How long an attempt may run in all, a week at most, and without a sign of
// progress, fetch_deadline at most.
absl::Duration RunLimit(const Expected& expected, const Settings& settings);
absl::Duration ProgressLimit(const Expected& expected,
                             const Settings& settings);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_ESTIMATE_H_
