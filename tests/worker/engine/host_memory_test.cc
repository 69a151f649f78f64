#include "worker/engine/host_memory.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

using testing::TempDir;

constexpr int64_t kGib = int64_t{1} << 30;

// The folders of a machine with 64 GiB available, as far as they tell of
// memory.
class HostMemoryTest : public ::testing::Test {
 protected:
  HostMemoryTest() {
    Write("/proc/meminfo",
          absl::StrCat("MemTotal:       99000000 kB\n",
                       "MemAvailable:   ", 64 * kGib / 1024, " kB\n"));
  }

  void Write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root_.path() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  // Version 2 with this group of the mount at its root.
  void MountVersion2(const std::string& mounted,
                     const std::string& group) const {
    Write(
        "/proc/self/mountinfo",
        absl::StrCat("22 1 0:5 / /proc rw - proc proc rw\n31 23 0:28 ", mounted,
                     " /sys/fs/cgroup ro,nosuid shared:4 master:1 - cgroup2 "
                     "cgroup rw,nsdelegate\n"));
    Write("/proc/self/cgroup", absl::StrCat("0::", group, "\n"));
  }
  void Group2(const std::string& group, const std::string& max,
              const std::string& high, int64_t current,
              int64_t inactive) const {
    const std::string folder = "/sys/fs/cgroup" + group;
    Write(folder + "/memory.max", max + "\n");
    Write(folder + "/memory.high", high + "\n");
    Write(folder + "/memory.current", absl::StrCat(current, "\n"));
    Write(folder + "/memory.stat",
          absl::StrCat("anon 5\nfile 77\ninactive_file ", inactive,
                       "\nactive_file 3\n"));
  }

  // Version 1 with the memory apart, and version 2 beside it without.
  void MountVersion1(const std::string& mounted,
                     const std::string& group) const {
    Write("/proc/self/mountinfo",
          absl::StrCat(
              "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
              "35 31 0:32 ",
              mounted,
              " /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
              "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"));
    Write("/proc/self/cgroup",
          absl::StrCat("9:name=systemd:/x\n4:cpu,memory:", group, "\n0::/\n"));
  }
  void Group1(const std::string& group, int64_t limit, int64_t above,
              int64_t usage, int64_t inactive) const {
    const std::string folder = "/sys/fs/cgroup/memory" + group;
    Write(folder + "/memory.limit_in_bytes", absl::StrCat(limit, "\n"));
    Write(folder + "/memory.usage_in_bytes", absl::StrCat(usage, "\n"));
    Write(folder + "/memory.stat",
          absl::StrCat("inactive_file 1\nhierarchical_memory_limit ", above,
                       "\ntotal_inactive_file ", inactive, "\n"));
  }

  int64_t Available() const { return AvailableHostMemory(root_.path()); }

  TempDir root_;
};

constexpr int64_t kUnlimited1 = 0x7FFFFFFFFFFFF000;

TEST_F(HostMemoryTest, IsWhatTheKernelSays_WithoutGroups) {
  EXPECT_EQ(Available(), 64 * kGib);
  Write("/proc/meminfo", "MemTotal: 99 kB\n");
  EXPECT_EQ(Available(), 0);
  EXPECT_GT(AvailableHostMemory(), 0);  // this machine
}

TEST_F(HostMemoryTest, IsWhatTheGroupLeaves_InVersion2) {
  MountVersion2("/", "/a/b");
  Group2("/a/b", "max", "max", 9 * kGib, 0);
  EXPECT_EQ(Available(), 64 * kGib);
  Group2("/a/b", absl::StrCat(16 * kGib), "max", 9 * kGib, 2 * kGib);
  EXPECT_EQ(Available(), (16 - 9 + 2) * kGib);
  Group2("/a/b", absl::StrCat(16 * kGib), absl::StrCat(12 * kGib), 9 * kGib,
         2 * kGib);
  EXPECT_EQ(Available(), (12 - 9 + 2) * kGib);
  // More than the machine has is no room.
  Group2("/a/b", absl::StrCat(500 * kGib), "max", 9 * kGib, 2 * kGib);
  EXPECT_EQ(Available(), 64 * kGib);
  // More than the limit is used.
  Group2("/a/b", absl::StrCat(4 * kGib), "max", 5 * kGib, 0);
  EXPECT_EQ(Available(), 0);
}

TEST_F(HostMemoryTest, IsWhatTheNarrowestGroupAboveLeaves) {
  MountVersion2("/", "/a/b/c");
  Group2("/a/b/c", absl::StrCat(32 * kGib), "max", kGib, 0);
  EXPECT_EQ(Available(), 31 * kGib);
  Group2("/a", absl::StrCat(16 * kGib), "max", 6 * kGib, kGib);
  EXPECT_EQ(Available(), 11 * kGib);
  Group2("", absl::StrCat(8 * kGib), "max", 6 * kGib, 0);  // of a container
  EXPECT_EQ(Available(), 2 * kGib);
}

TEST_F(HostMemoryTest, FindsTheGroupOfAContainer) {
  Group2("", absl::StrCat(8 * kGib), "max", 3 * kGib, 0);
  Group2("/below", absl::StrCat(4 * kGib), "max", 3 * kGib, 0);
  MountVersion2("/", "/");  // its own name space
  EXPECT_EQ(Available(), 5 * kGib);
  MountVersion2("/docker/1f", "/docker/1f");  // the host's names
  EXPECT_EQ(Available(), 5 * kGib);
  MountVersion2("/docker/1f", "/docker/1f/below");
  EXPECT_EQ(Available(), kGib);
  MountVersion2("/", "/docker/1f");  // names that mean nothing here
  EXPECT_EQ(Available(), 5 * kGib);
  MountVersion2("/", "/../other");  // outside of the name space
  EXPECT_EQ(Available(), 5 * kGib);
}

TEST_F(HostMemoryTest, IsWhatTheGroupLeaves_InVersion1) {
  MountVersion1("/", "/jobs/7");
  Group1("/jobs/7", kUnlimited1, kUnlimited1, 5 * kGib, 0);
  EXPECT_EQ(Available(), 64 * kGib);
  Group1("/jobs/7", 16 * kGib, 16 * kGib, 5 * kGib, 2 * kGib);
  EXPECT_EQ(Available(), 13 * kGib);
  // A limit of a group above that cannot be seen.
  Group1("/jobs/7", kUnlimited1, 10 * kGib, 5 * kGib, 2 * kGib);
  EXPECT_EQ(Available(), 7 * kGib);
  Group1("/jobs", 12 * kGib, 12 * kGib, 11 * kGib, 0);
  EXPECT_EQ(Available(), kGib);
  MountVersion1("/docker/1f", "/docker/1f");
  Group1("", 6 * kGib, 6 * kGib, 2 * kGib, 0);
  EXPECT_EQ(Available(), 4 * kGib);
}

TEST_F(HostMemoryTest, IsWhatTheKernelSays_WhereFilesAreNotAsExpected) {
  MountVersion2("/", "/a");
  EXPECT_EQ(Available(), 64 * kGib);
  Write("/sys/fs/cgroup/a/memory.max", absl::StrCat(8 * kGib));
  EXPECT_EQ(Available(), 8 * kGib);  // what is used is not known
  Write("/sys/fs/cgroup/a/memory.max", "plenty");
  EXPECT_EQ(Available(), 64 * kGib);
  Write("/proc/self/mountinfo", "31 - cgroup2\n - \n\n");
  Write("/proc/self/cgroup", "0:\n::\n\n");
  EXPECT_EQ(Available(), 64 * kGib);
}

TEST(HostMemoryBytes, IsWhatIsAskedFor_OrMostOfWhatIsThere) {
  EXPECT_EQ(HostMemoryBytes({.bytes = 12345}), 12345);
  EXPECT_GT(HostMemoryBytes({}), 0);
  // What is free changes meanwhile.
  EXPECT_LT(HostMemoryBytes({.percent = 20}), HostMemoryBytes({}) / 2);
}

}  // namespace
}  // namespace qsweep
