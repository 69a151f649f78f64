#include "worker/engine/commands/texts.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "common/base/digest.h"
#include "common/job/quantizer.h"
#include "tests/support/temp_dir.h"

namespace qsweep {
namespace {

// What a task's calibration reads, one text after another.
std::vector<std::string> Calibration(const std::string& json,
                                     EngineTask& task) {
  const testing::TempDir directory;
  task.configurations = {{.quantizer = "gptq:bits=4"}};
  task.languages = {{.language = "swh", .texts = {"scored"}}};
  const absl::Status status =
      AddCalibration(directory.Write("calibration.json", json), task);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<std::string> texts;
  for (const auto& document : task.calibrations.at(0).documents) {
    texts.push_back(task.languages.at(static_cast<size_t>(document.language))
                        .texts.at(static_cast<size_t>(document.text)));
  }
  return texts;
}

TEST(AddCalibration, TakesLanguagesAsACorpusDoes_WhateverTheFilesOrder) {
  const std::vector<std::string> want = {"a", "e 1", "e 2", "r"};
  EngineTask task;
  EXPECT_EQ(
      Calibration(R"({"rus": "r", "eng": ["e 1", "e 2"], "arb": "a"})", task),
      want);
  std::vector<Digest> digests;
  for (const std::string& text : want) {
    digests.push_back(Digest::Of(text));
  }
  const auto quantizer = ParseQuantizer(task.configurations[0].quantizer);
  ASSERT_TRUE(quantizer.ok()) << quantizer.status();
  EXPECT_EQ(quantizer->scheme.calibration_texts, CalibrationTexts(digests));
  EXPECT_EQ(task.languages[0].language, "swh");
  EngineTask sorted;
  EXPECT_EQ(
      Calibration(R"({"arb": "a", "eng": ["e 1", "e 2"], "rus": "r"})", sorted),
      want);
  EXPECT_EQ(sorted.configurations[0].quantizer,
            task.configurations[0].quantizer);
}

}  // namespace
}  // namespace qsweep
