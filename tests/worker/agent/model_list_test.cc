#include "worker/agent/model_list.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ModelListTest : public ::testing::Test {
 protected:
  // A model's folder, there until it is removed.
  std::string Folder(const std::string& name) {
    std::filesystem::create_directory(dir_ / name);
    return dir_ / name;
  }
  const testing::TempDir dir_;
  const ModelList list_{dir_ / "models"};
  const Digest one_ = Digest::Of("one");
  const Digest two_ = Digest::Of("two");
};

TEST_F(ModelListTest, HasTheNewestFirst_AndEachOnce) {
  EXPECT_THAT(list_.Read(), IsEmpty());
  list_.Keep(one_, Folder("a"));
  list_.Keep(two_, Folder("b b"));
  EXPECT_THAT(ModelList(dir_ / "models").Read(), ElementsAre(two_, one_));
  list_.Keep(one_, Folder("c"));
  EXPECT_THAT(list_.Read(), ElementsAre(one_, two_));
}

TEST_F(ModelListTest, LeavesOutWhatIsNotThereAnyMore) {
  list_.Keep(one_, Folder("a"));
  list_.Keep(two_, Folder("b"));
  std::filesystem::remove(dir_ / "b");
  EXPECT_THAT(list_.Read(), ElementsAre(one_));
}

TEST_F(ModelListTest, ForgetsTheOldest_AndReadsWhatIsDamaged) {
  for (size_t i = 0; i < ModelList::kMost + 3; ++i) {
    list_.Keep(Digest::Of(absl::StrCat(i)), dir_.path());
  }
  EXPECT_THAT(list_.Read(), SizeIs(ModelList::kMost));
  EXPECT_EQ(list_.Read().front(),
            Digest::Of(absl::StrCat(ModelList::kMost + 2)));
  std::ofstream(dir_ / "models", std::ios::app) << "no digest here\n\x01";
  EXPECT_THAT(list_.Read(), SizeIs(ModelList::kMost));
}

TEST_F(ModelListTest, DoesWithoutAFileItCannotWrite) {
  const ModelList nowhere(dir_ / "none/models");
  nowhere.Keep(one_, dir_.path());
  EXPECT_THAT(nowhere.Read(), IsEmpty());
}

}  // namespace
}  // namespace qsweep
