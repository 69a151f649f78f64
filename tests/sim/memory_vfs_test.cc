#include "tests/sim/memory_vfs.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/base/check.h"
#include "coordinator/store/sqlite.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/fuzz/no_reserve.h"
#include "tests/support/error_matchers.h"

namespace qsweep::sim {
namespace {

using ::qsweep::testing::CodeOf;

constexpr char kPath[] = "/db";

std::unique_ptr<Database> Open(const MemoryVfs& disk,
                               const std::string& synchronous = "FULL") {
  auto database =
      Database::Open(kPath, Database::Mode::kReadWriteCreate, disk.name());
  EXPECT_EQ(database.status(), absl::OkStatus());
  EXPECT_EQ(database->Execute(absl::StrCat(
                "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; "
                "PRAGMA synchronous=",
                synchronous, "; CREATE TABLE IF NOT EXISTS t (x BLOB)")),
            absl::OkStatus());
  return std::make_unique<Database>(*std::move(database));
}

absl::Status Insert(Database& database) {
  return database.Execute("INSERT INTO t VALUES (randomblob(5000))");
}

// Rows after power was cut `rows` commits later, and how the file is then.
int64_t RowsAfterPowerCut(uint64_t seed, const std::string& synchronous) {
  MemoryVfs disk(seed);
  auto database = Open(disk, synchronous);
  for (int i = 0; i < 10; ++i) {
    QSWEEP_EXPECT_OK(Insert(*database));
  }
  disk.CutPower();
  EXPECT_TRUE(absl::IsDataLoss(Insert(*database)));  // a dead process
  database.reset();
  disk.StartProcess();
  database = Open(disk, synchronous);
  EXPECT_EQ(*database->QueryText("PRAGMA integrity_check"), "ok");
  return *database->QueryInteger("SELECT count(*) FROM t");
}

TEST(MemoryVfs, LosesNothingThatWasSynced_WhenPowerIsCut) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    EXPECT_EQ(RowsAfterPowerCut(seed, "FULL"), 10) << seed;
  }
}

TEST(MemoryVfs, LosesCommitsThatWereNotSynced_WhenPowerIsCut) {
  int lost = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    lost += RowsAfterPowerCut(seed, "NORMAL") < 10 ? 1 : 0;
  }
  EXPECT_GT(lost, 20);
}

TEST(MemoryVfs, KeepsWhatWasWritten_WhenTheProcessDies) {
  MemoryVfs disk(1);
  auto database = Open(disk, "OFF");
  QSWEEP_EXPECT_OK(Insert(*database));
  disk.KillProcess();
  database.reset();
  disk.StartProcess();
  EXPECT_EQ(*Open(disk)->QueryInteger("SELECT count(*) FROM t"), 1);
}

TEST(MemoryVfs, DiesInTheMidstOfACommit_AndRollsBack) {
  for (int operation = 1; operation <= 6; ++operation) {
    MemoryVfs disk(static_cast<uint64_t>(operation));
    auto database = Open(disk);
    QSWEEP_EXPECT_OK(Insert(*database));
    bool died = false;
    disk.KillAfter(operation, [&died] { died = true; });
    const absl::Status status = Insert(*database);
    EXPECT_TRUE(died) << operation;
    EXPECT_FALSE(status.ok()) << operation;
    disk.CutPower();
    database.reset();
    disk.StartProcess();
    database = Open(disk);
    EXPECT_EQ(*database->QueryText("PRAGMA integrity_check"), "ok");
    EXPECT_GE(*database->QueryInteger("SELECT count(*) FROM t"), 1);
  }
}

TEST(MemoryVfs, SaysWhatADiskSays_WhenItFailsOrIsFull) {
  MemoryVfs disk(1);
  auto database = Open(disk);
  disk.FailNext(MemoryVfs::Fault::kShortWrite);
  EXPECT_TRUE(absl::IsResourceExhausted(Insert(*database)));
  QSWEEP_EXPECT_OK(Insert(*database));
  disk.FailNext(MemoryVfs::Fault::kWriteError);
  EXPECT_TRUE(absl::IsDataLoss(Insert(*database)));
  disk.FailNext(MemoryVfs::Fault::kSyncError);
  EXPECT_TRUE(absl::IsDataLoss(Insert(*database)));
  disk.set_capacity(disk.bytes_used());
  EXPECT_TRUE(absl::IsResourceExhausted(
      database->Execute("INSERT INTO t VALUES (randomblob(100000))")));
  EXPECT_FALSE(disk.TakeReserve(1));
  disk.set_capacity(disk.bytes_used() + 10);
  EXPECT_TRUE(disk.TakeReserve(10));
}

// What SQLite has in memory after it may be wrong: the process must end.
TEST(SqliteStore, RefusesEverything_OnceAReadHasFailed) {
  MemoryVfs disk(1);
  const auto open = [&disk] {
    auto store =
        OpenSqliteStore({.directory = "/d",
                         .vfs = disk.name(),
                         .reserve = std::make_unique<fuzz::NoReserve>(),
                         .check_pages = false});
    QSWEEP_CHECK(store.ok());
    return *std::move(store);
  };
  const std::vector<Mutation> batch = {CoordinatorStarted{.epoch = 1}};
  open();  // makes the file
  auto store = open();
  QSWEEP_EXPECT_OK(store->Health());
  disk.FailNext(MemoryVfs::Fault::kReadError);
  EXPECT_EQ(CodeOf(store->ReadTaskSpec(TaskId(1)).status()), "QS4006");
  EXPECT_EQ(CodeOf(store->Health()), "QS4006");
  EXPECT_EQ(CodeOf(store->Commit(batch)), "QS4006");
  EXPECT_EQ(CodeOf(store->Load().status()), "QS4006");
  store = open();
  QSWEEP_EXPECT_OK(store->Commit(batch));
  EXPECT_EQ(CodeOf(store->ReadTaskSpec(TaskId(1)).status()), "QS4021");
  QSWEEP_EXPECT_OK(store->Health());
}

TEST(MemoryVfs, CopiesTheFilesOfAnother) {
  MemoryVfs disk(1);
  QSWEEP_EXPECT_OK(Insert(*Open(disk)));
  MemoryVfs copy(2);
  copy.CopyFilesOf(disk);
  {
    auto database = Open(copy);
    EXPECT_EQ(*database->QueryInteger("SELECT count(*) FROM t"), 1);
    QSWEEP_EXPECT_OK(Insert(*database));
  }
  EXPECT_EQ(*Open(copy)->QueryInteger("SELECT count(*) FROM t"), 2);
  EXPECT_EQ(*Open(disk)->QueryInteger("SELECT count(*) FROM t"), 1);
}

TEST(MemoryVfs, KeepsReadersAndWriterApart_OnOneFile) {
  MemoryVfs disk(1);
  auto writer = Open(disk);
  QSWEEP_EXPECT_OK(Insert(*writer));
  auto reader = Database::Open(kPath, Database::Mode::kReadOnly, disk.name());
  QSWEEP_ASSERT_OK(reader);
  QSWEEP_EXPECT_OK(reader->Execute("BEGIN"));
  EXPECT_EQ(*reader->QueryInteger("SELECT count(*) FROM t"), 1);
  QSWEEP_EXPECT_OK(Insert(*writer));
  EXPECT_EQ(*reader->QueryInteger("SELECT count(*) FROM t"),
            1);  // its snapshot
  QSWEEP_EXPECT_OK(reader->Execute("COMMIT"));
  EXPECT_EQ(*reader->QueryInteger("SELECT count(*) FROM t"), 2);
}

}  // namespace
}  // namespace qsweep::sim
