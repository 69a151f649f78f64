#ifndef QSWEEP_TESTS_SUPPORT_NETWORK_NAMESPACE_H_
#define QSWEEP_TESTS_SUPPORT_NETWORK_NAMESPACE_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/base/mutex.h"
#include "common/base/random.h"

namespace qsweep::testing {

// A network namespace without a name: it is gone with the last process in it,
// however that ends. Its loopback is up. Immutable.
class NetworkNamespace {
 public:
  // PERMISSION_DENIED: only root makes one.
  static absl::StatusOr<std::unique_ptr<NetworkNamespace>> Create();
  ~NetworkNamespace();
  NetworkNamespace(const NetworkNamespace&) = delete;
  NetworkNamespace& operator=(const NetworkNamespace&) = delete;

  int descriptor() const { return descriptor_; }
  // What `ip link ... netns` takes.
  std::string path() const;
  // Runs a command of the shell in it. INTERNAL with what it printed.
  absl::Status Run(const std::string& command) const;

 private:
  explicit NetworkNamespace(int descriptor) : descriptor_(descriptor) {}
  const int descriptor_;
};

// What happens to the packets of one direction.
struct LinkFault {
  absl::Duration delay;
  absl::Duration jitter;  // more delay, at random: packets overtake each other
  bool cut = false;       // every packet is lost, silently
};

// A link between two namespaces: a TUN device in each, and a thread that
// carries the packets from one to the other as the faults say. Thread-safe.
class TunLink {
 public:
  // The devices are named `device`; the caller gives them addresses.
  static absl::StatusOr<std::unique_ptr<TunLink>> Create(
      const NetworkNamespace& a, const NetworkNamespace& b,
      const std::string& device);
  ~TunLink();

  void Set(const LinkFault& a_to_b, const LinkFault& b_to_a);
  void SetBoth(const LinkFault& fault) { Set(fault, fault); }
  int64_t packets() const;  // carried so far, both ways

 private:
  TunLink(int a, int b, int wake);
  void Carry();

  const int tun_[2];
  const int wake_;  // eventfd
  Random random_{1};

  mutable Mutex mutex_;
  LinkFault faults_[2] ABSL_GUARDED_BY(mutex_);  // by sender
  int64_t packets_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_NETWORK_NAMESPACE_H_
