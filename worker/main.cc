// qworker: the process that computes for a coordinator. Reads the command
// line, wires the agent, turns SIGTERM into a goodbye.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <pthread.h>
#include <signal.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include <CLI/CLI.hpp>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/memory_limit.h"
#include "common/base/status_macros.h"
#include "common/base/token_text.h"
#include "common/base/version.h"
#include "common/rpc/channel.h"
#include "common/rpc/credential.h"
#include "common/rpc/tls_peer.h"
#include "common/rpc/worker_client.h"
#include "worker/agent/agent.h"
#include "worker/agent/worker_directory.h"

namespace qsweep {
namespace {

constexpr char kDescription[] =
    "Computes tasks for a qsweep coordinator.\n\n"
    "Examples:\n"
    "  qworker --server unix:.qsweep/.sock --dir .qsweep/worker-1\n"
    "  qworker --server sweeps.example.org:7680 --dir w --join qsw-join-...\n"
    "  qworker --dir w --time-limit 11h30m      (has joined before)\n"
    "  qworker --server localhost:7680 --token-file token --dir /var/qworker\n"
    "\n"
    "SIGTERM: takes no new task, lets the running one end within "
    "--drain-deadline, says\ngoodbye. Ctrl-C or a second SIGTERM: gives tasks "
    "back at no charge and ends within\na second. Results that wait in "
    "DIR/spool are sent at the next start.";

// The newest version of docs/protocol.md that this program speaks, and the
// oldest.
constexpr uint32_t kProtocol = 1;
constexpr uint32_t kProtocolMin = 1;

struct Flags {
  std::string server;
  std::string dir;
  std::string join;
  std::string token_file;
  std::string ca_file;
  std::string name;
  int threads = 0;
  std::string device = "auto";
  std::string memory = "0";
  std::string engine;
  double usd_per_hour = 0;
  std::string time_limit;
  std::string drain_deadline = "30s";
  std::string on_server_lost = "finish";
  std::string control = "stream";
  uint32_t protocol_max = kProtocol;
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--server,--coordinator", flags.server,
                 "Coordinator: unix:PATH or HOST:PORT; default: the one this "
                 "worker has joined")
      ->envname("QCTL_SERVER");
  app.add_option("--dir", flags.dir, "This worker's own folder")->required();
  app.add_option("--join", flags.join,
                 "Join token, or @FILE with one; needed at the first start, "
                 "ignored when it has joined with it");
  app.add_option("--token-file", flags.token_file,
                 "File with an access token, for HOST:PORT");
  app.add_option("--ca-file", flags.ca_file,
                 "The coordinator's certificate, for --token-file off this "
                 "machine");
  app.add_option("--name", flags.name, "Name for people; default: host name");
  app.add_option("--threads", flags.threads,
                 "Compute threads of the engine; 0: one per CPU it may use")
      ->check(CLI::Range(0, 4096));
  app.add_option("--device", flags.device,
                 "cpu, cuda, or auto (default): a GPU where there is one")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--memory", flags.memory,
                 "Of the device, that the engine may use: bytes, 800MB, "
                 "1.5GiB, or 40% of what is free; 0: most of it")
      ->check([](const std::string& text) {
        return std::string(ParseMemoryLimit(text).status().message());
      });
  app.add_option("--engine", flags.engine,
                 "The engine program; default: qengine beside this program");
  app.add_option("--usd-per-hour", flags.usd_per_hour,
                 "What this machine costs in dollars an hour: attempts have a "
                 "cost then; 0: not told")
      ->check(CLI::Range(0.0, 1e6));
  app.add_option("--time-limit", flags.time_limit,
                 "Leave after this long, as 11h30m; tasks that would not end "
                 "in time are not taken");
  app.add_option("--drain-deadline", flags.drain_deadline,
                 "What a running task has to end in when the worker is asked "
                 "to leave, or its time limit is near (default 30s)");
  app.add_option("--on-server-lost", flags.on_server_lost,
                 "finish: compute on, keep the result; stop: end the engine "
                 "when the lease has run out")
      ->check(CLI::IsMember({"finish", "stop"}));
  app.add_option("--control", flags.control,
                 "stream: one long call, polls when none gets through; poll: "
                 "for proxies that break long calls")
      ->check(CLI::IsMember({"stream", "poll"}));
  app.add_option("--protocol-max", flags.protocol_max,
                 "Speak no newer version of the protocol, as an older worker "
                 "would")
      ->check(CLI::Range(0u, kProtocol))
      ->group("");  // for tests alone
}

std::string HostName() {
  char name[256] = "worker";
  gethostname(name, sizeof(name) - 1);
  return name;
}

std::string NameFromFlags(const Flags& flags) {
  return flags.name.empty() ? HostName() : flags.name;
}

std::string BesideThisProgram(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / name).string();
}

absl::StatusOr<absl::Duration> ReadDuration(const char* flag,
                                            const std::string& text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) ||
      duration < absl::ZeroDuration()) {
    return MakeError(kBadValue, absl::StrCat("'", text, "' is no duration"),
                     flag, "write it as 90s, 45m or 11h30m");
  }
  return duration;
}

// directory must outlive the agent.
absl::StatusOr<AgentOptions> MakeOptions(const Flags& flags,
                                         const WorkerDirectory& directory) {
  AgentOptions options;
  options.directory = directory.path();
  v1::Hello& hello = options.settings.hello;
  hello.set_protocol_min(std::min(kProtocolMin, flags.protocol_max));
  hello.set_protocol_max(flags.protocol_max);
  hello.set_build_id(absl::StrCat(kVersion, " ", kRevision));
  hello.set_worker_uuid(directory.worker().bytes());
  hello.set_boot_id(directory.boot().bytes());
  hello.set_boot_seq(directory.boot_seq());
  hello.set_name(NameFromFlags(flags));
  hello.set_usd_per_hour(flags.usd_per_hour);
  options.settings.seed = static_cast<uint64_t>(getpid());
  options.settings.on_server_lost = flags.on_server_lost == "stop"
                                        ? OnServerLost::kStop
                                        : OnServerLost::kFinish;
  options.settings.control =
      flags.control == "poll" ? Control::kPoll : Control::kStream;
  if (!flags.time_limit.empty()) {
    QSWEEP_ASSIGN_OR_RETURN(options.settings.lifetime,
                            ReadDuration("time-limit", flags.time_limit));
    if (options.settings.lifetime == absl::ZeroDuration()) {
      return MakeError(kBadValue, "no time to work in", "time-limit",
                       "write it as 90s, 45m or 11h30m");
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(options.settings.drain_deadline,
                          ReadDuration("drain-deadline", flags.drain_deadline));
  options.keep_identity = [&directory](const WorkerUuid& worker) {
    return directory.KeepIdentity(worker);
  };
  options.engine.program =
      flags.engine.empty() ? BesideThisProgram("qengine") : flags.engine;
  options.engine.arguments = {
      "serve",     "--threads",  absl::StrCat(flags.threads),
      "--device",  flags.device, "--memory",
      flags.memory};
  return options;
}

absl::StatusOr<JoinTokenText> ReadJoinToken(const std::string& flag) {
  std::string text = flag;
  if (text.rfind('@', 0) == 0) {
    QSWEEP_ASSIGN_OR_RETURN(text, ReadTokenFile(text.substr(1)));
  }
  return ParseJoinToken(text);
}

// What this worker keeps of its coordinator; joins when it has a token that it
// has not joined with.
absl::StatusOr<std::optional<Credential>> FindCredential(
    const Flags& flags, const std::string& path) {
  QSWEEP_ASSIGN_OR_RETURN(std::optional<Credential> known,
                          ReadCredential(path));
  if (flags.join.empty()) {
    return known;
  }
  QSWEEP_ASSIGN_OR_RETURN(const JoinTokenText token, ReadJoinToken(flags.join));
  if (known.has_value() && known->joined_with == token.id) {
    QSWEEP_ASSIGN_OR_RETURN(const Digest pinned,
                            DigestOfCertificate(known->ca_pem));
    if (pinned == token.ca) {
      return known;
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(const Endpoint endpoint, ParseEndpoint(flags.server));
  if (endpoint.unix_socket()) {
    return MakeError(kBadValue, "a socket needs no --join", "join");
  }
  QSWEEP_ASSIGN_OR_RETURN(known, JoinCoordinator(endpoint.address, token,
                                                 NameFromFlags(flags), path));
  LogInfo(absl::StrCat("joined ", endpoint.address));
  return known;
}

absl::StatusOr<Endpoint> MakeEndpoint(const Flags& flags,
                                      const std::string& directory) {
  QSWEEP_ASSIGN_OR_RETURN(const std::optional<Credential> credential,
                          FindCredential(flags, directory + "/credential"));
  Endpoint endpoint;
  if (!flags.server.empty()) {
    QSWEEP_ASSIGN_OR_RETURN(endpoint, ParseEndpoint(flags.server));
  } else if (!credential.has_value()) {
    return MakeError(kBadCommandLine, "--server is needed", "server",
                     "name the coordinator: unix:PATH or HOST:PORT");
  }
  if (credential.has_value() && !endpoint.unix_socket()) {
    // Wherever it is now, it must be the one with the pinned certificate.
    const std::string address = endpoint.address;
    endpoint = credential->endpoint();
    endpoint.address = address.empty() ? endpoint.address : address;
  }
  if (!flags.token_file.empty() && !endpoint.unix_socket()) {
    QSWEEP_ASSIGN_OR_RETURN(endpoint.token, ReadTokenFile(flags.token_file));
  }
  if (!flags.ca_file.empty()) {
    QSWEEP_ASSIGN_OR_RETURN(endpoint.ca_pem,
                            ReadCertificateFile(flags.ca_file));
  }
  QSWEEP_RETURN_IF_ERROR(CheckEncrypted(endpoint));
  return endpoint;
}

// Turns SIGTERM into a drain and SIGINT into a goodbye. They must be blocked
// already, so that no other thread takes them.
class SignalThread {
 public:
  SignalThread(const sigset_t& signals, Agent& agent)
      : thread_([signals, &agent] {
          int number = 0;
          while (sigwait(&signals, &number) == 0 && number != SIGUSR1) {
            if (number == SIGINT) {
              agent.Shutdown("SIGINT");
            } else {
              agent.Drain("SIGTERM");
            }
          }
        }) {}
  ~SignalThread() {
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
  }

 private:
  std::thread thread_;
};

absl::Status RunWorker(const Flags& flags) {
  signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) {
    sigaddset(&signals, number);
  }
  // Before any thread starts: a join has some already.
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  QSWEEP_ASSIGN_OR_RETURN(const WorkerDirectory directory,
                          WorkerDirectory::Open(flags.dir));
  QSWEEP_ASSIGN_OR_RETURN(const Endpoint endpoint,
                          MakeEndpoint(flags, directory.path()));
  QSWEEP_ASSIGN_OR_RETURN(const AgentOptions options,
                          MakeOptions(flags, directory));
  LogInfo(absl::StrCat("worker ", directory.worker().text(), " start ",
                       directory.boot_seq(), ", server ", endpoint.address));
  QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<Agent> agent,
                          Agent::Start(options, MakeWorkerClient(endpoint)));
  const SignalThread signal_thread(signals, *agent);
  return agent->Wait();
}

}  // namespace
}  // namespace qsweep

int main(int argc, char** argv) {
  qsweep::SetLogName("qworker");
  CLI::App app(qsweep::kDescription, "qworker");
  app.set_version_flag("--version", std::string("qworker ") + qsweep::kVersion +
                                        " (" + qsweep::kRevision + ")");
  qsweep::Flags flags;
  qsweep::AddFlags(app, flags);
  absl::Status status;
  try {
    app.parse(argc, argv);
    status = qsweep::RunWorker(flags);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      return app.exit(error);
    }
    status = qsweep::MakeError(qsweep::kBadCommandLine, error.what(), "",
                               "see qworker --help");
  }
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", qsweep::FormatErrorForPeople(status).c_str());
  }
  return static_cast<int>(qsweep::ExitCodeOf(status));
}
