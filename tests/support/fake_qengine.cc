// An engine without a model, on the real pipe: `fake_qengine serve`. Its rows
// are a function of configuration and document digests, so that any two
// complete runs agree to the last bit. Knobs, all in the environment:
//   QSWEEP_FAKE_DELAY_MS  time a task takes, default 0
//   QSWEEP_FAKE_DIE_ON    the n-th task of this process ends it by SIGKILL,
//                         half-way
//   QSWEEP_FAKE_HANG_ON   the n-th task never ends and cannot be cancelled
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <signal.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <sys/prctl.h>

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/mutex.h"
#include "common/rpc/failure.h"
#include "common/rpc/frame.h"
#include "qsweep/v1/engine.pb.h"
#include "tests/support/fake_measurement.h"

namespace qsweep {
namespace {

int Knob(const char* name) {
  const char* text = std::getenv(name);
  int value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : 0;
}

class FakeEngine {
 public:
  explicit FakeEngine(int output) : output_(output) {}

  int Serve() {
    v1::EngineEvent event;
    v1::EngineReady& ready = *event.mutable_ready();
    ready.set_fingerprint("fake-1");
    ready.set_device("cpu");
    ready.set_memory_bytes(uint64_t{8} << 30);
    ready.set_gflops(100);
    ready.add_evaluations("aligned@1");
    ready.add_evaluations("hf-text@1");
    for (const char* method : {"rtn", "upstream"}) {
      ready.add_methods(method);
    }
    Emit(event);
    FrameReader reader(STDIN_FILENO);
    for (;;) {
      absl::StatusOr<std::optional<std::string>> frame = reader.Read();
      v1::EngineRequest request;
      if (!frame.ok() || !frame->has_value() ||
          !request.ParseFromString(**frame)) {
        _exit(frame.ok() && !frame->has_value() ? 0 : 1);
      }
      if (request.has_run()) {
        Start(std::move(*request.mutable_run()));
      } else if (request.has_cancel()) {
        MutexLock lock(mutex_);
        if (running_ == request.cancel().task_id()) {
          cancelled_ = true;
          changed_.NotifyAll();
        }
      }
    }
  }

 private:
  void Emit(const v1::EngineEvent& event) {
    MutexLock lock(output_mutex_);
    if (!WriteFrame(output_, event.SerializeAsString()).ok()) {
      _exit(1);
    }
  }
  void Fail(uint64_t task_id, const absl::Status& why) {
    v1::EngineEvent event;
    event.mutable_failed()->set_task_id(task_id);
    *event.mutable_failed()->mutable_failure() =
        FailureFromStatus(why, IsRetryable(why));
    Emit(event);
  }

  void Start(v1::EngineRun run) {
    const uint64_t task_id = run.task().task_id();
    {
      MutexLock lock(mutex_);
      if (running_ != 0) {
        Fail(task_id, absl::FailedPreconditionError("a task is running"));
        return;
      }
      running_ = task_id;
      cancelled_ = false;
    }
    if (worker_.joinable()) {
      worker_.join();
    }
    worker_ = std::thread([this, run = std::move(run)] { Run(run); });
  }

  // Sleeps; false when the task was cancelled meanwhile.
  bool Sleep(absl::Duration duration, bool cancellable) {
    MutexLock lock(mutex_);
    while (!(cancelled_ && cancellable)) {
      if (changed_.WaitFor(mutex_, duration)) {
        return true;
      }
    }
    return false;
  }

  void Run(const v1::EngineRun& run) {
    const v1::TaskSpec& task = run.task();
    ++num_tasks_;
    v1::EngineEvent end;
    const absl::Status status = Evaluate(run, *end.mutable_done());
    if (status.ok()) {
      end.mutable_done()->set_task_id(task.task_id());
    }
    {
      MutexLock lock(mutex_);
      running_ = 0;
    }
    if (status.ok()) {
      Emit(end);
    } else {
      Fail(task.task_id(), status);
    }
  }

  absl::Status Evaluate(const v1::EngineRun& run, v1::EngineDone& done) {
    const v1::TaskSpec& task = run.task();
    if (access(run.model_path().c_str(), F_OK) != 0) {
      return MakeError(kModelNotFound,
                       absl::StrCat("no model at '", run.model_path(), "'"));
    }
    const int steps = task.configurations_size();
    const absl::Duration step =
        absl::Milliseconds(Knob("QSWEEP_FAKE_DELAY_MS")) / std::max(steps, 1);
    for (int c = 0; c < steps; ++c) {
      Progress(task, c, steps);
      if (c == steps / 2) {
        if (num_tasks_ == Knob("QSWEEP_FAKE_DIE_ON")) {
          kill(getpid(), SIGKILL);
        }
        if (num_tasks_ == Knob("QSWEEP_FAKE_HANG_ON")) {
          Sleep(absl::Hours(1), false);
        }
      }
      if (!Sleep(step, true)) {
        return absl::CancelledError("cancelled");
      }
      for (int d = 0; d < task.documents_size(); ++d) {
        AddRow(task, c, d, *done.mutable_result()->add_rows());
      }
    }
    v1::TaskReport& report = *done.mutable_result()->mutable_report();
    report.set_engine("fake-1");
    report.set_device("cpu");
    return absl::OkStatus();
  }

  void Progress(const v1::TaskSpec& task, int done, int of) {
    v1::EngineEvent event;
    event.mutable_progress()->set_task_id(task.task_id());
    v1::TaskProgress& progress = *event.mutable_progress()->mutable_progress();
    progress.set_progress_seq(static_cast<uint64_t>(done) + 1);
    progress.set_phase(v1::TASK_PHASE_RUN);
    progress.set_fraction(static_cast<double>(done) / of);
    progress.set_text(absl::StrCat("configuration ", done + 1, " of ", of));
    Emit(event);
  }

  static void AddRow(const v1::TaskSpec& task, int c, int d,
                     v1::Measurement& row) {
    const v1::ConfigurationSpec& configuration = task.configurations(c);
    row = testing::FakeMeasurement(configuration.digest(),
                                   task.documents(d).digest(),
                                   configuration.layer_set() == "all");
    row.set_configuration_index(static_cast<uint32_t>(c));
    row.set_document_index(static_cast<uint32_t>(d));
  }

  const int output_;
  std::thread worker_;
  int num_tasks_ = 0;  // the worker thread's, one after the other
  Mutex output_mutex_;
  Mutex mutex_;
  CondVar changed_;
  uint64_t running_ ABSL_GUARDED_BY(mutex_) = 0;  // task id
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace
}  // namespace qsweep

int main(int argc, char** argv) {
  if (argc < 2 || std::string(argv[1]) != "serve") {
    std::fprintf(stderr, "usage: fake_qengine serve\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Frames own the real stdout; whatever prints goes to stderr.
  const int output = dup(STDOUT_FILENO);
  QSWEEP_CHECK(output >= 0);
  QSWEEP_CHECK(dup2(STDERR_FILENO, STDOUT_FILENO) == STDOUT_FILENO);
  return qsweep::FakeEngine(output).Serve();
}
