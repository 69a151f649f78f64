// The coordinator's folder on a disk of 24 MiB that is full at the worst
// moments: nothing acknowledged is lost, and all goes on when there is room.
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <optional>
#include <sched.h>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "common/base/ids.h"
#include "common/base/random.h"
#include "tests/e2e/local_cluster.h"
#include "tests/e2e/sql_oracles.h"
#include "tests/e2e/sweeps.h"
#include "tests/support/error_matchers.h"

namespace qsweep::testing {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int64_t kMiB = int64_t{1} << 20;

v1::JobSelector Select(const std::string& job) {
  v1::JobSelector selector;
  selector.set_text(job);
  return selector;
}

class DiskFullTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Mounts of this process end with it, however it ends.
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      GTEST_SKIP() << "needs root, to mount a small tmpfs";
    }
    sweep_ = MakeSweep(SweepKind::kFakeEngine);
    sweep_.cluster.worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "50"}};
    cluster_ = std::make_unique<LocalCluster>(sweep_.cluster);
    fs::create_directory(disk());
    ASSERT_EQ(mount("tmpfs", disk().c_str(), "tmpfs", 0, "size=24m"), 0);
    mounted_ = true;
    ASSERT_NO_FATAL_FAILURE(cluster_->StartCoordinator());
    cluster_->AddCorpus("corpus", sweep_.texts);
  }
  void TearDown() override {
    const std::string path = mounted_ ? disk() : "";
    cluster_.reset();
    if (mounted_) {
      umount2(path.c_str(), MNT_DETACH);
      std::error_code error;
      fs::remove_all(fs::path(path).parent_path(), error);
    }
  }

  std::string disk() const { return cluster_->coordinator_dir(); }
  int64_t FreeBytes() const {
    struct statvfs file_system = {};
    EXPECT_EQ(statvfs(disk().c_str(), &file_system), 0);
    return static_cast<int64_t>(file_system.f_bavail * file_system.f_frsize);
  }
  // Takes all room but so much.
  void Fill(int64_t leave) {
    const int file =
        open((disk() + "/filler").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(file, 0);
    int failed = ENOSPC;
    // The coordinator may write between the look and the filling.
    for (int tries = 0; failed == ENOSPC && tries < 100; ++tries) {
      const int64_t size = FreeBytes() - leave;
      ASSERT_GT(size, 0);
      failed = posix_fallocate(file, 0, size);
    }
    ASSERT_EQ(failed, 0);
    close(file);
  }
  void MakeRoom() { fs::remove(disk() + "/filler"); }

  v1::SubmitJobRequest Request() {
    v1::SubmitJobRequest request;
    request.set_job_uuid(SecureRandomBytes(16));
    *request.mutable_spec() = sweep_.spec;
    *request.add_models() = sweep_.model;
    return request;
  }
  // Submits; the job's name.
  std::string Submit(const v1::SubmitJobRequest& request) {
    const auto submitted = cluster_->client().SubmitJob(request);
    EXPECT_EQ(submitted.status(), absl::OkStatus());
    if (submitted.ok()) {
      acknowledged_.jobs[request.job_uuid()] = submitted->job_number();
    }
    return absl::StrCat("job/", JobUuid::FromBytes(request.job_uuid())->text());
  }
  // Sees which tasks are done: they must stay so.
  uint64_t RememberResults(const std::string& job) {
    for (const v1::TaskSummary& task : cluster_->Tasks(job)) {
      if (task.state() == v1::TASK_STATE_DONE) {
        acknowledged_.results.emplace(
            task.task_id(),
            cluster_->QueryInteger(
                absl::StrCat("SELECT epoch FROM attempts_v1 WHERE useful AND "
                             "task = ",
                             task.task_id())));
      }
    }
    return acknowledged_.results.size();
  }
  void ExpectSound() {
    const auto violations =
        FindViolations(disk() + "/coordinator.db", acknowledged_);
    EXPECT_TRUE(violations.empty()) << absl::StrJoin(violations, "\n");
  }
  void ExpectReads(const std::string& job) {
    v1::GetJobRequest get;
    *get.mutable_job() = Select(job);
    QSWEEP_EXPECT_OK(cluster_->client().GetJob(get));
    EXPECT_EQ(cluster_->QueryInteger("SELECT count(*) FROM jobs_v1"), 1);
    EXPECT_FALSE(cluster_->Tasks(job).empty());
  }
  // A submit that is refused; the same one works when there is room.
  void ExpectSubmitRefused() {
    const auto refused = cluster_->client().SubmitJob(Request());
    EXPECT_EQ(CodeOf(refused), "QS4004") << refused.status();
    EXPECT_FALSE(HintOf(refused).empty());
  }

  Sweep sweep_;
  std::unique_ptr<LocalCluster> cluster_;
  bool mounted_ = false;
  Acknowledged acknowledged_;
};

TEST_F(DiskFullTest, RefusesASubmitWhole_AndTakesItLater) {
  ASSERT_NO_FATAL_FAILURE(Fill(/*leave=*/32 << 10));
  const v1::SubmitJobRequest request = Request();
  const auto refused = cluster_->client().SubmitJob(request);
  EXPECT_EQ(CodeOf(refused), "QS4004") << refused.status();
  EXPECT_FALSE(HintOf(refused).empty());
  EXPECT_EQ(cluster_->QueryInteger("SELECT count(*) FROM jobs_v1"), 0);
  ExpectSubmitRefused();

  MakeRoom();
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return cluster_->client().SubmitJob(request).ok();
  })) << cluster_->Logs();
  const std::string job = Submit(request);  // the same one
  EXPECT_EQ(cluster_->QueryInteger("SELECT count(*) FROM jobs_v1"), 1);
  cluster_->StartWorker("w1", 1);
  cluster_->StartWorker("w2", 1);
  ASSERT_NO_FATAL_FAILURE(cluster_->AwaitSuccess(job, kPatience));
  EXPECT_EQ(cluster_->Rows(job).size(), sweep_.num_measurements);
  ExpectSound();
}

TEST_F(DiskFullTest, TakesResultsByTheReserve_AndLeasesNothing) {
  sweep_.cluster.worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "1000"}};
  cluster_->options().worker_environment = sweep_.cluster.worker_environment;
  const std::string job = Submit(Request());
  for (const char* worker : {"w1", "w2", "w3", "w4"}) {
    cluster_->StartWorker(worker, 1);
  }
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return cluster_->Job(job).tasks_done() >= 4;
  })) << cluster_->Logs();
  ASSERT_NO_FATAL_FAILURE(Fill(/*leave=*/0));
  // Whoever writes first finds it full.
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return CodeOf(cluster_->client().SubmitJob(Request())) == "QS4004";
  })) << cluster_->Logs();
  const uint64_t done = RememberResults(job);
  // What runs comes in: a result each, at least, and what was fetched ahead.
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return cluster_->Job(job).tasks_done() >= done + 4;
  })) << cluster_->Logs();
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return cluster_->Job(job).tasks_leased() == 0;
  })) << cluster_->Logs();
  const uint64_t by_reserve = RememberResults(job);
  EXPECT_LT(by_reserve, cluster_->Job(job).tasks_total());
  ExpectSubmitRefused();
  ExpectReads(job);
  ExpectSound();

  MakeRoom();
  for (const char* worker : {"w1", "w2", "w3", "w4"}) {
    cluster_->KillWorker(worker);
  }
  cluster_->options().worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "50"}};
  for (const char* worker : {"w1", "w2", "w3", "w4"}) {
    cluster_->StartWorker(worker, 1);
  }
  ASSERT_NO_FATAL_FAILURE(cluster_->AwaitSuccess(job, kPatience));
  EXPECT_EQ(cluster_->Rows(job).size(), sweep_.num_measurements);
  ExpectSound();
}

TEST_F(DiskFullTest, ServesOn_WhenACheckpointFindsNoRoom) {
  // In the WAL, until the coordinator has been idle for a second.
  const std::string artifact(3 * kMiB, 'a');
  QSWEEP_ASSERT_OK(cluster_->client().PutArtifact(artifact));
  ASSERT_NO_FATAL_FAILURE(Fill(/*leave=*/0));
  AwaitTrue(absl::Seconds(2),
            [&] { return !cluster_->coordinator().running(); });
  ASSERT_TRUE(cluster_->coordinator().running()) << cluster_->Logs();
  QSWEEP_EXPECT_OK(cluster_->client().GetStatus({}));
  MakeRoom();
  const std::string job = Submit(Request());
  cluster_->StartWorker("w1", 1);
  cluster_->StartWorker("w2", 1);
  ASSERT_NO_FATAL_FAILURE(cluster_->AwaitSuccess(job, kPatience));
  EXPECT_TRUE(cluster_->client().PutArtifact(artifact)->existed());
  ExpectSound();
}

TEST_F(DiskFullTest, NamesTheError_WhenABackupFindsNoRoom) {
  QSWEEP_ASSERT_OK(cluster_->client().PutArtifact(std::string(kMiB, 'a')));
  const std::string job = Submit(Request());
  ASSERT_NO_FATAL_FAILURE(Fill(/*leave=*/512 << 10));
  const auto refused = cluster_->client().Backup({});
  EXPECT_EQ(CodeOf(refused), "QS4004") << refused.status();
  std::error_code error;
  EXPECT_TRUE(fs::is_empty(disk() + "/backups", error)) << "it left a part";
  ExpectReads(job);
  MakeRoom();
  QSWEEP_EXPECT_OK(cluster_->client().Backup({}));
  ExpectSound();
}

// Killed while the disk was full, and started again on the full disk.
TEST_F(DiskFullTest, StartsOnAFullDisk_AndTakesResults) {
  const std::string job = Submit(Request());
  cluster_->options().worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "1000"}};
  cluster_->StartWorker("w1", 1);
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return cluster_->Job(job).tasks_done() >= 1;
  })) << cluster_->Logs();
  ASSERT_NO_FATAL_FAILURE(Fill(/*leave=*/0));
  cluster_->KillCoordinator();
  const uint64_t done = 1;
  ASSERT_NO_FATAL_FAILURE(cluster_->StartCoordinator());
  ExpectReads(job);
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return cluster_->Job(job).tasks_done() > done;
  })) << cluster_->Logs();
  RememberResults(job);
  MakeRoom();
  ASSERT_TRUE(AwaitTrue(kPatience, [&] {
    return cluster_->client().SubmitJob(Request()).ok();
  })) << cluster_->Logs();
  ExpectSound();
}

}  // namespace
}  // namespace qsweep::testing
