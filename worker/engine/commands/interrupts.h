#ifndef QSWEEP_WORKER_ENGINE_COMMANDS_INTERRUPTS_H_
#define QSWEEP_WORKER_ENGINE_COMMANDS_INTERRUPTS_H_

#include <csignal>
#include <stop_token>
#include <thread>

namespace qsweep {

// Lets a command clean up before SIGINT or SIGTERM ends it: while it lives,
// they wait. When it goes they do what they do, so it must outlive what is to
// be cleaned up. Made before other threads start, which then leave them alone,
// too.
class Interrupts {
 public:
  Interrupts() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~Interrupts() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  const sigset_t& signals() const { return signals_; }

  // Whether one waits. From any thread.
  bool pending() const {
    sigset_t signals;
    sigpending(&signals);
    return sigismember(&signals, SIGINT) == 1 ||
           sigismember(&signals, SIGTERM) == 1;
  }

 private:
  sigset_t signals_ = {};
  sigset_t before_ = {};
};

// Requests a stop at once when one comes, also in the midst of a long step. A
// thread waits for it; where the system has no descriptor or thread for that,
// the steps' ends have to ask pending(). interrupts must outlive it.
class StopWhenInterrupted {
 public:
  explicit StopWhenInterrupted(const Interrupts& interrupts);
  ~StopWhenInterrupted();
  StopWhenInterrupted(const StopWhenInterrupted&) = delete;
  StopWhenInterrupted& operator=(const StopWhenInterrupted&) = delete;

  std::stop_token stop() const { return stop_.get_token(); }

 private:
  std::stop_source stop_;
  int signals_ = -1;  // can be read when one waits, and is not
  int end_ = -1;
  std::thread thread_;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_COMMANDS_INTERRUPTS_H_
