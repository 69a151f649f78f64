#ifndef QSWEEP_TESTS_SUPPORT_HTTP2_BUFFERING_PROXY_H_
#define QSWEEP_TESTS_SUPPORT_HTTP2_BUFFERING_PROXY_H_

#include <atomic>
#include <string>
#include <thread>

namespace qsweep::testing {

// Stands between gRPC clients and a server on unix sockets, in plain HTTP/2.
// While it buffers, it keeps the data of an answer until the answer has ended,
// as many reverse proxies do: calls with one answer work, streams never say a
// word. Answers must stay below the flow-control window of 64 KiB. Thread-safe.
class Http2BufferingProxy {
 public:
  // Both are paths of sockets; it listens when the constructor returns.
  Http2BufferingProxy(const std::string& listen, const std::string& server);
  ~Http2BufferingProxy();

  // Also for answers that have begun.
  void SetBuffering(bool buffering) { buffering_ = buffering; }

 private:
  void Run();

  const std::string server_;
  int listener_ = -1;
  int stop_ = -1;  // eventfd
  std::atomic<bool> buffering_ = false;
  std::thread thread_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_HTTP2_BUFFERING_PROXY_H_
