#include "tests/support/network_namespace.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <poll.h>
#include <queue>
#include <sched.h>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/status_macros.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

constexpr absl::Duration kCommandTimeout = absl::Seconds(20);
constexpr size_t kPacketBytesMax = 64 << 10;

// Runs on a thread of its own, whose namespaces are its own.
template <typename Result, typename Function>
Result OnOtherThread(Function function) {
  Result result;
  std::thread thread([&] { result = function(); });
  thread.join();
  return result;
}

// A TUN device in the namespace; -1 and errno.
int OpenTun(int network, const std::string& device) {
  return OnOtherThread<int>([&] {
    if (setns(network, CLONE_NEWNET) != 0) {
      return -1;
    }
    // The device comes to be where its descriptor was opened.
    const int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun < 0) {
      return -1;
    }
    ifreq request = {};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    device.copy(request.ifr_name, IFNAMSIZ - 1);
    if (ioctl(tun, TUNSETIFF, &request) != 0) {
      close(tun);
      return -1;
    }
    return tun;
  });
}

struct Packet {
  SteadyTime due;
  int to = 0;
  std::string bytes;
};
struct Later {
  bool operator()(const Packet& a, const Packet& b) const {
    return a.due > b.due;
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<NetworkNamespace>> NetworkNamespace::Create() {
  const int descriptor = OnOtherThread<int>([] {
    if (unshare(CLONE_NEWNET) != 0) {
      return -1;
    }
    return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  });
  if (descriptor < 0) {
    return absl::PermissionDeniedError(
        "cannot make a network namespace: not root");
  }
  std::unique_ptr<NetworkNamespace> made(new NetworkNamespace(descriptor));
  QSWEEP_RETURN_IF_ERROR(made->Run("ip link set lo up"));
  return made;
}

NetworkNamespace::~NetworkNamespace() { close(descriptor_); }

std::string NetworkNamespace::path() const {
  return absl::StrCat("/proc/", getpid(), "/fd/", descriptor_);
}

absl::Status NetworkNamespace::Run(const std::string& command) const {
  const TempDir dir;
  const std::string log = dir / "log";
  const auto child = ChildProcess::Start(
      {.argv = {"/bin/sh", "-c",
                absl::StrCat("PATH=$PATH:/usr/sbin:/sbin; ", command)},
       .log_path = log,
       .network = descriptor_});
  const std::optional<int> status = child->Wait(kCommandTimeout);
  if (status == 0) {
    return absl::OkStatus();
  }
  std::ifstream file(log);
  return absl::InternalError(
      absl::StrCat(command, ": ",
                   std::string((std::istreambuf_iterator<char>(file)),
                               std::istreambuf_iterator<char>())));
}

absl::StatusOr<std::unique_ptr<TunLink>> TunLink::Create(
    const NetworkNamespace& a, const NetworkNamespace& b,
    const std::string& device) {
  const int tun_a = OpenTun(a.descriptor(), device);
  const int tun_b = tun_a < 0 ? -1 : OpenTun(b.descriptor(), device);
  if (tun_b < 0) {
    const absl::Status error = absl::ErrnoToStatus(errno, "make a TUN device");
    close(tun_a);
    return error;
  }
  return std::unique_ptr<TunLink>(
      new TunLink(tun_a, tun_b, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
}

TunLink::TunLink(int a, int b, int wake) : tun_{a, b}, wake_(wake) {
  QSWEEP_CHECK(wake_ >= 0);
  thread_ = std::thread([this] { Carry(); });
}

TunLink::~TunLink() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_, 1);
  thread_.join();
  for (const int descriptor : {tun_[0], tun_[1], wake_}) {
    close(descriptor);
  }
}

void TunLink::Set(const LinkFault& a_to_b, const LinkFault& b_to_a) {
  MutexLock lock(mutex_);
  faults_[0] = a_to_b;
  faults_[1] = b_to_a;
}

int64_t TunLink::packets() const {
  MutexLock lock(mutex_);
  return packets_;
}

void TunLink::Carry() {
  std::priority_queue<Packet, std::vector<Packet>, Later> waiting;
  std::string buffer(kPacketBytesMax, '\0');
  while (true) {
    const absl::Duration until_due =
        waiting.empty() ? absl::Seconds(1)
                        : waiting.top().due - Clock::Real().SteadyNow();
    pollfd ready[] = {{.fd = tun_[0], .events = POLLIN},
                      {.fd = tun_[1], .events = POLLIN},
                      {.fd = wake_, .events = POLLIN}};
    poll(ready, std::size(ready),
         static_cast<int>(std::max<int64_t>(
             0, absl::ToInt64Milliseconds(until_due + absl::Milliseconds(1)))));
    const SteadyTime now = Clock::Real().SteadyNow();
    {
      MutexLock lock(mutex_);
      if (stopping_) {
        return;
      }
      for (int from = 0; from < 2; ++from) {
        const LinkFault& fault = faults_[from];
        ssize_t size;
        while ((size = read(tun_[from], buffer.data(), buffer.size())) > 0) {
          if (!fault.cut) {
            waiting.push(
                {.due = now + fault.delay + fault.jitter * random_.Uniform(),
                 .to = 1 - from,
                 .bytes = buffer.substr(0, static_cast<size_t>(size))});
          }
        }
      }
      for (; !waiting.empty() && waiting.top().due <= now; waiting.pop()) {
        const Packet& packet = waiting.top();
        // A full queue loses it, as on any link.
        packets_ += write(tun_[packet.to], packet.bytes.data(),
                          packet.bytes.size()) > 0;
      }
    }
  }
}

}  // namespace qsweep::testing
