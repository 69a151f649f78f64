#include <csignal>
#include <fcntl.h>
#include <memory>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include <sys/prctl.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/status_macros.h"
#include "worker/engine/commands/commands.h"
#include "worker/engine/engine.h"
#include "worker/engine/pipe.h"

namespace qsweep {

absl::Status RunServe(const EngineFlags& flags) {
  // An agent that dies must not leave an engine behind.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);  // a write to a dead agent fails instead
  // Frames get a descriptor of their own: whatever prints to stdout, a library
  // included, must not damage them.
  const int frames = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  if (frames < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
    return MakeError(kInternal, "cannot duplicate stdout");
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          Engine::Create({.device = flags.device,
                                          .threads = flags.threads,
                                          .memory = flags.memory,
                                          .cache_dir = ModelCacheDir(),
                                          .state_dir = StateDir()}));
  LogInfo(absl::StrCat(engine->info().fingerprint, ", ", engine->info().threads,
                       " threads, ", static_cast<int>(engine->info().gflops),
                       " GFLOP/s"));
  // A task may be deep in a file when the agent goes: nothing is worth waiting
  // for.
  return ServePipe(*engine, STDIN_FILENO, frames, [] { _exit(0); });
}

}  // namespace qsweep
