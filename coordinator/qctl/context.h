#ifndef QSWEEP_COORDINATOR_QCTL_CONTEXT_H_
#define QSWEEP_COORDINATOR_QCTL_CONTEXT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/rpc/coordinator_client.h"
#include "coordinator/qctl/command.h"
#include "coordinator/qctl/environment.h"
#include "coordinator/qctl/output/output.h"

namespace qsweep::qctl {

// What a running command works with: its arguments, the coordinator, and the
// way to print. Single-thread; lives for one command.
class Context {
 public:
  // environment must outlive this.
  Context(const Environment& environment, Arguments arguments,
          OutputStyle style);
  ~Context();

  const Environment& environment() const { return environment_; }
  const Arguments& arguments() const { return arguments_; }
  const OutputStyle& style() const { return style_; }
  bool for_people() const { return ForPeople(style_.format); }

  // The table on stdout, in the chosen format.
  absl::Status Print(const Table& table);
  // Bytes on stdout as they are.
  void PrintRaw(absl::string_view text);
  // A line on stderr, unless --quiet.
  void Note(absl::string_view line);
  // "next:  a   |   b" on stderr: commands the user may want now. For people
  // only, unless --quiet.
  void SuggestNext(const std::vector<std::string>& commands);

  // The folder of the local cluster: --dir, QCTL_DIR, ./.qsweep; absolute.
  std::string ClusterDir() const;
  // The coordinator of --server, --dir, QCTL_SERVER, QCTL_DIR or ./.qsweep, in
  // this order. QS4001: none is running there; QS1004, QS6001, QS6009, QS6011.
  absl::StatusOr<CoordinatorClient*> Client();
  // What Client dials, and the token it shows.
  absl::StatusOr<Endpoint> FindEndpoint() const;
  // How a suggested command names the same coordinator: "", " --dir X".
  std::string ServerFlags() const;

  // Where `login` keeps the credential of a server: XDG_CONFIG_HOME, else
  // ~/.config, qsweep/servers/HOST:PORT.
  std::string LoginPath(const std::string& address) const;

  // An absolute path of what the user wrote.
  std::string AbsolutePath(absl::string_view path) const;

 private:
  absl::StatusOr<Endpoint> EndpointOfDir(const std::string& dir) const;
  absl::StatusOr<Endpoint> EndpointOfAddress(const std::string& address) const;
  // Puts --ca-file in, when it is given.
  absl::StatusOr<Endpoint> WithAuthority(Endpoint endpoint) const;

  const Environment& environment_;
  const Arguments arguments_;
  const OutputStyle style_;
  std::unique_ptr<CoordinatorClient> client_;  // made when first asked for
};

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_CONTEXT_H_
