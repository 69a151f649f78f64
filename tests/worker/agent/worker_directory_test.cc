#include "worker/agent/worker_directory.h"

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

TEST(WorkerDirectory, KeepsTheWorkerAndMakesANewBoot_AtEachStart) {
  const testing::TempDir dir;
  const std::string path = dir / "not/there/yet";
  std::optional<WorkerUuid> worker;
  std::optional<BootId> boot;
  for (uint64_t start = 1; start <= 3; ++start) {
    const auto directory = WorkerDirectory::Open(path);
    ASSERT_TRUE(directory.ok()) << directory.status();
    EXPECT_EQ(directory->boot_seq(), start);
    EXPECT_EQ(directory->worker(), worker.value_or(directory->worker()));
    EXPECT_NE(directory->boot(), boot.value_or(BootId()));
    worker = directory->worker();
    boot = directory->boot();
  }
}

TEST(WorkerDirectory, IsAnotherWorkerAtTheNextStart_WhenItsIdentityWasTaken) {
  const testing::TempDir dir;
  const WorkerUuid fresh = *WorkerUuid::FromBytes("another uuid 16b");
  {
    const auto directory = WorkerDirectory::Open(dir.path());
    ASSERT_TRUE(directory.ok());
    EXPECT_TRUE(directory->KeepIdentity(fresh).ok());
  }
  EXPECT_EQ(WorkerDirectory::Open(dir.path())->worker(), fresh);
}

TEST(WorkerDirectory, IsRefused_WhileAnotherHoldsIt) {
  const testing::TempDir dir;
  const auto first = WorkerDirectory::Open(dir.path());
  ASSERT_TRUE(first.ok());
  const auto second = WorkerDirectory::Open(dir.path());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(GetErrorInfo(second.status())->code, "QS4003");
}

TEST(WorkerDirectory, WritesItsProcess_AndRemovesItAtTheEnd) {
  const testing::TempDir dir;
  {
    const auto directory = WorkerDirectory::Open(dir.path());
    std::ifstream file(dir / "worker.pid");
    pid_t pid = 0;
    uint64_t start_ticks = 0;
    ASSERT_TRUE(file >> pid >> start_ticks);
    EXPECT_EQ(pid, getpid());
    EXPECT_GT(start_ticks, 0u);
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "worker.pid"));
}

TEST(WorkerDirectory, NamesTheFile_WhenItIsDamagedOrCannotBeMade) {
  const testing::TempDir dir;
  std::ofstream(dir / "worker_uuid") << "not a uuid\n";
  const auto damaged = WorkerDirectory::Open(dir.path());
  EXPECT_EQ(GetErrorInfo(damaged.status())->field, dir / "worker_uuid");
  std::ofstream(dir / "file") << "";
  const auto impossible = WorkerDirectory::Open(dir / "file/below");
  EXPECT_EQ(GetErrorInfo(impossible.status())->code, "QS7002");
}

}  // namespace
}  // namespace qsweep
