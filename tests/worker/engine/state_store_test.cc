#include "worker/engine/state_store.h"

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using ::testing::HasSubstr;
using testing::TempDir;

constexpr int64_t kFloats = 5000;  // some pages, the last one in part

TEST(StateStore, HoldsWhatWasWritten_InMemoryAndInAFileWithoutAName) {
  const TempDir directory;
  auto created = StateStore::Create({true, false, true}, kFloats,
                                    directory / "made/when/needed");
  QSWEEP_ASSERT_OK(created);
  StateStore store = *std::move(created);
  EXPECT_TRUE(std::filesystem::is_empty(directory / "made/when/needed"));
  for (size_t state = 0; state < 3; ++state) {
    for (int64_t i = 0; i < kFloats; ++i) {
      ASSERT_EQ(store[state][i], 0) << state;
    }
  }
  for (size_t state = 0; state < 3; ++state) {
    for (int64_t i = 0; i < kFloats; ++i) {
      store[state][i] = static_cast<float>(static_cast<int64_t>(state) + i);
    }
    store.Release(store[state] + 100, kFloats - 100);
  }
  for (size_t state = 0; state < 3; ++state) {
    store.WillNeed(store[state], kFloats);
    for (int64_t i = 0; i < kFloats; ++i) {
      ASSERT_EQ(store[state][i],
                static_cast<float>(static_cast<int64_t>(state) + i));
    }
  }
}

TEST(StateStore, NeedsNoDirectory_WhenAllIsInMemory) {
  QSWEEP_EXPECT_OK(StateStore::Create({false, false}, kFloats, "/proc/none"));
}

TEST(StateStore, NamesFolderAndBytes_WhenThereIsNoRoom) {
  const TempDir directory;
  // More than any disk has, and nothing is written on the way to the answer.
  constexpr int64_t kHuge = int64_t{1} << 58;
  const auto huge = StateStore::Create({true}, kHuge, directory.path());
  EXPECT_EQ(CodeOf(huge.status()), "QS5006");
  EXPECT_THAT(huge.status().message(), HasSubstr(directory.path()));
  EXPECT_THAT(huge.status().message(), HasSubstr(std::to_string(4 * kHuge)));
  // A file system without room, and one that takes no files.
  for (const std::string& path :
       {std::string("/proc"), directory.Write("file", "")}) {
    const auto none = StateStore::Create({true}, kFloats, path);
    EXPECT_EQ(CodeOf(none.status()), "QS5006");
    EXPECT_THAT(none.status().message(), HasSubstr(path));
  }
}

TEST(RoomIn, IsThatOfTheFolderAbove_WhenThereIsNone) {
  const TempDir directory;
  EXPECT_GT(RoomIn(directory / "not/there"), 0);
  EXPECT_EQ(RoomIn("/proc"), 0);
}

}  // namespace
}  // namespace qsweep
