#include "worker/agent/spool.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/error.h"

namespace qsweep {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

constexpr size_t kCapacity = 4096;

class SpoolTest : public ::testing::Test {
 protected:
  SpoolTest()
      : directory_(absl::StrCat(
            ::testing::TempDir(), "/spool_",
            ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  ~SpoolTest() override { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/spool"; }
  Spool::Opened Open(size_t capacity = kCapacity) {
    auto opened =
        Spool::Open({.directory = directory_, .capacity_bytes = capacity});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
  static std::vector<std::string> Payloads(const Spool::Opened& opened) {
    std::vector<std::string> payloads;
    for (const Spool::Record& record : opened.pending) {
      payloads.push_back(record.payload);
    }
    return payloads;
  }
  std::string Bytes() const {
    std::ifstream file(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void SetBytes(const std::string& bytes) const {
    std::ofstream(path(), std::ios::binary | std::ios::trunc) << bytes;
  }
  size_t FilesSetAside() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      count += entry.path().filename().string().starts_with("damaged-");
    }
    return count;
  }

  const std::string directory_;
};

TEST_F(SpoolTest, KeepsRecordsInOrder_WhenItIsOpenedAgain) {
  const std::vector<std::string> batch = {"first", "", std::string(999, 'x')};
  ASSERT_TRUE(Open().spool->Append(batch).ok());
  ASSERT_TRUE(Open().spool->Append(std::vector<std::string>{"last"}).ok());
  EXPECT_THAT(Payloads(Open()),
              ElementsAre("first", "", std::string(999, 'x'), "last"));
}

TEST_F(SpoolTest, ForgetsOnlyWhatWasAcknowledged) {
  {
    const Spool::Opened opened = Open();
    const auto ids =
        *opened.spool->Append(std::vector<std::string>{"a", "b", "c"});
    EXPECT_TRUE(opened.spool->Acknowledge(ids[1]).ok());
    EXPECT_TRUE(opened.spool->Acknowledge(ids[1]).ok());
    EXPECT_EQ(opened.spool->num_pending(), 2u);
  }
  EXPECT_THAT(Payloads(Open()), ElementsAre("a", "c"));
}

TEST_F(SpoolTest, StartsAgainAtTheFront_WhenEverythingWasAcknowledged) {
  const Spool::Opened opened = Open();
  for (int round = 0; round < 100; ++round) {  // 25 times the capacity
    const auto ids = opened.spool->Append(
        std::vector<std::string>{std::string(400, 'a'), std::string(500, 'b')});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ((*ids)[0].offset, 0u);
    for (const auto& id : *ids) {
      ASSERT_TRUE(opened.spool->Acknowledge(id).ok());
    }
  }
  EXPECT_THAT(Open().pending, IsEmpty());
}

TEST_F(SpoolTest, NeverTakesLeftoversForRecords_AfterItStartedAgain) {
  // Old and new records of many relative sizes, so that old headers lie at
  // every place behind the new record.
  for (size_t old_size = 0; old_size < 120; old_size += 8) {
    for (size_t new_size = 0; new_size < 200; new_size += 24) {
      SCOPED_TRACE(absl::StrCat(old_size, " then ", new_size));
      std::filesystem::remove(path());
      {
        const Spool::Opened opened = Open();
        const std::vector<std::string> old(6, std::string(old_size, 'o'));
        const auto old_ids = *opened.spool->Append(old);
        for (const auto& id : old_ids) {
          ASSERT_TRUE(opened.spool->Acknowledge(id).ok());
        }
        ASSERT_TRUE(
            opened.spool
                ->Append(std::vector<std::string>{std::string(new_size, 'n')})
                .ok());
        // The late repeat of an old answer must not touch the new record.
        ASSERT_TRUE(opened.spool->Acknowledge(old_ids[0]).ok());
      }
      const Spool::Opened again = Open();
      EXPECT_THAT(Payloads(again), ElementsAre(std::string(new_size, 'n')));
      EXPECT_THAT(again.damaged, IsEmpty());
    }
  }
}

TEST_F(SpoolTest, IsFullWithQS5009_AndTakesMoreAfterAcknowledgements) {
  const Spool::Opened opened = Open();
  std::vector<Spool::RecordId> ids;
  absl::Status full;
  while (full.ok()) {
    const auto added =
        opened.spool->Append(std::vector<std::string>{std::string(500, 'x')});
    full = added.status();
    if (added.ok()) {
      ids.push_back((*added)[0]);
    }
  }
  EXPECT_EQ(GetErrorInfo(full)->code, "QS5009");
  EXPECT_EQ(ids.size(), kCapacity / 552);
  EXPECT_EQ(Open().pending.size(), ids.size());
  for (const auto& id : ids) {
    ASSERT_TRUE(opened.spool->Acknowledge(id).ok());
  }
  EXPECT_TRUE(opened.spool->Append(std::vector<std::string>{"x"}).ok());
  const std::vector<std::string> giant = {std::string(kCapacity + 1, 'x')};
  EXPECT_EQ(GetErrorInfo(opened.spool->Append(giant).status())->code, "QS5009");
}

TEST_F(SpoolTest, FillsToTheLastByte) {
  const std::string exact(kCapacity - 48, 'x');
  ASSERT_TRUE(Open().spool->Append(std::vector<std::string>{exact}).ok());
  EXPECT_THAT(Payloads(Open()), ElementsAre(exact));
}

// Three records with these ends in the segment.
const std::vector<std::string> kThree = {"alpha", std::string(100, 'b'),
                                         "gamma"};
constexpr size_t kEnds[] = {56, 208, 264};

TEST_F(SpoolTest, KeepsEveryWholeRecord_WhenTheFileIsCutAtAnyByte) {
  ASSERT_TRUE(Open().spool->Append(kThree).ok());
  const std::string whole = Bytes();
  for (size_t size = 0; size <= 300; ++size) {
    SCOPED_TRACE(size);
    SetBytes(whole.substr(0, size));
    std::vector<std::string> want;
    // A record's padding may be missing.
    const size_t needed[] = {53, 204, 261};
    for (size_t i = 0; i < 3; ++i) {
      if (size >= needed[i]) {
        want.push_back(kThree[i]);
      }
    }
    const Spool::Opened opened = Open();
    EXPECT_THAT(Payloads(opened), ElementsAreArray(want));
    EXPECT_LE(opened.damaged.size(), 1u);
    ASSERT_TRUE(opened.spool->Append(std::vector<std::string>{"next"}).ok());
    want.push_back("next");
    EXPECT_THAT(Payloads(Open()), ElementsAreArray(want));
  }
}

TEST_F(SpoolTest, SetsAsideAndReportsTheOneRecord_WhenAnyByteIsFlipped) {
  ASSERT_TRUE(Open().spool->Append(kThree).ok());
  const std::string whole = Bytes();
  for (size_t at = 0; at < kEnds[2]; ++at) {
    SCOPED_TRACE(at);
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    SetBytes(flipped);
    const size_t hit = at < kEnds[0] ? 0 : at < kEnds[1] ? 1 : 2;
    std::vector<std::string> others = kThree;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(hit));
    const size_t begin = hit == 0 ? 0 : kEnds[hit - 1];
    const bool unused = (at - begin >= 40 && at - begin < 48) ||
                        at >= begin + 48 + kThree[hit].size();
    const Spool::Opened opened = Open();
    if (unused) {  // mark and padding: nothing is lost
      EXPECT_THAT(Payloads(opened), ElementsAreArray(kThree));
      EXPECT_THAT(opened.damaged, IsEmpty());
      continue;
    }
    EXPECT_THAT(Payloads(opened), ElementsAreArray(others));
    ASSERT_EQ(opened.damaged.size(), 1u);
    EXPECT_EQ(GetErrorInfo(opened.damaged[0])->code, "QS5004");
    EXPECT_EQ(FilesSetAside(), 1u);
    std::filesystem::remove(GetErrorInfo(opened.damaged[0])->field);
    // Reported once: the rest lives in a clean segment now.
    const Spool::Opened again = Open();
    EXPECT_THAT(Payloads(again), ElementsAreArray(others));
    EXPECT_THAT(again.damaged, IsEmpty());
  }
}

// The segment as a power cut may leave it while `payloads` were appended: what
// was synced before, and some sectors of the append.
struct PowerCut {
  std::string before;  // synced
  std::string after;   // all of the append, without marks: they come later
  static constexpr size_t kSector = 512;
};

TEST_F(SpoolTest, CutsATornAppendSilently_AndKeepsWhatWasSynced) {
  PowerCut cut;
  {
    const Spool::Opened opened = Open();
    ASSERT_TRUE(opened.spool->Append(kThree).ok());
    cut.before = Bytes();
    ASSERT_TRUE(opened.spool
                    ->Append(std::vector<std::string>{std::string(900, 'd'),
                                                      std::string(300, 'e')})
                    .ok());
    cut.after = Bytes();
  }
  const size_t second = kEnds[2] + 48 + 904;
  for (const size_t at : {kEnds[2], second}) {
    std::memset(cut.after.data() + at + 44, 0, 4);
  }
  const auto check = [&](const std::string& bytes) {
    SetBytes(bytes);
    const Spool::Opened opened = Open();
    EXPECT_THAT(opened.damaged, IsEmpty());
    std::vector<std::string> first_three = Payloads(opened);
    ASSERT_GE(first_three.size(), 3u);
    first_three.resize(3);
    EXPECT_THAT(first_three, ElementsAreArray(kThree));
    EXPECT_EQ(FilesSetAside(), 0u);
    EXPECT_EQ(Open().torn_bytes, 0u);  // said once
  };
  // The write stopped at any byte ...
  for (size_t size = kEnds[2]; size < second + 400; size += 5) {
    SCOPED_TRACE(size);
    check(cut.after.substr(0, size) + cut.before.substr(size));
  }
  // ... or any of its sectors are on the disk, in any order.
  for (unsigned written = 0; written < 16; ++written) {
    SCOPED_TRACE(written);
    std::string bytes = cut.before;
    for (size_t sector = 0; sector < 4; ++sector) {
      if ((written >> sector & 1) != 0) {
        bytes.replace(sector * PowerCut::kSector, PowerCut::kSector, cut.after,
                      sector * PowerCut::kSector, PowerCut::kSector);
      }
    }
    check(bytes);
  }
}

TEST_F(SpoolTest, SaysHowMuchWasCut_AndReportsASyncedRecordBeforeIt) {
  {
    const Spool::Opened opened = Open();
    ASSERT_TRUE(opened.spool->Append(kThree).ok());
    ASSERT_TRUE(opened.spool->Append(std::vector<std::string>{"last"}).ok());
  }
  std::string bytes = Bytes();
  std::memset(bytes.data() + kEnds[2] + 44, 0, 4);  // its mark
  bytes[kEnds[2] + 48] ^= 1;
  SetBytes(bytes);
  EXPECT_EQ(Open().torn_bytes, 56u);
  // The sync of the last append proves that the ones before were synced, even
  // where their marks are gone.
  std::memset(bytes.data() + kEnds[1] + 44, 0, 4);
  bytes[kEnds[1] + 48] ^= 1;
  SetBytes(bytes);
  const Spool::Opened opened = Open();
  ASSERT_EQ(opened.damaged.size(), 1u);
  EXPECT_THAT(Payloads(opened), ElementsAre(kThree[0], kThree[1]));
}

TEST_F(SpoolTest, SaysSo_WhenTheFirstRecordOfAGenerationIsDamaged) {
  {
    const Spool::Opened opened = Open();
    const auto ids = *opened.spool->Append(kThree);
    for (const auto& id : ids) {
      ASSERT_TRUE(opened.spool->Acknowledge(id).ok());
    }
    ASSERT_TRUE(opened.spool->Append(std::vector<std::string>{"new"}).ok());
  }
  std::string bytes = Bytes();
  bytes[1] ^= 1;  // in the header
  SetBytes(bytes);
  const Spool::Opened opened = Open();
  EXPECT_THAT(opened.pending, IsEmpty());
  EXPECT_EQ(opened.damaged.size(), 1u);
}

TEST_F(SpoolTest, KeepsRecords_WhenTheCapacityChanges) {
  ASSERT_TRUE(Open().spool->Append(kThree).ok());
  EXPECT_THAT(Payloads(Open(2 * kCapacity)), ElementsAreArray(kThree));
  EXPECT_EQ(Bytes().size(), 2 * kCapacity);
}

TEST_F(SpoolTest, IsUnavailable_WhenTheDirectoryIsMissing) {
  const auto opened = Spool::Open({.directory = directory_ + "/none"});
  EXPECT_TRUE(absl::IsUnavailable(opened.status()));
}

}  // namespace
}  // namespace qsweep
