#include "tests/bench/unsynced_coordinator.h"

#include <csignal>
#include <fstream>

#include <CLI/CLI.hpp>

#include "common/base/check.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "coordinator/service/server.h"
#include "coordinator/store/sqlite.h"
#include "sqlite3.h"

namespace qsweep::bench {
namespace {

sqlite3_vfs* system_vfs = nullptr;
sqlite3_io_methods unsynced_methods;

int NoSync(sqlite3_file*, int) { return SQLITE_OK; }

// The system's file, but that a write-ahead log is never synced.
int Open(sqlite3_vfs*, sqlite3_filename name, sqlite3_file* file, int flags,
         int* out_flags) {
  const int result =
      system_vfs->xOpen(system_vfs, name, file, flags, out_flags);
  if (result == SQLITE_OK && (flags & SQLITE_OPEN_WAL) != 0) {
    unsynced_methods = *file->pMethods;
    unsynced_methods.xSync = NoSync;
    file->pMethods = &unsynced_methods;
  }
  return result;
}

void UseUnsyncedLog() {
  ConfigureSqlite();
  static sqlite3_vfs vfs;
  system_vfs = sqlite3_vfs_find(nullptr);
  vfs = *system_vfs;
  vfs.zName = "unsynced-log";
  vfs.xOpen = Open;
  QSWEEP_CHECK(sqlite3_vfs_register(&vfs, /*makeDflt=*/1) == SQLITE_OK);
}

}  // namespace

int ServeUnsynced(int argc, char** argv) {
  CLI::App app;
  ServerOptions options;
  double task_seconds = 60;
  app.add_option("--dir", options.directory);
  app.add_option("--listen", options.listen)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--tls", options.tls_on_loopback);
  app.add_option("--task-seconds", task_seconds);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  options.settings.task_target = absl::Seconds(task_seconds);
  options.settings.readings_min = 0;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  UseUnsyncedLog();
  const auto server = Server::Start(options, Clock::Real());
  if (!server.ok()) {
    LogError(server.status().message());
    return 1;
  }
  std::ofstream(options.directory + "/server")
      << (*server)->addresses().front() << "\n";
  int signal = 0;
  sigwait(&signals, &signal);
  return (*server)->Stop().ok() ? 0 : 1;
}

}  // namespace qsweep::bench
