#include "worker/engine/commands/interrupts.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <poll.h>
#include <system_error>
#include <unistd.h>

#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "common/base/check.h"

namespace qsweep {

StopWhenInterrupted::StopWhenInterrupted(const Interrupts& interrupts)
    : signals_(signalfd(-1, &interrupts.signals(), SFD_CLOEXEC)),
      end_(eventfd(0, EFD_CLOEXEC)) {
  if (signals_ < 0 || end_ < 0) {
    return;
  }
  try {
    thread_ = std::thread([this] {
      std::array<pollfd, 2> waits = {
          {{.fd = signals_, .events = POLLIN, .revents = 0},
           {.fd = end_, .events = POLLIN, .revents = 0}}};
      while (poll(waits.data(), waits.size(), /*timeout=*/-1) < 0) {
        QSWEEP_CHECK(errno == EINTR);
      }
      if (waits[0].revents != 0) {
        stop_.request_stop();
      }
    });
  } catch (const std::system_error&) {
  }
}

StopWhenInterrupted::~StopWhenInterrupted() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    QSWEEP_CHECK(write(end_, &one, sizeof(one)) == sizeof(one));
    thread_.join();
  }
  close(signals_);
  close(end_);
}

}  // namespace qsweep
