#include "coordinator/core/calibration_cost.h"

#include <deque>
#include <string>

#include "gtest/gtest.h"

#include "common/job/layer_set.h"
#include "common/job/quantizer.h"
#include "tests/support/model_descriptions.h"

namespace qsweep::testing {
namespace {

constexpr uint64_t kTexts = 7;
constexpr int kTokens = 100;
// Of a layer of TinyLlamaDescription, 576 weights: the texts' way through it;
// the Hessians of 8, 8, 8 and 16 inputs with a third of their cube and all
// weights times their inputs, both at a quarter of the speed.
constexpr double kGptqLayer = 2.0 * 576 * kTokens +
                              3 * 64 * (2.0 * kTokens + 4 * 8 / 3.0) +
                              256 * (2.0 * kTokens + 4 * 16 / 3.0) + 4 * 5632.0;
constexpr double kAwqLayer = 90 * 2.0 * 576 * kTokens;

class CalibrationCostTest : public ::testing::Test {
 protected:
  double Add(const std::string& quantizer, const std::string& layer_set,
             uint64_t texts = kTexts) {
    Quantizer parsed = *ParseQuantizer(quantizer);
    parsed.scheme.calibration_texts =
        parsed.scheme.calibrated() ? texts : uint64_t{0};
    configurations_.push_back(*MakeConfiguration(
        model_, parsed, *LayerSet::Parse(layer_set), Compute::kFp32));
    return cost_.Add(configurations_.back(), {{kTexts, kTokens}});
  }

  const ModelDescription model_ = TinyLlamaDescription(2);
  CalibrationCost cost_{model_};
  std::deque<Configuration> configurations_;  // borrowed by it
};

TEST_F(CalibrationCostTest, CountsEachLayersCodesOnce) {
  EXPECT_DOUBLE_EQ(Add("gptq:group=4", "L0"), kGptqLayer);
  EXPECT_DOUBLE_EQ(Add("gptq:group=4", "none"), kGptqLayer);  // layer 0
  EXPECT_EQ(Add("gptq:group=4", "L1"), 0);
  // Codes of other bits, and of another quantizer, are others.
  EXPECT_DOUBLE_EQ(Add("gptq:group=4", "L1:int8"), kGptqLayer);
  EXPECT_DOUBLE_EQ(Add("gptq:group=8", "none"), 2 * kGptqLayer);
  EXPECT_DOUBLE_EQ(Add("awq:group=4", "none"), 2 * kAwqLayer);
}

TEST_F(CalibrationCostTest, CountsTheLayersOfEachPath_WhenExact) {
  const std::string exact = "gptq:group=4,calib=exact";
  EXPECT_DOUBLE_EQ(Add(exact, "none"), 2 * kGptqLayer);
  // Layer 1 reads other states once layer 0 is protected.
  EXPECT_DOUBLE_EQ(Add(exact, "L0"), kGptqLayer);
  EXPECT_EQ(Add(exact, "L1"), 0);
}

// A Hessian is that of whichever tensor reads the input first.
TEST_F(CalibrationCostTest, CountsEachTensorAndHessianOnce) {
  const double query = 2.0 * 64 * kTokens + 4 * 64 * 8;
  EXPECT_DOUBLE_EQ(Add("gptq:group=4", "q@L0+L1"), kGptqLayer - query);
  EXPECT_DOUBLE_EQ(Add("gptq:group=4", "L1"), query);
  EXPECT_EQ(cost_.Add(configurations_.back(), {{kTexts, kTokens}}), 0);
}

TEST_F(CalibrationCostTest, IsNothing_WithoutCalibrationOrItsTexts) {
  EXPECT_EQ(Add("rtn:bits=4,group=4", "none"), 0);
  EXPECT_EQ(Add("gptq:group=4", "none", kTexts + 1), 0);
}

}  // namespace
}  // namespace qsweep::testing
