#include "worker/engine/progress_reporter.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace qsweep {
namespace {

class Sink : public EngineSink {
 public:
  void OnProgress(const EngineProgress& progress) override {
    seen.push_back(progress);
  }
  std::vector<EngineProgress> seen;
};

// Two languages with a document each, under one configuration.
class ProgressReporterTest : public ::testing::Test {
 protected:
  ProgressReporterTest() {
    task_.configurations.resize(1);
    task_.languages.resize(2);
    task_.documents = {{.language = 0}, {.language = 1}};
    pass_.sums = {{{.nll = 3, .tokens = 2}, {.nll = 5, .tokens = 4}}};
  }

  EngineTask task_;
  Pass pass_;
  const std::vector<size_t> documents_ = {0, 1};
  Sink sink_;
};

TEST_F(ProgressReporterTest, TellsEachStepAtOnce_AndAPassAtItsEnd) {
  ProgressReporter reporter(task_, /*total_work=*/10, sink_);
  reporter.StartPass(pass_, documents_);
  reporter.Report(1, "layer 1 of 2");
  reporter.Report(2, "layer 2 of 2");
  ASSERT_EQ(sink_.seen.size(), 2u);
  EXPECT_EQ(sink_.seen[1].text, "layer 2 of 2");
  EXPECT_EQ(sink_.seen[1].fraction, 0.2);
  pass_.sums[0][1].nll = 7;
  reporter.Report(5, "layer 2 of 2");  // may be too soon to be told
  reporter.EndPass();
  EXPECT_EQ(sink_.seen.back().fraction, 0.5);
  ASSERT_EQ(sink_.seen.back().partial.size(), 2u);
  EXPECT_EQ(sink_.seen.back().partial[1].language, 1);
  EXPECT_EQ(sink_.seen.back().partial[1].nll_sum, 7);
  EXPECT_EQ(sink_.seen.back().partial[1].tokens, 4u);
}

TEST_F(ProgressReporterTest, AddsPassesUp_AndKeepsThemBehindTheLast) {
  ProgressReporter reporter(task_, /*total_work=*/10, sink_);
  for (int pass = 0; pass < 2; ++pass) {
    reporter.StartPass(pass_, documents_);
    reporter.Report(5, "scoring");
    reporter.EndPass();
  }
  reporter.Tell("behind");
  EXPECT_EQ(sink_.seen.back().text, "behind");
  EXPECT_EQ(sink_.seen.back().fraction, 1);
  ASSERT_EQ(sink_.seen.back().partial.size(), 2u);
  EXPECT_EQ(sink_.seen.back().partial[0].nll_sum, 6);
  EXPECT_EQ(sink_.seen.back().partial[0].tokens, 4u);
}

}  // namespace
}  // namespace qsweep
