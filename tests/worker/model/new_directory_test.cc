#include "worker/model/new_directory.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

namespace fs = std::filesystem;

using testing::CodeOf;
using ::testing::ElementsAre;
using testing::FieldOf;
using ::testing::IsEmpty;
using testing::TempDir;

std::set<std::string> NamesIn(const std::string& path) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

TEST(NewDirectory, AppearsWhole_OnCommit) {
  const TempDir parent;
  {
    auto directory = NewDirectory::Create((parent / "new") + "//");
    QSWEEP_ASSERT_OK(directory);
    QSWEEP_ASSERT_OK((*directory)->WriteFile("a", "text"));
    EXPECT_EQ(CodeOf((*directory)->WriteFile("a", "again")), "QS7002");
    EXPECT_FALSE(fs::exists(parent / "new"));
    QSWEEP_ASSERT_OK((*directory)->Commit());
  }
  EXPECT_THAT(NamesIn(parent.path()), ElementsAre("new"));
  std::ifstream file(parent / "new/a");
  std::string text;
  std::getline(file, text);
  EXPECT_EQ(text, "text");
}

TEST(NewDirectory, LeavesNothing_WithoutCommit) {
  const TempDir parent;
  {
    auto directory = NewDirectory::Create(parent / "new");
    QSWEEP_ASSERT_OK(directory);
    QSWEEP_ASSERT_OK((*directory)->WriteFile("a", "text"));
    EXPECT_EQ(NamesIn(parent.path()).size(), 1u);
  }
  EXPECT_THAT(NamesIn(parent.path()), IsEmpty());
}

TEST(NewDirectory, ReplacesNothing) {
  const TempDir parent;
  fs::create_directory(parent / "empty");
  fs::create_symlink("nowhere", parent / "link");
  parent.Write("file", "");
  for (const char* name : {"empty", "empty/", "link", "file"}) {
    const auto directory = NewDirectory::Create(parent / name);
    EXPECT_EQ(CodeOf(directory), "QS7002") << name;
  }
  EXPECT_EQ(CodeOf(NewDirectory::Create("")), "QS7002");
  const auto nowhere = NewDirectory::Create(parent / "none/new");
  EXPECT_EQ(CodeOf(nowhere), "QS7002");
  EXPECT_EQ(FieldOf(nowhere), parent / "none/new");
  // Not even what came while it was being written.
  auto directory = NewDirectory::Create(parent / "new");
  QSWEEP_ASSERT_OK(directory);
  fs::create_directory(parent / "new");
  EXPECT_EQ(CodeOf((*directory)->Commit()), "QS7002");
  EXPECT_THAT(NamesIn(parent / "new"), IsEmpty());
}

}  // namespace
}  // namespace qsweep
