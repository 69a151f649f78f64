#ifndef QSWEEP_COORDINATOR_SERVICE_SERVER_H_
#define QSWEEP_COORDINATOR_SERVICE_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/base/clock.h"
#include "coordinator/core/settings.h"

namespace qsweep {

struct ServerOptions {
  std::string directory;  // made (0700) when it does not exist
  // "unix:PATH" or "HOST:PORT", port 0: any. At least one.
  std::vector<std::string> listen;
  // Encrypt calls on loopback, too; what others can reach always is.
  bool tls_on_loopback = false;
  Settings settings;
  uint64_t seed = 0;  // of session ids and jitter
};

// A whole coordinator: store, loop, reader threads, gRPC server, health
// service.
//   QSWEEP_ASSIGN_OR_RETURN(std::unique_ptr<Server> server,
//                           Server::Start(options, Clock::Real()));
//   ... server->addresses() ...
//   status = server->Stop();
// Single-thread; the calls it serves come on threads of its own.
class Server {
 public:
  // Serving when it returns. clock outlives the server. Errors:
  // INVALID_ARGUMENT QS1004 (listen, settings), QS6009 (encryption is needed
  // and there are no certificates), FAILED_PRECONDITION QS4002 (address in
  // use), QS4003 (another coordinator on the directory), QS7002 (directory
  // cannot be written), ReadCertificates', and OpenSqliteStore's.
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const ServerOptions& options, const Clock& clock);

  // As Stop, its status dropped.
  virtual ~Server() = default;

  // What clients dial, parallel to options.listen, ports filled in.
  virtual const std::vector<std::string>& addresses() const = 0;
  // Parallel to addresses: whether calls there are encrypted.
  virtual const std::vector<bool>& encrypted() const = 0;
  // An admin's token: what DIR/token holds.
  virtual const std::string& token() const = 0;
  // What clients of an encrypted address pin now, PEM; empty: no certificates,
  // or none that can be used.
  virtual std::string certificate_authority() const = 0;

  // Sets the health service to SERVING or NOT_SERVING by the loop's state, and
  // returns OK or the error that ended the loop: then nothing is served any
  // more and the process must exit. To be called about once a second.
  virtual absl::Status CheckHealth() = 0;

  // Drains: NOT_SERVING, workers hear going_away, what is queued commits, calls
  // end within `grace`, the WAL is checkpointed. Once. Returns the loop's end.
  virtual absl::Status Stop(absl::Duration grace = absl::Seconds(2)) = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_SERVER_H_
