#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/worker/engine/engine_fixture.h"
#include "worker/engine/engine.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::EngineTest;
using ::testing::HasSubstr;
using testing::HintOf;
using testing::MakeEngine;
using ::testing::Not;
using testing::RecordingSink;
using testing::TempDir;
using testing::Values;

// Bytes that hold the states of the longest document, but not of all; and bytes
// that hold weights and buffers alone, with what another thread needs.
constexpr int64_t kLittleMemory = 5'900'000;
constexpr int64_t kLeastMemory = 4'500'000;
constexpr int64_t kMemoryOfThread = 1'800'000;

// Of a message that says "The least that works is N bytes".
int64_t LeastBytes(const absl::Status& status) {
  constexpr absl::string_view kBefore = "The least that works is ";
  const absl::string_view text = status.message();
  const size_t at = text.find(kBefore);
  int64_t bytes = 0;
  EXPECT_NE(at, absl::string_view::npos) << text;
  EXPECT_TRUE(absl::SimpleAtoi(
      at == absl::string_view::npos
          ? absl::string_view()
          : text.substr(at + kBefore.size(),
                        text.find(" bytes", at) - at - kBefore.size()),
      &bytes))
      << text;
  return bytes;
}

TEST_F(EngineTest, RowsAreEqualToTheBit_WhenMemoryForcesPasses) {
  const auto large = MakeEngine(1);
  const EngineTask task = Task(*large);
  const EngineResult want = Run(*large, task);
  const auto small = MakeEngine(1, kLittleMemory);
  RecordingSink sink;
  const auto got = small->Run(task, sink, std::stop_token());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(Values(*got), Values(want));
  const auto first_layers = std::count_if(
      sink.seen.begin(), sink.seen.end(),
      [](const EngineProgress& p) { return p.text == "scoring"; });
  EXPECT_GT(first_layers, 1);
}

TEST_F(EngineTest, RowsAreEqualToTheBit_WhenStatesAreInAFile) {
  const auto large = MakeEngine(1);
  EngineTask task = Task(*large);
  const EngineResult want = Run(*large, task);
  const TempDir states;
  for (const int threads : {1, 2}) {
    const auto small = MakeEngine(
        threads, kLeastMemory + (threads - 1) * kMemoryOfThread, states.path());
    RecordingSink sink;
    const auto got = small->Run(task, sink, std::stop_token());
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(Values(*got), Values(want));
    EXPECT_EQ(std::count_if(sink.seen.begin(), sink.seen.end(),
                            [&](const EngineProgress& progress) {
                              return progress.text.ends_with(
                                  " MiB of states in " + states.path());
                            }),
              1);
    task.naive = true;
    EXPECT_EQ(Values(Run(*small, task)), Values(want));
    task.naive = false;
  }
}

TEST_F(EngineTest, MeasuresItsNoiseInMemory_WhenItsFolderHasNoRoom) {
  const auto engine = MakeEngine(1);
  EngineTask task = Task(*engine);
  task.measure_noise = true;
  const EngineResult want = Run(*engine, task);
  ASSERT_TRUE(want.report.noise.has_value());
  const EngineResult got = Run(*MakeEngine(1, 0, "/proc"), task);
  EXPECT_EQ(Values(got), Values(want));
  ASSERT_TRUE(got.report.noise.has_value());
  EXPECT_EQ(got.report.noise->nll_per_token, want.report.noise->nll_per_token);
  // And in a file where the rest is.
  const TempDir states;
  const EngineResult small =
      Run(*MakeEngine(1, kLeastMemory, states.path()), task);
  ASSERT_TRUE(small.report.noise.has_value());
  EXPECT_EQ(small.report.noise->nll_per_token,
            want.report.noise->nll_per_token);
}

TEST_F(EngineTest, RefusesTheTask_WhenMemoryHoldsNoDocument) {
  const auto engine = MakeEngine(1, kLeastMemory);
  EXPECT_EQ(CodeOf(RunError(*engine, Task(*engine))), "QS5006");
}

TEST_F(EngineTest, SaysWhatIsMissing_MemoryOrRoomInTheFolder) {
  const auto hint = [&](int64_t memory, const std::string& folder) {
    const auto engine = MakeEngine(1, memory, folder);
    const absl::Status refused = RunError(*engine, Task(*engine));
    EXPECT_EQ(CodeOf(refused), "QS5006");
    EXPECT_THAT(std::string(refused.message()), Not(HasSubstr("MiB")));
    return HintOf(refused);
  };
  const TempDir states;
  EXPECT_EQ(hint(kLeastMemory / 2, ""),
            "Give the engine more memory, or fewer configurations.");
  EXPECT_EQ(hint(kLeastMemory / 2, states.path()),
            "Give the engine more memory.");
  EXPECT_THAT(hint(kLeastMemory, "/proc"), HasSubstr("Make room"));
}

TEST_F(EngineTest, SaysTheLeastMemoryThatWorks) {
  const TempDir states;
  for (const std::string& directory : {std::string(), states.path()}) {
    const auto engine = MakeEngine(1, 100'000, directory);
    const EngineTask task = Task(*engine);
    const absl::Status status = RunError(*engine, task);
    EXPECT_EQ(CodeOf(status), "QS5006");
    const int64_t least = LeastBytes(status);
    EXPECT_EQ(Run(*MakeEngine(1, least, directory), task).rows.size(), 77u);
    EXPECT_EQ(CodeOf(RunError(*MakeEngine(1, least - 1, directory), task)),
              "QS5006");
  }
}

}  // namespace
}  // namespace qsweep
