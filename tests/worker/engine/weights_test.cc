#include "worker/engine/weights.h"

#include <algorithm>
#include <numeric>
#include <stop_token>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "common/job/configuration.h"
#include "tests/support/error_matchers.h"
#include "tests/support/forwarding_checkpoint.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "worker/engine/largest_weights.h"
#include "worker/engine/ready_checkpoints.h"

namespace qsweep {
namespace {

using testing::ForwardingCheckpoint;
using testing::TempDir;
using testing::TinyLlama;

// Asks for a stop in the midst of reading its first tensor.
class StoppingCheckpoint : public ForwardingCheckpoint {
 public:
  using ForwardingCheckpoint::ForwardingCheckpoint;

  absl::Status ReadTensor(const std::string& name, std::span<float> out,
                          const Stopped& stopped) const override {
    ++begun_;
    return ForwardingCheckpoint::ReadTensor(name, out, [&] {
      stop_.request_stop();
      return IsStopped(stopped);
    });
  }

  std::stop_token stop() const { return stop_.get_token(); }
  int begun() const { return begun_; }

 private:
  mutable std::stop_source stop_;
  mutable int begun_ = 0;  // tensors
};

class WeightsTest : public ::testing::Test {
 protected:
  WeightsTest() {
    TinyLlama().WriteTo(directory_);
    checkpoint_ = Checkpoint::Open(directory_.path()).value();
    model_ = checkpoint_->Describe("").value();
  }

  TempDir directory_;
  std::unique_ptr<Checkpoint> checkpoint_;
  ModelDescription model_;
  ThreadPool pool_{1};
};

TEST_F(WeightsTest, StopsInTheMidstOfATensorOfAStage) {
  Stage stage;
  stage.tensors.resize(model_.tensors.size());
  std::iota(stage.tensors.begin(), stage.tensors.end(), 0);
  const StoppingCheckpoint stopping(*checkpoint_);
  const auto read =
      StageTensors::Read(stopping, model_, stage, pool_, stopping.stop());
  EXPECT_TRUE(absl::IsCancelled(read.status())) << read.status();
  EXPECT_EQ(stopping.begun(), 1);
  QSWEEP_EXPECT_OK(StageTensors::Read(*checkpoint_, model_, stage, pool_,
                                      std::stop_token()));
}

TEST_F(WeightsTest, StopsInTheMidstOfATensor_WhereItCountsTheLargest) {
  const std::vector<Configuration> configurations = {
      ParseConfiguration(model_, "rtn:group=32", "top5%", Compute::kFp32)
          .value()};
  const StoppingCheckpoint stopping(*checkpoint_);
  LargestWeights largest;
  EXPECT_TRUE(
      absl::IsCancelled(largest.Find(stopping, model_, configurations, pool_,
                                     stopping.stop(), [](double) {})));
  EXPECT_EQ(stopping.begun(), 1);
}

TEST_F(WeightsTest, StopsInTheMidstOfATensorOfAReadyCheckpoint) {
  const std::string text =
      CompleteQuantizer("checkpoint:path=" + directory_.path(), model_, "")
          .value();
  const Quantizer quantizer = ParseQuantizer(text).value();
  ReadyCheckpoints ready("");
  QSWEEP_ASSERT_OK(
      ready.Open(std::span(&quantizer, 1), *checkpoint_, model_, {}));
  const CodeCache codes("", "", 0);
  const LargestWeights largest;
  const TensorDescription& tensor = model_.tensors.front();
  std::vector<float> weights(static_cast<size_t>(tensor.num_elements()));
  int asked = 0;
  EXPECT_TRUE(absl::IsCancelled(RoundTensor(
      quantizer.scheme, tensor, weights, {codes, largest, ready},
      kernels::InSequence, [&] { return ++asked == 2; }, weights)));
  EXPECT_EQ(asked, 2);
}

TEST_F(WeightsTest, StopsWhileAReadyCheckpointIsHashed) {
  const std::string text = "checkpoint:path=" + directory_.path();
  const Quantizer quantizer =
      ParseQuantizer(CompleteQuantizer(text, model_, "").value()).value();
  const auto stopped = [] { return true; };
  ReadyCheckpoints ready("");
  EXPECT_TRUE(absl::IsCancelled(
      ready.Open(std::span(&quantizer, 1), *checkpoint_, model_, stopped)));
  EXPECT_TRUE(
      absl::IsCancelled(CompleteQuantizer(text, model_, "", stopped).status()));
  QSWEEP_EXPECT_OK(
      ready.Open(std::span(&quantizer, 1), *checkpoint_, model_, {}));
}

}  // namespace
}  // namespace qsweep
