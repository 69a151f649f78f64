#include "worker/agent/engine_process.h"

#include <cstring>
#include <errno.h>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

// Between the end of its output and its exit; an engine that exits needs
// milliseconds.
constexpr int kExitGraceMs = 2'000;

// Both ends close with it, unless taken.
class Pipe {
 public:
  ~Pipe() {
    for (const int fd : fd_) {
      if (fd >= 0) {
        close(fd);
      }
    }
  }
  bool Open() { return pipe2(fd_, O_CLOEXEC) == 0; }
  int reader() const { return fd_[0]; }
  int writer() const { return fd_[1]; }
  int TakeReader() { return std::exchange(fd_[0], -1); }
  int TakeWriter() { return std::exchange(fd_[1], -1); }

 private:
  int fd_[2] = {-1, -1};
};

absl::Status CannotStart(const std::string& program, int error) {
  return MakeError(kEngineMissing,
                   absl::StrCat("cannot start the engine '", program,
                                "': ", strerror(error)),
                   "engine", "name the program with --engine PATH");
}

// Starts the program with the pipes as its stdin and stdout, no signal blocked
// or ignored.
int Spawn(const EngineProcess::Options& options, int stdin_fd, int stdout_fd,
          pid_t* pid) {
  std::vector<std::string> words = {options.program};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, stdin_fd, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, stdout_fd, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  // An own process group: a Ctrl-C at the terminal is for the worker, which
  // ends the engine in good order.
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK |
                                            POSIX_SPAWN_SETSIGDEF |
                                            POSIX_SPAWN_SETPGROUP);
  const int error = posix_spawn(pid, options.program.c_str(), &files,
                                &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error;
}

std::string DescribeExit(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) {
    return absl::StrCat("exited with code ", info.si_status);
  }
  return absl::StrCat("was killed by signal ", info.si_status, " (",
                      strsignal(info.si_status), ")");
}

}  // namespace

absl::StatusOr<std::unique_ptr<EngineProcess>> EngineProcess::Start(
    const Options& options, Callbacks callbacks) {
  Pipe input;
  Pipe output;
  if (!input.Open() || !output.Open()) {
    return CannotStart(options.program, errno);
  }
  if (access(options.program.c_str(), X_OK) != 0) {
    return CannotStart(options.program, errno);
  }
  std::unique_ptr<EngineProcess> engine(
      new EngineProcess(options, std::move(callbacks)));
  const int error =
      Spawn(options, input.reader(), output.writer(), &engine->pid_);
  if (error != 0) {
    MutexLock lock(engine->mutex_);
    engine->reaped_ = true;
    return CannotStart(options.program, error);
  }
  engine->input_ = input.TakeWriter();
  engine->output_ = output.TakeReader();
  engine->reader_ = std::thread([raw = engine.get()] { raw->ReadEvents(); });
  return engine;
}

EngineProcess::EngineProcess(const Options& options, Callbacks callbacks)
    : options_(options), callbacks_(std::move(callbacks)) {}

EngineProcess::~EngineProcess() {
  Kill();
  if (reader_.joinable()) {
    reader_.join();
  }
  CloseInput();
  if (output_ >= 0) {
    close(output_);
  }
}

absl::Status EngineProcess::Send(const v1::EngineRequest& request) {
  if (input_ < 0) {
    return absl::UnavailableError("the engine's input is closed");
  }
  return WriteFrame(input_, request.SerializeAsString());
}

void EngineProcess::CloseInput() {
  if (input_ >= 0) {
    close(std::exchange(input_, -1));
  }
}

void EngineProcess::Kill() {
  MutexLock lock(mutex_);
  if (!reaped_) {
    kill(pid_, SIGKILL);
  }
}

void EngineProcess::ReadEvents() {
  FrameReader reader(output_, options_.max_frame_bytes);
  absl::Status broken;
  for (;;) {
    absl::StatusOr<std::optional<std::string>> frame = reader.Read();
    if (!frame.ok()) {
      broken = frame.status();
      break;
    }
    if (!frame->has_value()) {
      break;
    }
    v1::EngineEvent event;
    if (!event.ParseFromString(**frame)) {
      broken = absl::DataLossError("a frame is not an EngineEvent");
      break;
    }
    callbacks_.on_event(std::move(event));
  }
  if (!broken.ok()) {
    Kill();
  }
  const siginfo_t exit = WaitForExit();
  std::string text = absl::StrCat("the engine ", DescribeExit(exit));
  if (!broken.ok()) {
    absl::StrAppend(&text, "; its pipe: ", broken.message());
  }
  callbacks_.on_exit(MakeError(kEngineDied, text, "",
                               "the worker's log has the engine's last words"),
                     broken.ok() && exit.si_code != CLD_EXITED);
}

// Waits until the child is gone, kills it when its output ended and it did not.
siginfo_t EngineProcess::WaitForExit() {
  const int pid_fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (pid_fd >= 0) {
    pollfd exited = {.fd = pid_fd, .events = POLLIN};
    int ready;
    do {
      ready = poll(&exited, 1, kExitGraceMs);
    } while (ready < 0 && errno == EINTR);
    close(pid_fd);
    if (ready == 0) {
      Kill();
    }
  }
  siginfo_t info = {};
  while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) !=
             0 &&
         errno == EINTR) {
  }
  MutexLock lock(mutex_);
  reaped_ = true;
  waitpid(pid_, nullptr, 0);
  return info;
}

}  // namespace qsweep
