#ifndef QSWEEP_TESTS_SUPPORT_TLS_SERVER_H_
#define QSWEEP_TESTS_SUPPORT_TLS_SERVER_H_

#include <atomic>
#include <string>
#include <thread>

#include "common/base/mutex.h"

namespace qsweep::testing {

// A TLS server that is not a coordinator, on loopback: shakes hands with the
// key and the chain it is given and records what it is told. Both PEM; the
// chain's first certificate is the key's. Thread-safe.
class TlsServer {
 public:
  TlsServer(const std::string& key_pem, const std::string& chain_pem);
  ~TlsServer();

  const std::string& address() const { return address_; }
  int connections() const { return connections_; }
  // All bytes that came encrypted, readable.
  std::string received();

 private:
  void Serve();
  void Talk(int descriptor);

  const std::string key_pem_;
  const std::string chain_pem_;
  std::string address_;
  int listener_ = -1;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> connections_ = 0;

  Mutex mutex_;
  std::string received_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_TLS_SERVER_H_
