#include "coordinator/store/backup.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/store/schema.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/support/error_matchers.h"
#include "tests/support/sweep_batches.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kTime = absl::FromUnixSeconds(1'700'000'000);

std::unique_ptr<Store> OpenStore(const TempDir& directory) {
  auto store = OpenSqliteStore({.directory = directory.path()});
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

void CommitWholeSweep(Store& store) {
  for (const auto& batch : WholeSweep()) {
    QSWEEP_ASSERT_OK(store.Commit(batch));
  }
}

std::string StateOf(Store& store) { return State(*store.Load()).DumpDurable(); }

// Flips the byte that says what kind of page the second one is.
void DamageFile(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(4096);
  const int byte = file.get();
  file.seekp(4096);
  file.put(static_cast<char>(byte ^ 0xff));
}

TEST(BackUpDatabase, RestoresWhatWasThere) {
  TempDir directory;
  auto store = OpenStore(directory);
  CommitWholeSweep(*store);
  const std::string before = StateOf(*store);
  const auto info = BackUpDatabase(directory.path(), kTime, 7);
  QSWEEP_ASSERT_OK(info);
  EXPECT_GT(info->bytes, 0);
  EXPECT_THAT(*FindDatabaseProblems(info->path), IsEmpty());
  // What came later is gone after the restore, and kept beside.
  QSWEEP_ASSERT_OK(
      store->Commit(std::vector<Mutation>{CoordinatorStarted{.epoch = 99}}));
  EXPECT_EQ(CodeOf(RestoreDatabase(directory.path(), info->path, kTime)),
            "QS4003");
  store.reset();
  QSWEEP_ASSERT_OK(RestoreDatabase(directory.path(), info->path, kTime));
  EXPECT_EQ(StateOf(*OpenStore(directory)), before);
  EXPECT_TRUE(std::filesystem::exists(DatabasePath(directory.path()) +
                                      ".replaced-20231114T221320.000000Z"));
}

TEST(BackUpDatabase, NamesTheWholePath) {
  TempDir directory;
  const auto store = OpenStore(directory);
  const std::string relative =
      std::filesystem::relative(directory.path()).string();
  const auto info = BackUpDatabase(relative, kTime, 7);
  QSWEEP_ASSERT_OK(info);
  EXPECT_TRUE(std::filesystem::path(info->path).is_absolute()) << info->path;
  EXPECT_TRUE(std::filesystem::exists(info->path));
}

TEST(BackUpDatabase, IsWhole_WhileCommitsGoOn) {
  TempDir directory;
  auto store = OpenStore(directory);
  CommitWholeSweep(*store);
  std::atomic<bool> stop = false;
  std::atomic<int> commits = 0;
  std::thread writer([&] {
    for (int64_t epoch = 2; !stop; ++epoch) {
      QSWEEP_EXPECT_OK(store->Commit(
          std::vector<Mutation>{CoordinatorStarted{.epoch = epoch}}));
      ++commits;
    }
  });
  while (commits == 0) {
    std::this_thread::yield();
  }
  for (int i = 0; i < 5; ++i) {
    const auto info =
        BackUpDatabase(directory.path(), kTime + absl::Seconds(i), 7);
    QSWEEP_EXPECT_OK(info);
  }
  stop = true;
  writer.join();
}

TEST(BackUpDatabase, KeepsTheNewest) {
  TempDir directory;
  const auto store = OpenStore(directory);
  std::vector<std::string> paths;
  for (int i = 0; i < 3; ++i) {
    const auto info =
        BackUpDatabase(directory.path(), kTime + absl::Seconds(i), 2);
    QSWEEP_ASSERT_OK(info);
    paths.push_back(info->path);
    EXPECT_THAT(info->removed, SizeIs(i == 2 ? 1 : 0));
  }
  EXPECT_FALSE(std::filesystem::exists(paths[0]));
  EXPECT_TRUE(std::filesystem::exists(paths[1]));
  EXPECT_TRUE(std::filesystem::exists(paths[2]));
}

TEST(RestoreDatabase, ChangesNothing_WhenTheBackupIsNotSound) {
  TempDir directory;
  std::string before;
  std::string backup;
  {
    auto store = OpenStore(directory);
    CommitWholeSweep(*store);
    before = StateOf(*store);
    backup = BackUpDatabase(directory.path(), kTime, 7)->path;
  }
  EXPECT_EQ(CodeOf(RestoreDatabase(directory.path(), backup + "x", kTime)),
            "QS4007");
  DamageFile(backup);
  EXPECT_EQ(CodeOf(RestoreDatabase(directory.path(), backup, kTime)), "QS4006");
  std::ofstream(backup) << "no database";
  EXPECT_EQ(CodeOf(RestoreDatabase(directory.path(), backup, kTime)), "QS4006");
  std::ofstream(backup, std::ios::trunc).close();
  EXPECT_EQ(CodeOf(RestoreDatabase(directory.path(), backup, kTime)), "QS4006");
  EXPECT_EQ(StateOf(*OpenStore(directory)), before);
}

// What a kill between two renames leaves.
class KilledRestore : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = OpenStore(directory_);
    CommitWholeSweep(*store);
    before_ = StateOf(*store);
    backup_ = BackUpDatabase(directory_.path(), kTime, 7)->path;
    QSWEEP_ASSERT_OK(
        store->Commit(std::vector<Mutation>{CoordinatorStarted{.epoch = 99}}));
    after_ = StateOf(*store);
    // The store is not closed yet: its WAL is there, as after kill -9.
    for (const char* suffix : {"", "-wal"}) {
      std::filesystem::copy_file(database_ + suffix,
                                 directory_ / "kept" + suffix);
    }
    store.reset();
    std::filesystem::remove(database_);
  }
  void Copy(const std::string& from, const std::string& to) {
    std::filesystem::copy_file(from, to);
  }

  TempDir directory_;
  const std::string database_ = DatabasePath(directory_.path());
  const std::string replaced_ = database_ + ".replaced-20231114T221320.000000Z";
  std::string backup_;
  std::string before_;  // the backup was made
  std::string after_;
};

TEST_F(KilledRestore, IsFinishedByTheNextStart) {
  Copy(directory_ / "kept", replaced_);
  Copy(directory_ / "kept-wal", database_ + "-wal");
  Copy(backup_, database_ + ".incoming");
  EXPECT_EQ(StateOf(*OpenStore(directory_)), before_);
  EXPECT_FALSE(std::filesystem::exists(database_ + ".incoming"));
  // The one replaced has its WAL again.
  std::filesystem::remove(database_);
  Copy(replaced_, database_);
  Copy(replaced_ + "-wal", database_ + "-wal");
  EXPECT_EQ(StateOf(*OpenStore(directory_)), after_);
}

TEST_F(KilledRestore, LeavesTheDatabase_WhenItHadNotBegunToReplaceIt) {
  Copy(directory_ / "kept", database_);
  Copy(directory_ / "kept-wal", database_ + "-wal");
  Copy(backup_, database_ + ".incoming");
  EXPECT_EQ(StateOf(*OpenStore(directory_)), after_);
}

TEST_F(KilledRestore, IsNoReasonToStartEmpty) {
  Copy(directory_ / "kept", replaced_);
  EXPECT_EQ(CodeOf(OpenSqliteStore({.directory = directory_.path()})),
            "QS4006");
  EXPECT_FALSE(std::filesystem::exists(database_));
  QSWEEP_ASSERT_OK(RestoreDatabase(directory_.path(), backup_, kTime));
  EXPECT_EQ(StateOf(*OpenStore(directory_)), before_);
}

}  // namespace
}  // namespace qsweep::testing
