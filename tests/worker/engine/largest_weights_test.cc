#include "worker/engine/largest_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/job/configuration.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "worker/engine/thread_pool.h"
#include "worker/model/checkpoint.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::TempDir;
using testing::TinyLlama;

void Ignore(double) {}

class LargestWeightsTest : public ::testing::Test {
 protected:
  // The tiny model with its weights changed by `edit`.
  void Write(const std::function<void(std::vector<float>&)>& edit) {
    magnitudes_.clear();
    TinyLlama llama;
    llama.edit = [&](const std::string&, std::vector<float>& values) {
      edit(values);
      for (const float value : values) {
        magnitudes_.push_back(std::fabs(value));
      }
    };
    llama.WriteTo(directory_);
    std::ranges::sort(magnitudes_, std::greater<>());
    checkpoint_ = Checkpoint::Open(directory_.path()).value();
    model_ = checkpoint_->Describe("").value();
  }

  std::vector<Configuration> Configurations(
      const std::vector<std::string>& layer_sets) const {
    std::vector<Configuration> made;
    for (const std::string& text : layer_sets) {
      made.push_back(
          ParseConfiguration(model_, "rtn:group=32", text, Compute::kFp32)
              .value());
    }
    return made;
  }

  // Each threshold is the k-th of all magnitudes, sorted here.
  void CheckThresholds(const std::vector<std::string>& layer_sets,
                       int threads) {
    LargestWeights largest;
    ThreadPool pool(threads);
    const std::vector<Configuration> configurations =
        Configurations(layer_sets);
    QSWEEP_ASSERT_OK(largest.Find(*checkpoint_, model_, configurations, pool,
                                  std::stop_token(), Ignore));
    for (const Configuration& configuration : configurations) {
      for (const auto& scheme : configuration.schemes) {
        if (scheme && scheme->kept_millionths != 0) {
          const int64_t k = NumKept(model_, scheme->kept_millionths);
          ASSERT_GT(k, 0);
          EXPECT_EQ(largest.ThresholdOf(*scheme),
                    magnitudes_[static_cast<size_t>(k - 1)])
              << configuration.layer_set_text;
        }
      }
    }
  }

  TempDir directory_;
  std::vector<float> magnitudes_;  // of all weights, falling
  std::unique_ptr<Checkpoint> checkpoint_;
  ModelDescription model_;
};

TEST_F(LargestWeightsTest, FindsTheMagnitudeOfTheLastThatIsKept) {
  Write([](std::vector<float>&) {});
  ASSERT_EQ(static_cast<int64_t>(magnitudes_.size()), model_.num_parameters());
  for (const int threads : {1, 3}) {
    CheckThresholds({"top5%", "L0+top0.01%", "none", "top50%", "top99.9999%"},
                    threads);
  }
}

TEST_F(LargestWeightsTest, IsExact_WhereWeightsAreEqualZeroOrSubnormal) {
  Write([](std::vector<float>& values) {
    for (float& value : values) {
      value = std::round(value * 8) / 8;  // few values, many ties, -0 and 0
    }
  });
  CheckThresholds({"top1%", "top5%", "top80%", "top99%"}, 2);
  Write([](std::vector<float>& values) {
    for (float& value : values) {
      value *= 1e-39f;
    }
  });
  CheckThresholds({"top1%", "top50%"}, 2);
}

TEST_F(LargestWeightsTest, ReadsWeightsOnce_AndOnlyForNewShares) {
  Write([](std::vector<float>& values) {  // as from bf16
    for (float& value : values) {
      value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000);
    }
  });
  LargestWeights largest;
  ThreadPool pool(1);
  std::vector<double> seen;
  const auto find = [&](const std::vector<std::string>& layer_sets) {
    seen.clear();
    return largest.Find(*checkpoint_, model_, Configurations(layer_sets), pool,
                        std::stop_token(),
                        [&](double done) { seen.push_back(done); });
  };
  QSWEEP_ASSERT_OK(find({"top5%", "top1%"}));
  ASSERT_FALSE(seen.empty());
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_LT(seen.back(), 0.5);  // the second half is the second reading
  QSWEEP_ASSERT_OK(find({"top1%", "L0+top5%", "L1"}));
  EXPECT_TRUE(seen.empty());
  QSWEEP_ASSERT_OK(find({"top2%"}));
  EXPECT_FALSE(seen.empty());
}

TEST_F(LargestWeightsTest, StopsAndNamesABadWeight) {
  Write([](std::vector<float>&) {});
  LargestWeights largest;
  ThreadPool pool(2);
  std::stop_source stop;
  const auto stopping = [&](double done) {
    if (done > 0.6) {
      stop.request_stop();
    }
  };
  const std::vector<Configuration> configurations = Configurations({"top5%"});
  EXPECT_TRUE(absl::IsCancelled(largest.Find(
      *checkpoint_, model_, configurations, pool, stop.get_token(), stopping)));
  Write([](std::vector<float>& values) {
    values.back() = std::numeric_limits<float>::infinity();
  });
  EXPECT_EQ(CodeOf(largest.Find(*checkpoint_, model_, configurations, pool,
                                std::stop_token(), Ignore)),
            "QS3007");
}

}  // namespace
}  // namespace qsweep
