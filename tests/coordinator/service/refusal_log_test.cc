#include "coordinator/service/refusal_log.h"

#include <vector>

#include "gtest/gtest.h"

#include "common/base/error_codes.h"
#include "tests/support/simulated_clock.h"

namespace qsweep::testing {
namespace {

class RefusalLogTest : public ::testing::Test {
 protected:
  void Refuse(int times) {
    for (int i = 0; i < times; ++i) {
      log_.Add("ipv4:10.0.0.7:4711", "SubmitJob",
               MakeError(kNotAuthenticated, "no token"));
    }
  }

  SimulatedClock clock_;
  std::vector<AuditRecorded> lines_;
  RefusalLog log_{clock_,
                  [this](AuditRecorded line) { lines_.push_back(line); }};
};

TEST_F(RefusalLogTest, SaysWhoAndWhy) {
  Refuse(1);
  ASSERT_EQ(lines_.size(), 1u);
  EXPECT_EQ(lines_[0].actor, "ipv4:10.0.0.7:4711");
  EXPECT_EQ(lines_[0].action, "refused");
  EXPECT_EQ(lines_[0].subject, "SubmitJob");
  EXPECT_EQ(lines_[0].detail, "QS6001 no token");
  EXPECT_EQ(lines_[0].count, 1);
}

TEST_F(RefusalLogTest, CountsWhatItDoesNotTell) {
  Refuse(1000);
  ASSERT_EQ(lines_.size(), static_cast<size_t>(RefusalLog::kBurst));
  clock_.Advance(RefusalLog::kInterval);
  Refuse(2);
  ASSERT_EQ(lines_.size(), static_cast<size_t>(RefusalLog::kBurst) + 1);
  EXPECT_EQ(lines_.back().count, 1000 - RefusalLog::kBurst + 1);
  clock_.Advance(RefusalLog::kInterval);
  Refuse(1);
  EXPECT_EQ(lines_.back().count, 2);
  int64_t told = 0;
  for (const AuditRecorded& line : lines_) {
    told += line.count;
  }
  EXPECT_EQ(told, 1003);
}

}  // namespace
}  // namespace qsweep::testing
