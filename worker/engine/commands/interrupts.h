#ifndef QSWEEP_WORKER_ENGINE_COMMANDS_INTERRUPTS_H_
#define QSWEEP_WORKER_ENGINE_COMMANDS_INTERRUPTS_H_

#include <csignal>

namespace qsweep {

// Lets a command clean up before SIGINT or SIGTERM ends it: while it lives,
// they wait. When it goes they do what they do, so it must outlive what is to
// be cleaned up. Made before other threads start, which then leave them alone,
// too.
class Interrupts {
 public:
  Interrupts() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
  }
  ~Interrupts() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Whether one waits. From any thread.
  bool pending() const {
    sigset_t signals;
    sigpending(&signals);
    return sigismember(&signals, SIGINT) == 1 ||
           sigismember(&signals, SIGTERM) == 1;
  }

 private:
  sigset_t before_ = {};
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_COMMANDS_INTERRUPTS_H_
