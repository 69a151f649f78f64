// What is particular to the file: pragmas, permissions, damage, a full disk,
// migrations. What every store promises: tests/contract/store_contract_test.cc.
#include "coordinator/store/sqlite_store.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <sys/mount.h>
#include <sys/stat.h>

#include "coordinator/core/state.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/schema.h"
#include "coordinator/store/sql.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/wal_alarm.h"
#include "tests/support/error_matchers.h"
#include "tests/support/sweep_batches.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

namespace fs = std::filesystem;

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

Database OpenPlain(const std::string& path) {
  auto database = Database::Open(path, Database::Mode::kReadWriteCreate);
  EXPECT_EQ(database.status(), absl::OkStatus());
  return *std::move(database);
}

// A watcher that catches up reads page after page.
TEST(ReadEvents, LooksAtNoMoreEventsThanItReturns) {
  TempDir directory;
  auto database = OpenWriter(directory / "coordinator.db");
  QSWEEP_ASSERT_OK(database);
  auto plan =
      database->Prepare(absl::StrCat("EXPLAIN QUERY PLAN ", sql::kReadEvents));
  QSWEEP_ASSERT_OK(plan);
  std::vector<std::string> steps;
  while (*plan->Step()) {
    steps.emplace_back(plan->Text(3));
  }
  ASSERT_FALSE(steps.empty());
  EXPECT_THAT(steps[0], HasSubstr("(job=? AND job_seq>?)"));
  EXPECT_THAT(steps, Each(Not(HasSubstr("TEMP B-TREE"))));
}

TEST(HasWalResetBug, KnowsTheFixAndItsBackports) {
  for (const int version : {3'007'000, 3'040'001, 3'044'005, 3'045'000,
                            3'050'006, 3'051'000, 3'051'002}) {
    EXPECT_TRUE(HasWalResetBug(version)) << version;
  }
  for (const int version : {3'006'023, 3'044'006, 3'044'007, 3'050'007,
                            3'051'003, 3'052'000, 4'000'000}) {
    EXPECT_FALSE(HasWalResetBug(version)) << version;
  }
}

TEST(OpenWriter, SetsEveryPragma) {
  TempDir directory;
  auto database = OpenWriter(directory / "coordinator.db");
  QSWEEP_ASSERT_OK(database);
  struct Case {
    const char* pragma;
    int64_t want;
  };
  for (const Case& c :
       {Case{"synchronous", 2}, Case{"foreign_keys", 1},
        Case{"busy_timeout", 5000}, Case{"wal_autocheckpoint", 0},
        Case{"journal_size_limit", 64 << 20}, Case{"temp_store", 2},
        Case{"trusted_schema", 0}, Case{"cell_size_check", 1},
        Case{"application_id", kApplicationId},
        Case{"user_version", CurrentSchemaVersion()}}) {
    EXPECT_EQ(*database->QueryInteger(absl::StrCat("PRAGMA ", c.pragma)),
              c.want)
        << c.pragma;
  }
  EXPECT_EQ(*database->QueryText("PRAGMA journal_mode"), "wal");
}

TEST(OpenWriter, KeepsFilesToTheirOwner) {
  TempDir directory;
  auto store = OpenSqliteStore({.directory = directory.path()});
  QSWEEP_ASSERT_OK(store);
  QSWEEP_ASSERT_OK((*store)->Commit(StartBatch(1)));
  for (const char* name : {"coordinator.db", "coordinator.db-wal",
                           "coordinator.lock", "coordinator.reserve"}) {
    struct stat info = {};
    ASSERT_EQ(stat((directory / name).c_str(), &info), 0) << name;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << name;
  }
}

TEST(OpenWriter, RefusesANewerDatabase) {
  TempDir directory;
  const std::string path = directory / "coordinator.db";
  QSWEEP_ASSERT_OK(OpenWriter(path));
  QSWEEP_ASSERT_OK(OpenPlain(path).Execute(
      absl::StrCat("PRAGMA user_version=", CurrentSchemaVersion() + 1)));
  const auto opened = OpenWriter(path);
  EXPECT_EQ(CodeOf(opened), "QS4005");
  EXPECT_EQ(FieldOf(opened), path);
}

TEST(OpenWriter, RefusesWhatIsNoDatabaseOfOurs) {
  TempDir directory;
  const std::string text = directory / "text.db";
  std::ofstream(text) << std::string(5000, 'x');
  EXPECT_EQ(CodeOf(OpenWriter(text)), "QS4006");
  EXPECT_EQ(ReadFile(text), std::string(5000, 'x'));

  const std::string other = directory / "other.db";
  QSWEEP_ASSERT_OK(OpenPlain(other).Execute("CREATE TABLE t (x)"));
  const auto opened = OpenWriter(other);
  EXPECT_EQ(CodeOf(opened), "QS4006");
  EXPECT_EQ(FieldOf(opened), other);
}

// Not even its journal mode.
TEST(OpenWriter, ChangesNothingOfWhatItRefuses) {
  TempDir directory;
  struct Case {
    const char* name;
    std::string pragmas;
  };
  for (const Case& c :
       {Case{"other", "PRAGMA application_id=7"},
        Case{"newer", absl::StrCat("PRAGMA application_id=", kApplicationId,
                                   ";PRAGMA user_version=",
                                   CurrentSchemaVersion() + 1)}}) {
    SCOPED_TRACE(c.name);
    const std::string path = directory / c.name;
    QSWEEP_ASSERT_OK(OpenPlain(path).Execute(
        absl::StrCat(c.pragmas, ";CREATE TABLE t (x)")));
    const std::string before = ReadFile(path);
    EXPECT_FALSE(OpenWriter(path).ok());
    EXPECT_TRUE(ReadFile(path) == before);
    EXPECT_FALSE(fs::exists(path + "-wal"));

    // What its own program has not checkpointed yet stays in its WAL.
    Database owner = OpenPlain(path);
    QSWEEP_ASSERT_OK(
        owner.Execute("PRAGMA journal_mode=WAL;PRAGMA wal_autocheckpoint=0;"
                      "INSERT INTO t VALUES (1)"));
    const std::string killed = path + " killed";
    for (const char* suffix : {"", "-wal"}) {
      fs::copy_file(path + suffix, killed + suffix);
    }
    const std::string database = ReadFile(killed);
    const std::string wal = ReadFile(killed + "-wal");
    EXPECT_FALSE(OpenWriter(killed).ok());
    EXPECT_TRUE(ReadFile(killed) == database);
    EXPECT_TRUE(ReadFile(killed + "-wal") == wal);
  }
}

TEST(OpenWriter, KeepsACopy_BeforeItMigrates) {
  TempDir directory;
  const std::string path = directory / "coordinator.db";
  std::vector<const char*> migrations(CurrentMigrations().begin(),
                                      CurrentMigrations().end());
  const auto copies = [&] {
    std::vector<std::string> found;
    for (const fs::directory_entry& entry :
         fs::directory_iterator(directory.path())) {
      if (entry.path().string().starts_with(path + ".v")) {
        found.push_back(entry.path().string());
      }
    }
    return found;
  };
  QSWEEP_ASSERT_OK(OpenWriter(path, "", true, migrations));
  EXPECT_TRUE(copies().empty());  // it was empty
  migrations.push_back("UPDATE coordinator SET epoch = 77");
  for (int i = 0; i < 2; ++i) {
    auto database = OpenWriter(path, "", true, migrations);
    QSWEEP_ASSERT_OK(database);
    EXPECT_EQ(*database->QueryInteger("SELECT epoch FROM coordinator"), 77);
    ASSERT_EQ(copies().size(), 1u);
  }
  const std::string copy = copies().front();
  EXPECT_TRUE(
      copy.starts_with(absl::StrCat(path, ".v", CurrentSchemaVersion(), "-20")))
      << copy;
  EXPECT_TRUE(copy.ends_with("Z")) << copy;
  auto older = OpenWriter(copy);  // as the older program would
  QSWEEP_ASSERT_OK(older);
  EXPECT_EQ(*older->QueryInteger("SELECT epoch FROM coordinator"), 0);
}

TEST(OpenWriter, RefusesADamagedDatabase) {
  TempDir directory;
  const std::string path = directory / "coordinator.db";
  QSWEEP_ASSERT_OK(OpenWriter(path));
  // A page in the middle, overwritten.
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(4096 * 5);
  file << std::string(4096, '\x5a');
  file.close();
  EXPECT_EQ(CodeOf(OpenWriter(path)), "QS4006");

  fs::resize_file(path, 4096 * 3 + 100);
  EXPECT_EQ(CodeOf(OpenWriter(path)), "QS4006");
}

TEST(OpenReader, CanNeitherWriteNorCheckpoint) {
  TempDir directory;
  auto store = OpenSqliteStore({.directory = directory.path()});
  QSWEEP_ASSERT_OK(store);
  QSWEEP_ASSERT_OK((*store)->Commit(StartBatch(1)));
  auto reader = OpenReader(DatabasePath(directory.path()));
  QSWEEP_ASSERT_OK(reader);
  EXPECT_EQ(*reader->QueryInteger("SELECT epoch FROM coordinator"), 1);
  EXPECT_FALSE(reader->Execute("UPDATE coordinator SET epoch = 7").ok());
  EXPECT_FALSE(reader->Execute("PRAGMA wal_checkpoint(TRUNCATE)").ok());
  EXPECT_EQ((*store)->Load()->coordinator_epoch, 1);
}

class SqliteStoreLog : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = OpenSqliteStore({.directory = directory_.path()});
    QSWEEP_ASSERT_OK(store);
    store_ = *std::move(store);
    auto reader = OpenReader(DatabasePath(directory_.path()));
    QSWEEP_ASSERT_OK(reader);
    reader_ = *std::move(reader);
  }
  void CommitMebibyte() {
    auto bytes = std::make_shared<const std::string>(
        absl::StrCat(committed_++, std::string(1 << 20, 'a')));
    QSWEEP_ASSERT_OK(store_->Commit(
        std::vector<Mutation>{ArtifactAdded{Digest::Of(*bytes), bytes}}));
  }
  int64_t Seen() {
    return *reader_->QueryInteger("SELECT count(*) FROM artifact");
  }
  void HoldSnapshot() {
    QSWEEP_ASSERT_OK(reader_->Execute("BEGIN"));
    EXPECT_EQ(Seen(), committed_);
  }
  void EndSnapshot() { QSWEEP_ASSERT_OK(reader_->Execute("COMMIT")); }
  uintmax_t FileBytes() {
    return fs::file_size(directory_ / "coordinator.db-wal");
  }

  TempDir directory_;
  std::unique_ptr<Store> store_;
  std::optional<Database> reader_;
  int committed_ = 0;
};

// Readers hold a snapshot nearly all the time, but each for some commits only.
TEST_F(SqliteStoreLog, BoundsTheWal_WhenCommitsGoOnBesideAReader) {
  for (int i = 0; i < 10; ++i) {  // 110 MiB
    CommitMebibyte();
    HoldSnapshot();
    const int seen = committed_;
    for (int j = 0; j < 10; ++j) {
      CommitMebibyte();
      EXPECT_EQ(Seen(), seen);
    }
    EndSnapshot();
  }
  EXPECT_LT(FileBytes(), 30u << 20);
  EXPECT_GT(store_->GetInfo()->database_bytes, 80 << 20);
}

// A snapshot that is held keeps the WAL from being used again; it is small
// again when the snapshot ends, which a reader's deadline sees to.
TEST_F(SqliteStoreLog, Shrinks_OnceASnapshotEnds) {
  CommitMebibyte();
  EXPECT_LT(store_->GetInfo()->wal_bytes, 3 << 20);
  HoldSnapshot();
  for (int i = 0; i < 80; ++i) {
    CommitMebibyte();
  }
  EXPECT_GT(FileBytes(), 80u << 20);
  EXPECT_GT(store_->GetInfo()->wal_bytes, 80 << 20);
  EXPECT_EQ(Seen(), 1);
  EndSnapshot();
  CommitMebibyte();
  CommitMebibyte();
  EXPECT_LT(FileBytes(), 20u << 20);
  EXPECT_LT(store_->GetInfo()->wal_bytes, 3 << 20);
}

TEST(WalAlarm, TellsOnce_AgainWhenItDoubled_AndWhenItIsOver) {
  constexpr int64_t kMiB = 1 << 20;
  WalAlarm alarm;
  EXPECT_EQ(alarm.Watch(kMiB), std::nullopt);
  EXPECT_EQ(alarm.Watch(kWalAlarmBytes), std::nullopt);
  EXPECT_THAT(alarm.Watch(130 * kMiB), Optional(HasSubstr("130 MiB")));
  EXPECT_EQ(alarm.Watch(131 * kMiB), std::nullopt);
  EXPECT_EQ(alarm.Watch(260 * kMiB), std::nullopt);
  EXPECT_THAT(alarm.Watch(261 * kMiB), Optional(HasSubstr("261 MiB")));
  EXPECT_THAT(alarm.Watch(kMiB), Optional(HasSubstr("beginning")));
  EXPECT_EQ(alarm.Watch(kMiB), std::nullopt);
  EXPECT_NE(alarm.Watch(129 * kMiB), std::nullopt);
}

TEST(SqliteStore, HoldsNothingBack_OnceNothingWasCommitted) {
  TempDir directory;
  auto store = OpenSqliteStore({.directory = directory.path()});
  QSWEEP_ASSERT_OK(store);
  for (const std::vector<Mutation>& batch : WholeSweep()) {
    QSWEEP_ASSERT_OK((*store)->Commit(batch));
  }
  const std::vector<Digest> configurations = SweepConfigurations();
  const std::vector<Digest> documents = SweepDocuments();
  QSWEEP_ASSERT_OK(
      (*store)->ReadMeasurements(kEvaluation, configurations, documents));
  QSWEEP_ASSERT_OK((*store)->Commit({}));
  Database other = OpenPlain(DatabasePath(directory.path()));
  QSWEEP_EXPECT_OK(other.Execute("BEGIN EXCLUSIVE; ROLLBACK"));
  // All of it: no reader holds on to an older snapshot.
  QSWEEP_EXPECT_OK(other.Execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  EXPECT_EQ(fs::file_size(DatabasePath(directory.path()) + "-wal"), 0u);
}

TEST(SqliteStore, CommitsResults_WhenTheDiskIsFullAndTheReserveIsFreed) {
  TempDir directory;
  if (geteuid() != 0 ||
      mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=8m") != 0) {
    GTEST_SKIP() << "needs the right to mount a small tmpfs";
  }
  {
    auto opened = OpenSqliteStore({.directory = directory.path()});
    ASSERT_EQ(opened.status(), absl::OkStatus());
    Store& store = **opened;
    State state;
    const auto commit = [&](const std::vector<Mutation>& batch) {
      for (const Mutation& mutation : batch) {
        state.Apply(mutation);
      }
      EXPECT_EQ(store.Commit(batch), absl::OkStatus());
    };
    for (const auto& batch : {StartBatch(1), CorpusBatch(), SubmitBatch(1),
                              AttachBatch(), LeaseBatch(1, 1)}) {
      commit(batch);
    }
    EXPECT_EQ(fs::file_size(directory / "coordinator.reserve"), 1u << 20);
    // Take what is left, to the last page of disk and WAL.
    const auto fill = [&](size_t size) {
      absl::Status full;
      for (int i = 0; i < 10'000 && full.ok(); ++i) {
        auto bytes = std::make_shared<const std::string>(
            absl::StrCat(size, ":", i, std::string(size, 'a')));
        full = store.Commit(
            std::vector<Mutation>{ArtifactAdded{Digest::Of(*bytes), bytes}});
      }
      return full;
    };
    EXPECT_EQ(CodeOf(fill(100'000)), "QS4004");
    EXPECT_EQ(fill(10).code(), absl::StatusCode::kResourceExhausted);
    const absl::Status refused = store.Commit(ResultBatch(1, 1));
    EXPECT_EQ(CodeOf(refused), "QS4004");
    EXPECT_EQ(FieldOf(refused), DatabasePath(directory.path()));
    EXPECT_FALSE(HintOf(refused).empty());
    EXPECT_EQ(State(*store.Load()).DumpDurable(), state.DumpDurable());

    EXPECT_EQ(store.ReleaseReserve(), absl::OkStatus());
    commit(ResultBatch(1, 1));
    EXPECT_EQ(State(*store.Load()).DumpDurable(), state.DumpDurable());
    EXPECT_EQ(CodeOf(fill(10'000)), "QS4004");
    EXPECT_EQ(CodeOf(store.RestoreReserve()), "QS4004");
  }
  EXPECT_EQ(umount(directory.path().c_str()), 0);
}

TEST(Audit, IsAppendOnly_WhoeverWrites) {
  TempDir directory;
  const std::string path = DatabasePath(directory.path());
  {
    auto store = OpenSqliteStore({.directory = directory.path()});
    QSWEEP_ASSERT_OK(store);
    QSWEEP_ASSERT_OK((*store)->Commit(std::vector<Mutation>{
        AuditRecorded{.actor = "socket", .action = "token_created"}}));
  }
  Database database = OpenPlain(path);
  EXPECT_FALSE(database.Execute("UPDATE audit SET actor = 'eve'").ok());
  EXPECT_FALSE(database.Execute("DELETE FROM audit").ok());
  EXPECT_EQ(*database.QueryText("SELECT actor FROM audit"), "socket");
}

// tests/golden/schema_v1.sql is a database as version 1 wrote it: WholeSweep().
TEST(Migrate, ReadsTheGoldenDatabaseOfVersion1) {
  TempDir directory;
  const std::string path = DatabasePath(directory.path());
  {
    Database database = OpenPlain(path);
    QSWEEP_ASSERT_OK(database.Execute(ReadFile(
        absl::StrCat(QSWEEP_SOURCE_DIR, "/tests/golden/schema_v1.sql"))));
    ASSERT_EQ(*database.QueryInteger("PRAGMA user_version"), 1);
  }
  auto store = OpenSqliteStore({.directory = directory.path()});
  QSWEEP_ASSERT_OK(store);
  State state;
  for (const auto& batch : WholeSweep()) {
    for (const Mutation& mutation : batch) {
      state.Apply(mutation);
    }
  }
  EXPECT_EQ(State(*(*store)->Load()).DumpDurable(), state.DumpDurable());
  auto reader = OpenReader(path);
  QSWEEP_ASSERT_OK(reader);
  EXPECT_EQ(*reader->QueryInteger("PRAGMA user_version"),
            CurrentSchemaVersion());
  EXPECT_EQ(*reader->QueryInteger("SELECT count(*) FROM measurements_v1 "
                                  "WHERE status = 'ok' AND tokens = 6"),
            9);
  EXPECT_EQ(*reader->QueryText("SELECT count(*) || codes FROM measurements_v1 "
                               "WHERE codes <> '' GROUP BY configuration"),
            absl::StrCat("3", Digest::Of("codes").hex()));
}

}  // namespace
}  // namespace qsweep::testing
