// The engine's way to the kernel, on the host emulation.
#include "worker/engine/cuda_gptq.h"

#include "gtest/gtest.h"

#include "tests/support/device_memory.h"
#include "tests/support/emulated_memory.h"
#include "tests/support/error_matchers.h"
#include "tests/worker/kernels/gptq_sample.h"
#include "worker/kernels/quantize.h"
#include "worker/kernels/quantizer_loops.h"

namespace qsweep {
namespace {

using kernels::CodedTensor;
using kernels::Sample;
using testing::CodeOf;

Scheme SomeScheme() {
  return {.method = Method::kGptq, .group = 32, .damp_millionths = 10'000};
}

kernels::GptqFactor FactorOf(const Sample& sample, const Scheme& scheme) {
  return kernels::FactorHessian(scheme, sample.hessian, Sample::kColumns, "t",
                                kernels::InSequence)
      .value();
}

TEST(QuantizeGptqOnDevice, MakesTheCpusCodes_OrSaysThatTheyDiffer) {
  const Sample sample;
  Scheme plain = SomeScheme();
  Scheme ordered = plain;
  ordered.bits = 3;
  ordered.group = 100;
  ordered.act_order = true;
  ordered.symmetric = false;
  Scheme fixed = ordered;
  fixed.static_groups = true;
  fixed.scale = ScaleStorage::kFp16;
  Scheme rows = plain;
  rows.granularity = Granularity::kChannel;
  for (const Scheme& scheme : {plain, ordered, fixed, rows}) {
    const kernels::GptqFactor factor = FactorOf(sample, scheme);
    CodedTensor cpu = kernels::StartCoded(scheme, Sample::kRows, factor);
    CodedTensor device = cpu;
    kernels::QuantizeRows(scheme, factor, sample.weights, 0, Sample::kRows,
                          cpu);
    const absl::StatusOr<bool> done =
        QuantizeGptqOnDevice(scheme, factor, sample.weights, device);
    ASSERT_TRUE(done.ok()) << done.status();
    EXPECT_EQ(*done, device == cpu);
    if (kernels::BestQuantizerLoops().fused) {
      EXPECT_TRUE(*done);
    }
    EXPECT_EQ(testing::DeviceProblem(), "");
  }
}

TEST(QuantizeGptqOnDevice, SaysWhatIsShort_WhenTheMatrixDoesNotFit) {
  const Sample sample;
  const Scheme scheme = SomeScheme();
  const kernels::GptqFactor factor = FactorOf(sample, scheme);
  CodedTensor coded = kernels::StartCoded(scheme, Sample::kRows, factor);
  testing::LimitEmulatedMemory(60'000);
  const absl::StatusOr<bool> done =
      QuantizeGptqOnDevice(scheme, factor, sample.weights, coded);
  testing::LimitEmulatedMemory(0);
  EXPECT_EQ(CodeOf(done.status()), "QS5006");
}

}  // namespace
}  // namespace qsweep
