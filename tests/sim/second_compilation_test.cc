// The product with its planted bugs, where random seeds do not reach them. Here
// nothing is planted, and everything holds; planted_bugs_test runs the same
// again with QSWEEP_PLANTED=NAME and expects a failure.
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <signal.h>
#include <stdlib.h>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/base/clock.h"
#include "common/job/corpus.h"
#include "common/rpc/coordinator_client.h"
#include "coordinator/service/server.h"
#include "coordinator/store/backup.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/sqlite_store.h"
#include "sqlite3.h"
#include "tests/sim/planted_bugs.h"
#include "tests/support/error_matchers.h"
#include "tests/support/scripted_worker_service.h"
#include "tests/support/sweep_requests.h"
#include "tests/support/temp_dir.h"
#include "worker/agent/agent.h"

namespace qsweep::sim {
namespace {

class SecondCompilation : public ::testing::Test {
 protected:
  SecondCompilation() {
    signal(SIGPIPE, SIG_IGN);
    if (const char* name = getenv("QSWEEP_PLANTED")) {
      EXPECT_TRUE(PlantBug(name)) << name;
    }
  }
  const testing::TempDir directory_;
};

sqlite3_vfs* system_vfs = nullptr;
const sqlite3_io_methods* system_methods = nullptr;
sqlite3_io_methods watched_methods;
// Called after each read of a database, by the thread that reads; where it
// returns false the read fails.
std::function<bool()> after_read;

int WatchedRead(sqlite3_file* file, void* to, int size, sqlite3_int64 at) {
  const int result = system_methods->xRead(file, to, size, at);
  return result != SQLITE_OK || after_read == nullptr || after_read()
             ? result
             : SQLITE_IOERR_READ;
}

int OpenWatched(sqlite3_vfs*, sqlite3_filename name, sqlite3_file* file,
                int flags, int* out_flags) {
  const int result =
      system_vfs->xOpen(system_vfs, name, file, flags, out_flags);
  if (result == SQLITE_OK && (flags & SQLITE_OPEN_MAIN_DB) != 0) {
    system_methods = file->pMethods;
    watched_methods = *system_methods;
    watched_methods.xRead = WatchedRead;
    file->pMethods = &watched_methods;
  }
  return result;
}

// Of databases that are opened from now on.
void WatchReads() {
  ConfigureSqlite();
  static sqlite3_vfs vfs;
  system_vfs = sqlite3_vfs_find(nullptr);
  vfs = *system_vfs;
  vfs.zName = "watched";
  vfs.xOpen = OpenWatched;
  ASSERT_EQ(sqlite3_vfs_register(&vfs, /*makeDflt=*/1), SQLITE_OK);
}

// The writer commits while the copy reads, by turns, so that no machine is too
// slow to outrun a copy that starts anew with every commit.
TEST_F(SecondCompilation, BackupEnds_UnderWrites) {
  // Pages: a step of the bug is 100, original and copy are 1,100 each.
  constexpr int kReadsPerCommit = 50;
  constexpr int kFewestCommits = 20;
  constexpr int kMostCommits = 200;
  WatchReads();
  const std::string bytes(size_t{4} << 20, 'x');
  absl::StatusOr<std::unique_ptr<Store>> store =
      OpenSqliteStore({.directory = directory_.path()});
  QSWEEP_ASSERT_OK(store);
  QSWEEP_ASSERT_OK((*store)->Commit(std::vector<Mutation>{
      ArtifactAdded{.digest = Digest::Of(bytes),
                    .bytes = std::make_shared<const std::string>(bytes)}}));
  store->reset();
  // Opened again, it has moved the WAL into the file.
  store = OpenSqliteStore({.directory = directory_.path()});
  QSWEEP_ASSERT_OK(store);
  int reads = 0;
  int commits = 0;
  bool commits_now = false;
  after_read = [&] {
    if (commits_now || ++reads % kReadsPerCommit != 0) {
      return true;
    }
    commits_now = true;
    ++commits;
    QSWEEP_EXPECT_OK((*store)->Commit(
        std::vector<Mutation>{CoordinatorStarted{.epoch = 1 + commits}}));
    commits_now = false;
    return commits < kMostCommits;
  };
  const auto info = BackUpDatabase(directory_.path(),
                                   absl::FromUnixSeconds(1'700'000'000), 1);
  after_read = nullptr;
  QSWEEP_ASSERT_OK(info) << "after " << commits << " commits";
  EXPECT_GT(info->bytes, int64_t{4} << 20);
  EXPECT_GE(commits, kFewestCommits);
}

TEST_F(SecondCompilation, HeartbeatsGoOn_WhileATaskRuns) {
  setenv("QSWEEP_FAKE_DELAY_MS", "2000", 1);
  ScriptedWorkerService service(directory_ / "sock");
  std::ofstream(directory_ / "model") << "weights";
  AgentOptions options;
  options.directory = directory_.path();
  options.engine = {.program = QSWEEP_BINARY_DIR "/tests/fake_qengine",
                    .arguments = {"serve"}};
  options.settings.hello.set_worker_uuid("0123456789abcdef");
  options.settings.goodbye_limit = absl::Milliseconds(50);
  options.keep_identity = [](const WorkerUuid&) { return absl::OkStatus(); };
  const auto agent =
      Agent::Start(options, MakeWorkerClient(service.endpoint()));
  QSWEEP_ASSERT_OK(agent);
  service.AwaitState([](const auto& s) { return s.has_hello(); });
  v1::DesiredState state;
  state.set_state_seq(1);
  state.set_beat_ack(1'000'000);
  state.mutable_welcome()->set_session_id("session 16 bytes");
  state.mutable_welcome()->set_heartbeat_ms(50);
  state.mutable_welcome()->set_lease_ttl_ms(60'000);
  state.mutable_welcome()->set_reconnect_backoff_max_ms(50);
  service.Push(state);
  state.clear_welcome();
  state.set_state_seq(2);
  v1::DesiredLease& lease = *state.add_leases();
  lease.set_task_id(7);
  lease.set_epoch(1);
  v1::TaskSpec& spec = *lease.mutable_spec();
  spec.set_task_id(7);
  spec.set_content_key("key");
  spec.mutable_model()->set_path(directory_ / "model");
  v1::LanguageCorpus corpus;
  corpus.set_language("eng");
  corpus.add_documents()->set_text("text");
  spec.add_languages()->set_language("eng");
  spec.mutable_languages(0)->set_artifact_digest(
      service.AddArtifact(SerializeLanguageCorpus(corpus)).bytes());
  spec.add_configurations()->set_digest("configuration");
  spec.add_documents()->set_digest("document");
  service.Push(state);
  const auto phase = [](const v1::WorkerState& s) {
    return s.held_size() == 1 ? s.held(0).progress().phase()
                              : v1::TASK_PHASE_UNSPECIFIED;
  };
  int beats = 0;
  service.AwaitState([&](const v1::WorkerState& s) {
    beats += phase(s) == v1::TASK_PHASE_RUN;
    return phase(s) == v1::TASK_PHASE_COMMIT;
  });
  EXPECT_GE(beats, 10);
  (*agent)->Shutdown("test");
  EXPECT_TRUE((*agent)->Wait().ok());
}

TEST_F(SecondCompilation, CutsAWatcher_WhoDoesNotRead) {
  ServerOptions options;
  options.directory = directory_.path();
  options.listen = {absl::StrCat("unix:", directory_ / ".sock")};
  options.settings.max_rows_per_task = 4;
  auto server = Server::Start(options, Clock::Real());
  QSWEEP_ASSERT_OK(server);
  const Endpoint endpoint = {.address = (*server)->addresses().front()};
  CoordinatorClient client(endpoint);
  const CorpusData corpus = testing::SmallCorpus(2000);
  for (const std::string& artifact : corpus.artifacts) {
    QSWEEP_ASSERT_OK(client.PutArtifact(artifact));
  }
  v1::AddCorpusRequest add;
  *add.mutable_corpus() = corpus.corpus;
  QSWEEP_ASSERT_OK(client.AddCorpus(add));
  const auto job = client.SubmitJob(testing::SweepRequest());
  QSWEEP_ASSERT_OK(job);
  const uint64_t tasks = job->plan().tasks();
  ASSERT_GE(tasks, 3000u);
  v1::WatchJobRequest watch;
  watch.mutable_job()->set_text("1");
  uint64_t events = 0;
  bool cancelled = false;
  // It reads nothing until all of them were sent.
  const absl::Status status =
      client.WatchJob(watch, [&](const v1::WatchEvent& event) {
        events += event.has_durable();
        if (!std::exchange(cancelled, true)) {
          v1::CancelJobRequest cancel;
          cancel.mutable_job()->set_text("1");
          QSWEEP_EXPECT_OK(client.CancelJob(cancel));
        }
        return true;
      });
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_LT(events, tasks);
}

}  // namespace
}  // namespace qsweep::sim
