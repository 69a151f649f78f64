#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "tests/worker/engine/engine_fixture.h"
#include "worker/engine/engine.h"

namespace qsweep {
namespace {

using testing::EngineTest;
using testing::MakeEngine;
using testing::RecordingSink;
using testing::Values;

TEST_F(EngineTest, StopsAndGoesOn_WhenCancelled) {
  const auto engine = MakeEngine(2);
  const EngineTask task = Task(*engine);
  for (const std::string& when :
       {std::string("layer 2 of 3"), std::string("scoring")}) {
    std::stop_source stop;
    RecordingSink sink;
    sink.then = [&](const EngineProgress& progress) {
      if (progress.text == when) {
        stop.request_stop();
      }
    };
    const auto result = engine->Run(task, sink, stop.get_token());
    // The last step's report may come when all is done.
    if (when != "scoring" || !result.ok()) {
      EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
    }
  }
  EXPECT_EQ(Run(*engine, task).rows.size(), 77u);
}

TEST_F(EngineTest, DoesNothingMore_WhenItIsStoppedWhileItLoads) {
  const auto engine = MakeEngine(2);
  const EngineTask task = Task(*MakeEngine(1));
  std::stop_source stop;
  RecordingSink sink;
  sink.then = [&](const EngineProgress&) { stop.request_stop(); };
  EXPECT_EQ(engine->Run(task, sink, stop.get_token()).status().code(),
            absl::StatusCode::kCancelled);
  ASSERT_EQ(sink.seen.size(), 1u);
  EXPECT_EQ(sink.seen[0].text, "reading the model");
  EXPECT_EQ(Run(*engine, task).rows.size(), 77u);
}

TEST_F(EngineTest, StopsWhileItLooksForTheLargestWeights) {
  const auto engine = MakeEngine(1);
  EngineTask task = Task(*engine);
  task.configurations = {
      {.quantizer = "rtn:bits=4,group=32", .layer_set = "top5%"}};
  std::stop_source stop;
  RecordingSink sink;
  sink.then = [&](const EngineProgress& progress) {
    if (progress.text == "finding the largest weights") {
      stop.request_stop();
    }
  };
  EXPECT_TRUE(
      absl::IsCancelled(engine->Run(task, sink, stop.get_token()).status()));
  EXPECT_EQ(Run(*engine, task).rows.size(), task.documents.size());
}

TEST_F(EngineTest, KeepsTheRows_WhenItIsStoppedWhileItMeasuresItsNoise) {
  const auto engine = MakeEngine(1);
  EngineTask task = Task(*engine);
  const EngineResult want = Run(*engine, task);
  task.measure_noise = true;
  std::stop_source stop;
  RecordingSink sink;
  sink.then = [&](const EngineProgress& progress) {
    if (progress.text == "noise floor: layer 1 of 3") {
      EXPECT_EQ(progress.partial.size(),
                task.languages.size() * task.configurations.size());
      stop.request_stop();
    }
  };
  const auto got = engine->Run(task, sink, stop.get_token());
  EXPECT_TRUE(stop.stop_requested());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(Values(*got), Values(want));
  EXPECT_FALSE(got->report.noise.has_value());
  EXPECT_TRUE(Run(*engine, task).report.noise.has_value());
}

}  // namespace
}  // namespace qsweep
