#ifndef QSWEEP_COORDINATOR_SERVICE_LISTEN_ADDRESS_H_
#define QSWEEP_COORDINATOR_SERVICE_LISTEN_ADDRESS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// Where the coordinator listens: "unix:PATH" or "HOST:PORT". Port 0: any free
// one.
struct ListenAddress {
  std::string address;          // as gRPC wants it
  std::string socket_path;      // of a unix socket; empty: TCP
  bool leaves_machine = false;  // others can reach it: calls must be encrypted
};

// INVALID_ARGUMENT QS1004: neither form.
absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text);

// Makes the folder of a unix socket (0700) and removes a socket that nobody
// answers; gRPC would replace a live one too. FAILED_PRECONDITION QS4002:
// somebody answers, or the path is not a socket. No effect on TCP.
absl::Status PrepareSocket(const ListenAddress& listen);

// FAILED_PRECONDITION QS4002 for an address that could not be bound.
absl::Status AddressTaken(const std::string& address);

// INVALID_ARGUMENT QS6009 for an address whose calls must be encrypted, when
// there is no certificate in the coordinator's directory.
absl::Status CertificateNeeded(const std::string& address,
                               const std::string& directory);

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_SERVICE_LISTEN_ADDRESS_H_
