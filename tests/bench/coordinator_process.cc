#include "tests/bench/coordinator_process.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <signal.h>
#include <sstream>
#include <unistd.h>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/base/status_macros.h"
#include "common/base/token_text.h"
#include "common/rpc/credential.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/sqlite_store.h"

namespace qsweep::bench {
namespace {

constexpr absl::Duration kStartTimeout = absl::Minutes(3);
constexpr absl::Duration kStopTimeout = absl::Minutes(1);

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  return std::string((std::istreambuf_iterator<char>(file)),
                     std::istreambuf_iterator<char>());
}

}  // namespace

CoordinatorProcess::CoordinatorProcess(Options options)
    : options_(std::move(options)) {
  std::filesystem::remove_all(options_.directory);
  std::filesystem::create_directories(options_.directory);
}

absl::Status CoordinatorProcess::Start() {
  const std::string tls = options_.directory + "/tls";
  if (options_.tls && !std::filesystem::exists(tls)) {
    auto init = testing::ChildProcess::Start(
        {.argv = {options_.init_program, "init", "--dir", options_.directory},
         .log_path = log_path()});
    if (init->Wait(kStartTimeout) != 0) {
      return absl::UnavailableError(
          absl::StrCat(options_.init_program, " init: ", LogEnd()));
    }
  }
  const std::string socket = "unix:" + options_.directory + "/.sock";
  std::vector<std::string> argv = {options_.program};
  argv.insert(argv.end(), options_.words.begin(), options_.words.end());
  const std::vector<std::string> flags = {
      "--dir",          options_.directory,
      "--listen",       absl::StrCat("127.0.0.1:", port_),
      "--listen",       socket,
      "--task-seconds", absl::StrFormat("%.9f", options_.task_seconds)};
  argv.insert(argv.end(), flags.begin(), flags.end());
  if (options_.tls) {
    argv.push_back("--tls");
  }
  argv.insert(argv.end(), options_.flags.begin(), options_.flags.end());
  const std::string server_file = options_.directory + "/server";
  std::filesystem::remove(server_file);
  process_ = testing::ChildProcess::Start(
      {.argv = std::move(argv), .log_path = log_path()});
  const bool answers = testing::AwaitTrue(kStartTimeout, [&] {
    // A new client for a new coordinator: the old one's channel backs off.
    client_ = std::make_unique<CoordinatorClient>(
        Endpoint{.address = socket},
        CoordinatorClientOptions{.timeout = absl::Minutes(2)});
    // It writes its address after it listens.
    return !process_->running() || (client_->GetStatus({}).ok() &&
                                    std::filesystem::exists(server_file));
  });
  if (!answers || !process_->running()) {
    return absl::UnavailableError(
        absl::StrCat("the coordinator does not start: ", LogEnd()));
  }
  const std::string server = ReadAll(server_file);
  const std::string address = server.substr(0, server.find('\n'));
  if (!absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port_)) {
    return absl::InternalError(absl::StrCat("no port in '", server, "'"));
  }
  return absl::OkStatus();
}

absl::Status CoordinatorProcess::Stop() {
  process_->Signal(SIGTERM);
  if (process_->Wait(kStopTimeout) != 0) {
    return absl::InternalError(
        absl::StrCat("the coordinator did not end well: ", LogEnd()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Endpoint>> CoordinatorProcess::JoinWorkers(
    int count) {
  const std::string address = absl::StrCat("127.0.0.1:", port_);
  std::vector<Endpoint> endpoints;
  if (!options_.tls) {
    QSWEEP_ASSIGN_OR_RETURN(const std::string token,
                            ReadTokenFile(options_.directory + "/token"));
    endpoints.resize(static_cast<size_t>(count),
                     Endpoint{.address = address, .token = token});
    return endpoints;
  }
  const Secret secret = Secret::Make();
  v1::CreateTokenRequest request;
  request.set_secret_sha256(secret.digest().bytes());
  request.set_kind(v1::TOKEN_KIND_JOIN);
  request.set_role(v1::ROLE_WORKER);
  request.set_reusable(true);
  QSWEEP_ASSIGN_OR_RETURN(const v1::CreateTokenResponse created,
                          client_->CreateToken(request));
  QSWEEP_ASSIGN_OR_RETURN(const Digest ca,
                          Digest::FromBytes(created.ca_sha256()));
  const JoinTokenText token = {
      .ca = ca,
      .id = TokenId(static_cast<int64_t>(created.token().token_id())),
      .secret = secret};
  std::filesystem::create_directories(options_.directory + "/workers");
  for (int i = 0; i < count; ++i) {
    QSWEEP_ASSIGN_OR_RETURN(
        const Credential credential,
        JoinCoordinator(address, token, absl::StrCat("bench-", i),
                        absl::StrCat(options_.directory, "/workers/", i)));
    endpoints.push_back(credential.endpoint());
  }
  return endpoints;
}

CoordinatorProcess::Use CoordinatorProcess::use() const {
  Use use;
  const std::string proc = absl::StrCat("/proc/", process_->pid());
  std::istringstream status(ReadAll(proc + "/status"));
  std::string key;
  while (status >> key) {
    double value = 0;
    if (key == "Threads:" && status >> value) {
      use.threads = static_cast<int>(value);
    } else if (key == "VmRSS:" && status >> value) {
      use.rss_mib = value / 1024;
    } else if (key == "VmHWM:" && status >> value) {
      use.rss_peak_mib = value / 1024;
    }
  }
  const std::string stat = ReadAll(proc + "/stat");
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) {
    fields >> skipped;
  }
  double user = 0;
  double system = 0;
  fields >> user >> system;
  use.cpu_seconds = (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  return use;
}

absl::StatusOr<int64_t> CoordinatorProcess::Count(
    const std::string& sql) const {
  QSWEEP_ASSIGN_OR_RETURN(Database database,
                          Database::Open(DatabasePath(options_.directory),
                                         Database::Mode::kReadOnly));
  return database.QueryInteger(sql);
}

std::string CoordinatorProcess::LogEnd() const {
  constexpr size_t kTail = 2000;
  const std::string log = ReadAll(log_path());
  return log.substr(log.size() - std::min(log.size(), kTail));
}

}  // namespace qsweep::bench
