#include <cstddef>
#include <vector>

#include "gtest/gtest.h"

#include "tests/worker/engine/engine_fixture.h"
#include "worker/engine/engine.h"

namespace qsweep {
namespace {

using testing::EngineTest;
using testing::MakeEngine;
using testing::Values;

TEST_F(EngineTest, NaiveEqualsTrieToTheBit) {
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  const EngineResult trie = Run(*engine, task);
  task.naive = true;
  const EngineResult naive = Run(*engine, task);
  EXPECT_EQ(Values(naive), Values(trie));
  EXPECT_EQ(naive.report.layer_evaluations, 11 * 3);
  EXPECT_LT(trie.report.layer_evaluations, naive.report.layer_evaluations);
}

TEST_F(EngineTest, RowsAreEqualToTheBit_WhenThreadsDiffer) {
  const auto one = MakeEngine(1);
  const EngineTask task = Task(*one);
  const EngineResult want = Run(*one, task);
  for (const int threads : {2, 5}) {
    const auto engine = MakeEngine(threads);
    EXPECT_EQ(Values(Run(*engine, task)), Values(want)) << threads;
  }
}

TEST_F(EngineTest, ComputesInBf16_ToTheBitForAnyThreadsAndSharing) {
  const auto one = MakeEngine(1);
  EngineTask task = Task(*one);
  const EngineResult fp32 = Run(*one, task);
  task.compute = Compute::kBf16;
  const EngineResult want = Run(*one, task);
  ASSERT_EQ(want.rows.size(), fp32.rows.size());
  size_t others = 0;
  for (size_t i = 0; i < want.rows.size(); ++i) {
    const EngineRow& row = want.rows[i];
    EXPECT_NEAR(row.nll_sum, fp32.rows[i].nll_sum, 0.02 * fp32.rows[i].nll_sum);
    others += row.nll_sum != fp32.rows[i].nll_sum ? 1 : 0;
    if (row.configuration == 1) {  // the baseline, itself in bf16
      EXPECT_EQ(row.nll_sum, row.nll_fp_sum);
      EXPECT_EQ(row.kl_sum, 0);
    }
  }
  EXPECT_GT(others, want.rows.size() * 9 / 10);
  const auto two = MakeEngine(2);
  EXPECT_EQ(Values(Run(*two, task)), Values(want));
  task.naive = true;
  EXPECT_EQ(Values(Run(*two, task)), Values(want));
}

TEST_F(EngineTest, RowsAreEqualToTheBit_WhenDocumentsAreCutIntoTasks) {
  const auto engine = MakeEngine(2);
  EngineTask task = Task(*engine);
  const EngineResult want = Run(*engine, task);
  const std::vector<EngineDocument> documents = task.documents;
  const size_t configurations = task.configurations.size();
  for (size_t d = 0; d < documents.size(); ++d) {
    // Alone, and then behind another document.
    for (const bool alone : {true, false}) {
      task.documents = {documents[d]};
      if (!alone) {
        task.documents.insert(task.documents.begin(), documents[1]);
      }
      const EngineResult part = Run(*engine, task);
      for (size_t c = 0; c < configurations; ++c) {
        EngineRow got = part.rows[part.rows.size() - configurations + c];
        got.document = static_cast<int>(d);
        EXPECT_EQ(Values(got), Values(want.rows[d * configurations + c]));
      }
    }
  }
}

}  // namespace
}  // namespace qsweep
