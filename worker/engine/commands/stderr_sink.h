#ifndef QSWEEP_WORKER_ENGINE_COMMANDS_STDERR_SINK_H_
#define QSWEEP_WORKER_ENGINE_COMMANDS_STDERR_SINK_H_

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "worker/engine/engine.h"

namespace qsweep {

// Says on stderr how far the run is, at most once in two seconds.
class StderrSink : public EngineSink {
 public:
  void OnProgress(const EngineProgress& progress) override {
    const SteadyTime now = Clock::Real().SteadyNow();
    if (now - last_ >= absl::Seconds(2)) {
      last_ = now;
      LogInfo(absl::StrCat(static_cast<int>(100 * progress.fraction), "%  ",
                           progress.text));
    }
  }

 private:
  SteadyTime last_ = Clock::Real().SteadyNow();
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_COMMANDS_STDERR_SINK_H_
