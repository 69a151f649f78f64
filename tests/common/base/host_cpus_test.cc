#include "common/base/host_cpus.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

using testing::TempDir;

// The folders of a machine, as far as they tell of quotas. Each test has the
// CPUs of this process; what lies above them is no limit.
class HostCpusTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root_.path() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }
  void MountVersion2(const std::string& group) const {
    Write("/proc/self/mountinfo",
          "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup rw");
    Write("/proc/self/cgroup", absl::StrCat("0::", group));
  }
  // Beside version 2 without CPUs; the mount has two controllers.
  void MountVersion1(const std::string& group) const {
    Write("/proc/self/mountinfo",
          "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
          "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw");
    Write("/proc/self/cgroup",
          absl::StrCat("4:cpu,cpuacct:", group, "\n9:memory:/x\n0::/"));
  }
  void Quota1(const std::string& group, int64_t quota_us) const {
    const std::string folder = "/sys/fs/cgroup/cpu" + group;
    Write(folder + "/cpu.cfs_quota_us", absl::StrCat(quota_us));
    Write(folder + "/cpu.cfs_period_us", "50000");
  }

  int Available() const { return AvailableHostCpus(root_.path()); }

  const int all_ = AvailableHostCpus("/there/is/no/such/root");
  TempDir root_;
};

TEST_F(HostCpusTest, AreThoseOfTheAffinityMask) {
  EXPECT_GE(all_, 1);
  EXPECT_EQ(Available(), all_);
  int alone = 0;
  std::thread([&] {  // a mask is a thread's
    cpu_set_t mask;
    CPU_ZERO(&mask);
    ASSERT_EQ(sched_getaffinity(0, sizeof(mask), &mask), 0);
    int first = 0;
    while (!CPU_ISSET(first, &mask)) {
      ++first;
    }
    CPU_ZERO(&mask);
    CPU_SET(first, &mask);
    ASSERT_EQ(sched_setaffinity(0, sizeof(mask), &mask), 0);
    alone = Available();
  })
      .join();
  EXPECT_EQ(alone, 1);
}

TEST_F(HostCpusTest, AreWhatTheQuotaAllows_InVersion2) {
  MountVersion2("/a/b");
  Write("/sys/fs/cgroup/a/b/cpu.max", "max 100000");
  EXPECT_EQ(Available(), all_);
  Write("/sys/fs/cgroup/a/b/cpu.max", "100000 100000");
  EXPECT_EQ(Available(), 1);
  Write("/sys/fs/cgroup/a/b/cpu.max", "5000 100000");  // not 0
  EXPECT_EQ(Available(), 1);
  Write("/sys/fs/cgroup/a/b/cpu.max",  // a bit more than one less than all
        absl::StrCat(100000 * (all_ - 1) + 1000, " 100000"));
  EXPECT_EQ(Available(), all_);
  Write("/sys/fs/cgroup/a/b/cpu.max", "99999900000 100000");
  EXPECT_EQ(Available(), all_);
}

TEST_F(HostCpusTest, AreWhatTheNarrowestGroupAboveAllows) {
  MountVersion2("/a/b");
  Write("/sys/fs/cgroup/a/b/cpu.max", "max 100000");
  Write("/sys/fs/cgroup/a/cpu.max", "20000 20000");
  EXPECT_EQ(Available(), 1);
  Write("/sys/fs/cgroup/a/cpu.max", "max 20000");
  EXPECT_EQ(Available(), all_);
  Write("/sys/fs/cgroup/cpu.max", "7000 20000");  // of a container
  EXPECT_EQ(Available(), 1);
}

TEST_F(HostCpusTest, AreWhatTheQuotaAllows_InVersion1) {
  MountVersion1("/jobs/7");
  Quota1("/jobs/7", -1);
  EXPECT_EQ(Available(), all_);
  Quota1("/jobs", 50000);
  EXPECT_EQ(Available(), 1);
  Quota1("/jobs", 50000 * all_);
  EXPECT_EQ(Available(), all_);
  Quota1("/jobs/7", 49000);
  EXPECT_EQ(Available(), 1);
}

TEST_F(HostCpusTest, AreAll_WhereFilesAreNotAsExpected) {
  MountVersion2("/a");
  for (const char* const text : {"", "plenty", "100000", "0 100000", "1 0",
                                 "100000 100000 100000", "-5 100000"}) {
    Write("/sys/fs/cgroup/a/cpu.max", text);
    EXPECT_EQ(Available(), all_) << text;
  }
  MountVersion1("/a");
  Write("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "1000");  // of what period?
  EXPECT_EQ(Available(), all_);
}

}  // namespace
}  // namespace qsweep
