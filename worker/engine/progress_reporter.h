#ifndef QSWEEP_WORKER_ENGINE_PROGRESS_REPORTER_H_
#define QSWEEP_WORKER_ENGINE_PROGRESS_REPORTER_H_

#include <cstddef>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "worker/engine/engine.h"
#include "worker/engine/pass.h"

namespace qsweep {

// Tells the sink what is done, not too often, with the partial sums of each
// language. Single-thread; borrows all it is given.
class ProgressReporter {
 public:
  // total_work: of all passes, in terms of LayerWork and HeadWork.
  ProgressReporter(const EngineTask& task, double total_work, EngineSink& sink)
      : task_(task), total_work_(total_work), sink_(sink) {}

  // documents: of the task, that pass.documents are.
  void StartPass(const Pass& pass, const std::vector<size_t>& documents);
  // pass_work: done of the pass so far. A new step is told at once, more of one
  // after a while.
  void Report(double pass_work, const std::string& step);
  // Tells the sums of the finished pass, and keeps them.
  void EndPass();
  // A step behind the passes.
  void Tell(const std::string& step);

 private:
  using Sums = std::vector<std::vector<DocumentSums>>;  // [language][config]

  void AddPass(Sums& sums) const;
  std::vector<EnginePartial> Partials() const;

  const EngineTask& task_;
  const double total_work_;
  EngineSink& sink_;
  const Pass* pass_ = nullptr;  // while one runs
  const std::vector<size_t>* documents_ = nullptr;
  double work_before_ = 0;  // of earlier passes
  double pass_work_ = 0;
  Sums finished_;
  std::string last_step_;
  SteadyTime last_time_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_PROGRESS_REPORTER_H_
