#include "worker/sweep/calibration_plan.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/job/configuration.h"
#include "tests/support/model_descriptions.h"

namespace qsweep {
namespace {

constexpr uint64_t kTexts = 0x0123456789abcdef;

std::string Quantizer(const char* text) {
  return absl::StrCat(text, ",texts=0123456789abcdef");
}

class PlanCalibrationTest : public ::testing::Test {
 protected:
  explicit PlanCalibrationTest(int layers = 6)
      : model_(testing::TinyLlamaDescription(layers)) {}

  void Add(const std::string& quantizer, const std::string& layer_set) {
    configurations_.push_back(
        ParseConfiguration(model_, quantizer, layer_set, Compute::kFp32)
            .value());
  }

  void AddSingles(const std::string& quantizer) {
    Add(quantizer, "none");
    for (int layer = 0; layer < model_.layers; ++layer) {
      Add(quantizer, absl::StrCat("L", layer));
    }
  }

  CalibrationPlan Plan(const CodesMissing& missing =
                           [](const auto&, const auto&) { return true; }) {
    sweep_ = PlanSweep(model_, configurations_);
    return PlanCalibration(model_, sweep_, kTexts, missing);
  }

  // Runs the plan on states that remember the weights they went through, and
  // returns them for all that is quantized: a tensor and its scheme, once.
  using Prefix = std::vector<StageVariant>;
  std::map<std::pair<int, Scheme>, Prefix> Walk(const CalibrationPlan& plan) {
    std::map<std::pair<int, Scheme>, Prefix> quantized;
    std::vector<std::optional<Prefix>> slots(
        static_cast<size_t>(plan.num_slots));
    for (const CalibrationStep& step : plan.steps) {
      std::optional<Prefix>& from = slots.at(static_cast<size_t>(step.from));
      if (step.begins) {
        from = Prefix();
      }
      EXPECT_TRUE(from.has_value());
      EXPECT_EQ(from->size(), static_cast<size_t>(step.layer));
      const Stage& stage = sweep_.layers[static_cast<size_t>(step.layer)];
      for (const CalibrationStep::Wanted& one : step.wanted) {
        EXPECT_TRUE(
            quantized
                .emplace(std::pair(stage.tensors[one.tensor], one.scheme),
                         *from)
                .second);
      }
      if (step.variant) {
        Prefix next = *from;
        next.push_back(*step.variant);
        slots.at(static_cast<size_t>(step.to)) = std::move(next);
      }
    }
    return quantized;
  }

  // All tensors of all configurations under `exact`, with the layers before
  // them as their configuration has these.
  void ExpectExact(const std::map<std::pair<int, Scheme>, Prefix>& quantized) {
    size_t found = 0;
    for (size_t c = 0; c < configurations_.size(); ++c) {
      Prefix prefix;
      for (int layer = 0; layer < model_.layers; ++layer) {
        const Stage& stage = sweep_.layers[static_cast<size_t>(layer)];
        const StageVariant& variant = stage.variants[static_cast<size_t>(
            sweep_.words[c].layers[static_cast<size_t>(layer)])];
        for (size_t t = 0; t < variant.size(); ++t) {
          if (variant[t] &&
              variant[t]->calibration == CalibrationMode::kExact) {
            const auto at = quantized.find({stage.tensors[t], *variant[t]});
            ASSERT_NE(at, quantized.end());
            EXPECT_EQ(at->second, prefix);
            ++found;
          }
        }
        prefix.push_back(variant);
      }
    }
    EXPECT_GE(found, quantized.size());
  }

  const ModelDescription model_;
  std::vector<Configuration> configurations_;
  SweepPlan sweep_;
};

TEST_F(PlanCalibrationTest, GoesEachPrefixOnce_UnderExact) {
  AddSingles(Quantizer("gptq:group=4,calib=exact"));
  Add(Quantizer("gptq:group=4,calib=exact"), "mlp@L1+L3:int8");
  Add("rtn:group=4", "L2");
  const CalibrationPlan plan = Plan();
  ExpectExact(Walk(plan));
  // One state on the way of "none", one on the way that left it.
  EXPECT_EQ(plan.num_slots, 2);
  AddSingles(Quantizer("awq:group=4,calib=exact"));
  ExpectExact(Walk(Plan()));
}

TEST_F(PlanCalibrationTest, KeepsAStateForEachFork_WhenPairsAreKept) {
  AddSingles(Quantizer("gptq:group=4,calib=exact"));
  EXPECT_EQ(Plan().num_slots, 2);
  // Steps are edges of the tree, and an end where nothing leads on.
  size_t edges = 0;
  for (const CalibrationStep& step : Plan().steps) {
    edges += step.variant ? 1u : 0u;
  }
  EXPECT_EQ(edges, 2u + 3 + 4 + 5 + 6);  // prefixes of 1 to 5 layers
  for (int a = 0; a < model_.layers; ++a) {
    for (int b = a + 1; b < model_.layers; ++b) {
      Add(Quantizer("gptq:group=4,calib=exact"), absl::StrCat("L", a, "+L", b));
    }
  }
  const CalibrationPlan pairs = Plan();
  ExpectExact(Walk(pairs));
  EXPECT_EQ(pairs.num_slots, 3);
}

TEST_F(PlanCalibrationTest, SharesTheWay_UnderFpAndQpath) {
  AddSingles(Quantizer("gptq:group=4"));
  AddSingles(Quantizer("gptq:group=8,calib=qpath"));
  const CalibrationPlan plan = Plan();
  EXPECT_EQ(plan.num_slots, 1);
  EXPECT_EQ(plan.steps.size(), 2u * 6);
  const auto quantized = Walk(plan);
  EXPECT_EQ(quantized.size(), 2u * 6 * 7);
  for (const auto& [what, prefix] : quantized) {
    for (const StageVariant& variant : prefix) {
      for (const std::optional<Scheme>& scheme : variant) {
        if (what.second.calibration == CalibrationMode::kFp) {
          EXPECT_FALSE(scheme.has_value());
        } else if (scheme) {
          EXPECT_EQ(*scheme, what.second);
        }
      }
    }
  }
}

TEST_F(PlanCalibrationTest, GoesNoFurtherThanWhatIsMissing) {
  AddSingles(Quantizer("gptq:group=4,calib=exact"));
  EXPECT_TRUE(
      Plan([](const auto&, const auto&) { return false; }).steps.empty());
  int asked = 0;
  // Layer 2 with layer 1 kept, and with nothing kept.
  const CalibrationPlan plan =
      Plan([&](const TensorDescription& tensor, const Scheme& scheme) {
        ++asked;
        const auto path = [&](size_t c) {
          const Stage& stage = sweep_.layers[2];
          const StageVariant& variant =
              stage.variants[static_cast<size_t>(sweep_.words[c].layers[2])];
          return variant[0]->calibration_path;
        };
        return tensor.layer == 2 && tensor.component == Component::kDown &&
               (scheme.calibration_path == path(0) ||
                scheme.calibration_path == path(2));
      });
  EXPECT_EQ(Walk(plan).size(), 2u);
  EXPECT_EQ(plan.steps.size(), 1u + 2 + 2);
  // Each of 7 tensors after each prefix that leads to it quantized.
  EXPECT_EQ(asked, 7 * (1 + 2 + 3 + 4 + 5 + 6));
  configurations_.clear();
  Add("gptq:group=4,calib=exact,texts=00000000000000aa", "none");
  EXPECT_TRUE(Plan().steps.empty());  // other texts
}

}  // namespace
}  // namespace qsweep
