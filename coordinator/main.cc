// qcoordinator: the process that owns a directory's jobs and results. Reads the
// command line, starts the server, turns SIGTERM into a drain.
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <malloc.h>
#include <memory>
#include <optional>
#include <string>
#include <unistd.h>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include <CLI/CLI.hpp>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/log.h"
#include "common/base/random.h"
#include "common/base/status_macros.h"
#include "common/base/version.h"
#include "coordinator/service/certificates.h"
#include "coordinator/service/data_directory.h"
#include "coordinator/service/server.h"
#include "coordinator/store/backup.h"
#include "coordinator/store/sqlite.h"

namespace qsweep {
namespace {

constexpr char kDescription[] =
    "The coordinator of qsweep: keeps jobs, tasks and measurements in DIR and\n"
    "hands tasks to workers. 'qctl up' starts one for you.";

constexpr char kExamples[] =
    "Examples:\n"
    "  qcoordinator serve --dir .qsweep\n"
    "  qcoordinator serve --dir /var/lib/qsweep --listen 127.0.0.1:7680\n"
    "  qcoordinator serve --dir .qsweep --listen unix:.qsweep/.sock "
    "--listen 127.0.0.1:0\n"
    "  qcoordinator init --dir /var/lib/qsweep    then, for other machines:\n"
    "  qcoordinator serve --dir /var/lib/qsweep --listen 0.0.0.0:7680\n";

constexpr char kInitExamples[] =
    "A certificate authority and a certificate in DIR/tls. Keeps what is "
    "there.\n\n"
    "Examples:\n"
    "  qcoordinator init --dir /var/lib/qsweep\n"
    "  qcoordinator init --dir /var/lib/qsweep --name sweeps.example.org\n"
    "  qcoordinator init --dir /var/lib/qsweep --renew";

constexpr char kRestoreExamples[] =
    "Keeps the replaced database beside it. What happened after the backup is "
    "not known then.\n\n"
    "Examples:\n"
    "  qcoordinator restore --dir .qsweep "
    "--from .qsweep/backups/coordinator-TIME.db";

struct InitFlags {
  std::string directory;
  std::vector<std::string> names;
  bool renew = false;
};

struct Flags {
  ServerOptions server;
  std::string heartbeat;
  std::string lease_ttl;
  std::string failover_ttl;
  std::string progress_deadline;
  std::string start_deadline;
  std::string run_deadline;
  std::string queue_warning;
  double task_seconds = 0;
  std::vector<std::string> weights;
};

void AddInitOptions(CLI::App& init, InitFlags& flags) {
  init.add_option("--dir", flags.directory,
                  "The coordinator's directory; made if missing")
      ->required();
  init.add_option("--name", flags.names,
                  "One more host name or address for the certificate; may be "
                  "repeated. qsweep's own programs need none")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  init.add_flag("--renew", flags.renew,
                "Sign a new certificate with the authority that is there; "
                "nobody has to join again");
}

void AddOptions(CLI::App& serve, Flags& flags) {
  serve
      .add_option("--dir", flags.server.directory,
                  "Directory of the database, token and logs; made if missing")
      ->required();
  serve
      .add_option("--listen", flags.server.listen,
                  "unix:PATH or HOST:PORT; may be repeated; default: "
                  "unix:DIR/.sock. Off loopback calls are encrypted: run init "
                  "first")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  serve.add_flag("--tls", flags.server.tls_on_loopback,
                 "Encrypt calls on loopback, too");
  serve.add_option("--heartbeat", flags.heartbeat,
                   "How often workers report, as 10s (default)");
  serve.add_option("--lease-ttl", flags.lease_ttl,
                   "How long a silent worker keeps its task (60s); at least "
                   "three heartbeats");
  serve.add_option("--failover-ttl", flags.failover_ttl,
                   "How long leases wait for their workers after a restart "
                   "(120s); at least two lease TTLs");
  serve.add_option("--progress-deadline", flags.progress_deadline,
                   "How long a running task may show no progress (120s)");
  serve.add_option("--start-deadline", flags.start_deadline,
                   "How long a worker may take to begin with a lease (60s, or "
                   "three heartbeats); the lease TTL at most");
  serve.add_option("--run-deadline", flags.run_deadline,
                   "How long an attempt may run at least (10m, or two lease "
                   "TTLs); ten times what such tasks take, where that is more");
  serve.add_option("--queue-warning", flags.queue_warning,
                   "When to tell of a job that no worker takes (30m)");
  serve
      .add_option(
          "--task-seconds", flags.task_seconds,
          "How long one task should take, however long it reads weights "
          "(60, or four readings of the weights)")
      ->check(CLI::PositiveNumber);
  serve
      .add_option("--weight", flags.weights,
                  "OWNER=NUMBER: how much of the workers the owner's jobs get "
                  "beside those of others, who have 1; the owner is a token's "
                  "name, on this machine the user's; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  serve
      .add_option("--audit-rate", flags.server.settings.audit_rate,
                  "Share of tasks, 0 to 1, that another worker measures again "
                  "to compare (0); for workers you do not trust")
      ->check(CLI::Range(0.0, 1.0));
}

absl::Status SetDuration(const std::string& text, const char* flag,
                         absl::Duration& value) {
  if (text.empty()) {
    return absl::OkStatus();
  }
  if (!absl::ParseDuration(text, &value) || value <= absl::ZeroDuration()) {
    return MakeError(kBadValue, absl::StrCat("'", text, "' is no duration"),
                     flag, "write it like 10s, 500ms or 2m");
  }
  return absl::OkStatus();
}

absl::Status SetWeight(const std::string& text, Settings& settings) {
  const size_t equals = text.rfind('=');
  double weight = 0;
  if (equals == std::string::npos || equals == 0 ||
      !absl::SimpleAtod(text.substr(equals + 1), &weight) ||
      !std::isfinite(weight) || weight <= 0) {
    return MakeError(kBadValue, absl::StrCat("'", text, "' is no weight"),
                     "--weight", "write it like ann=2");
  }
  settings.weights[text.substr(0, equals)] = weight;
  return absl::OkStatus();
}

uint64_t SecureRandomNumber() {
  uint64_t number = 0;
  for (const char byte : SecureRandomBytes(sizeof(number))) {
    number = number << 8 | static_cast<unsigned char>(byte);
  }
  return number;
}

absl::Status ApplyFlags(Flags& flags) {
  Settings& settings = flags.server.settings;
  QSWEEP_RETURN_IF_ERROR(
      SetDuration(flags.heartbeat, "--heartbeat", settings.heartbeat));
  QSWEEP_RETURN_IF_ERROR(
      SetDuration(flags.lease_ttl, "--lease-ttl", settings.lease_ttl));
  QSWEEP_RETURN_IF_ERROR(
      SetDuration(flags.failover_ttl, "--failover-ttl", settings.failover_ttl));
  QSWEEP_RETURN_IF_ERROR(SetDuration(flags.progress_deadline,
                                     "--progress-deadline",
                                     settings.progress_deadline));
  settings.start_deadline = settings.DefaultStartDeadline();
  settings.run_deadline_min = settings.DefaultRunDeadline();
  QSWEEP_RETURN_IF_ERROR(SetDuration(flags.start_deadline, "--start-deadline",
                                     settings.start_deadline));
  QSWEEP_RETURN_IF_ERROR(SetDuration(flags.run_deadline, "--run-deadline",
                                     settings.run_deadline_min));
  QSWEEP_RETURN_IF_ERROR(SetDuration(flags.queue_warning, "--queue-warning",
                                     settings.queue_warning));
  if (flags.task_seconds > 0) {
    settings.task_target = absl::Seconds(flags.task_seconds);
    settings.readings_min = 0;
  }
  if (flags.server.listen.empty()) {
    flags.server.listen = {
        absl::StrCat("unix:", flags.server.directory, "/.sock")};
  }
  for (const std::string& weight : flags.weights) {
    QSWEEP_RETURN_IF_ERROR(SetWeight(weight, settings));
  }
  flags.server.seed = SecureRandomNumber();
  settings.audit_seed = SecureRandomNumber();
  return absl::OkStatus();
}

// A worker's connection is a descriptor; the usual limit of 1,024 is too few.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

// glibc raises both limits to what it has seen freed, up to 32 and 64 MiB.
// After a large plan the heap of each thread then keeps that much at its end,
// where malloc_trim does not reach. Set, they stay.
void GiveMemoryBackSoon() {
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, 2 << 20);
}

// "PID START": START, the clock ticks from boot to the start of the process,
// tells it apart from a later one with the same number.
std::string PidLine() {
  std::ifstream stat_file("/proc/self/stat");
  std::string stat((std::istreambuf_iterator<char>(stat_file)),
                   std::istreambuf_iterator<char>());
  stat.erase(0, stat.rfind(')') + 2);  // the name may hold anything
  const std::vector<std::string> fields = absl::StrSplit(stat, ' ');
  return absl::StrCat(getpid(), " ", fields.size() > 19 ? fields[19] : "0",
                      "\n");
}

// On a full disk it is not written: qctl then needs --server.
absl::Status WriteFile(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  errno = 0;
  std::ofstream file(temporary);
  file << text;
  file.close();
  if (file && rename(temporary.c_str(), path.c_str()) == 0) {
    return absl::OkStatus();
  }
  if (errno == ENOSPC) {
    LogWarning(absl::StrCat("the disk is full: ", path, " is not written"));
    unlink(temporary.c_str());
    return absl::OkStatus();
  }
  return MakeError(kCannotWrite, absl::StrCat("cannot write ", path), path);
}

// Serves until SIGTERM or SIGINT, or until the loop ends by an error.
absl::Status ServeUntilSignal(Server& server, const sigset_t& signals) {
  while (true) {
    const timespec second = {.tv_sec = 1, .tv_nsec = 0};
    const int signal = sigtimedwait(&signals, nullptr, &second);
    if (signal > 0) {
      LogInfo(absl::StrCat("draining: signal ", signal));
      return server.Stop();
    }
    QSWEEP_RETURN_IF_ERROR(server.CheckHealth());
  }
}

absl::Status Init(const InitFlags& flags) {
  QSWEEP_RETURN_IF_ERROR(MakeDataDirectory(flags.directory));
  const absl::Time now = Clock::Real().Now();
  QSWEEP_ASSIGN_OR_RETURN(
      const bool made,
      InitCertificates(flags.directory, flags.names, flags.renew, now));
  QSWEEP_ASSIGN_OR_RETURN(const std::optional<Certificates> certificates,
                          ReadCertificates(flags.directory, now));
  const std::string text =
      absl::StrCat(made ? "made" : "kept", "       ", flags.directory, "/tls\n",
                   "expires    ",
                   absl::FormatTime("%Y-%m-%d", certificates->expires_at,
                                    absl::UTCTimeZone()),
                   "\nSHA-256    ", certificates->ca_digest.hex(),
                   "\nKeep ca.key secret; it is needed only for --renew.\n"
                   "next:  qcoordinator serve --dir ",
                   flags.directory, " --listen unix:", flags.directory,
                   "/.sock --listen 0.0.0.0:7680\n"
                   "       qctl tokens create --role worker --dir ",
                   flags.directory, "\n");
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

// What qctl --dir reads: the address, and "tls" when calls to it are encrypted.
std::string ServerFile(const Server& server) {
  return absl::StrCat(server.addresses().front(), "\n",
                      server.encrypted().front() ? "tls\n" : "");
}

void LogSqliteVersion() {
  LogInfo(absl::StrCat("SQLite ", SqliteVersion()));
  if (HasWalResetBug(SqliteVersionNumber())) {
    LogWarning(
        "this SQLite may damage a database that two programs write: let no "
        "other write DIR/coordinator.db or checkpoint it while this one runs");
  }
}

absl::Status Serve(Flags flags) {
  QSWEEP_RETURN_IF_ERROR(ApplyFlags(flags));
  umask(077);  // texts and results are their owner's alone
  RaiseDescriptorLimit();
  GiveMemoryBackSoon();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  // Before any thread starts, so that all of them inherit it.
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  QSWEEP_ASSIGN_OR_RETURN(std::unique_ptr<Server> server,
                          Server::Start(flags.server, Clock::Real()));
  const std::string& directory = flags.server.directory;
  QSWEEP_RETURN_IF_ERROR(WriteFile(directory + "/coordinator.pid", PidLine()));
  QSWEEP_RETURN_IF_ERROR(WriteFile(directory + "/server", ServerFile(*server)));
  LogSqliteVersion();
  LogInfo(absl::StrCat("serving on ", absl::StrJoin(server->addresses(), " "),
                       ", directory ", directory, ", version ", kVersion, " ",
                       kRevision));
  const absl::Status end = ServeUntilSignal(*server, signals);
  unlink((directory + "/coordinator.pid").c_str());
  unlink((directory + "/server").c_str());
  if (end.ok()) {
    LogInfo("stopped");
  }
  return end;
}

struct RestoreFlags {
  std::string directory;
  std::string backup;
};

absl::Status Restore(const RestoreFlags& flags) {
  QSWEEP_RETURN_IF_ERROR(
      RestoreDatabase(flags.directory, flags.backup, Clock::Real().Now()));
  std::printf(
      "restored %s\nnext:  qcoordinator serve --dir %s   (the database that "
      "was there lies beside it as coordinator.db.replaced-*)\n",
      flags.backup.c_str(), flags.directory.c_str());
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  SetLogName("qcoordinator");
  Flags flags;
  RestoreFlags restore_flags;
  CLI::App app(kDescription, "qcoordinator");
  app.footer(kExamples);
  app.set_version_flag("--version",
                       absl::StrCat("qcoordinator ", kVersion, " ", kRevision));
  app.require_subcommand(1);
  CLI::App* serve =
      app.add_subcommand("serve", "Serve a directory until SIGTERM");
  serve->footer(kExamples);
  AddOptions(*serve, flags);
  CLI::App* restore = app.add_subcommand(
      "restore", "Put a backup in the place of a stopped directory's database");
  restore->footer(kRestoreExamples);
  restore->add_option("--dir", restore_flags.directory, "The directory")
      ->required();
  restore
      ->add_option("--from", restore_flags.backup,
                   "A file that 'qctl admin backup' made")
      ->required();
  InitFlags init_flags;
  CLI::App* init = app.add_subcommand(
      "init", "Make certificates, so that other machines can connect");
  init->footer(kInitExamples);
  AddInitOptions(*init, init_flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      return app.exit(error);
    }
    std::fputs((FormatErrorForPeople(
                    MakeError(kBadCommandLine, error.what(), "",
                              "see qcoordinator --help, or qcoordinator "
                              "serve --help")) +
                "\n")
                   .c_str(),
               stderr);
    return static_cast<int>(ExitCode::kUsage);
  }
  const absl::Status status = init->parsed()      ? Init(init_flags)
                              : restore->parsed() ? Restore(restore_flags)
                                                  : Serve(std::move(flags));
  if (!status.ok()) {
    std::fputs((FormatErrorForPeople(status) + "\n").c_str(), stderr);
  }
  return static_cast<int>(status.ok() ? ExitCode::kOk : ExitCodeOf(status));
}

}  // namespace
}  // namespace qsweep

int main(int argc, char** argv) { return qsweep::Main(argc, argv); }
