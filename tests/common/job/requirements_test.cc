#include "common/job/requirements.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/job/job_spec.h"
#include "tests/support/error_matchers.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ParseRequirements, ReadsWhatPeopleWrite) {
  const auto require =
      ParseRequirements("gpu=T4, vram>=14GiB,compute>=7.5,gpu=A100");
  QSWEEP_ASSERT_OK(require);
  EXPECT_THAT(require->gpus(), ElementsAre("T4", "A100"));
  EXPECT_EQ(require->memory_bytes(), uint64_t{14} << 30);
  EXPECT_EQ(require->compute_capability(), 75u);
  EXPECT_EQ(ParseRequirements("vram=16GB")->memory_bytes(), 16'000'000'000u);
  EXPECT_EQ(ParseRequirements("vram=1073741824")->memory_bytes(),
            uint64_t{1} << 30);
}

TEST(ParseRequirements, NamesWhatIsWrong) {
  for (const char* text :
       {"", "T4", "gpu=", "gpu=\"", "vram=14", "vram=lots", "vram=-1GiB",
        "vram=1e30GiB", "vram>=0", "vram>=0.4", "vram>=1GiB,vram>=8GiB",
        "compute>=7,compute>=8", "gpu>=T4", "compute=0.04", "compute=0",
        "compute=x", "compute=2.9", "compute=1000", "cpu=2"}) {
    EXPECT_EQ(CodeOf(ParseRequirements(text)), "QS1004") << text;
    EXPECT_EQ(FieldOf(ParseRequirements(text)), "policy.require") << text;
  }
}

constexpr char kSpec[] = R"(apiVersion: qctl/v1
kind: LayerSweep
model: /models/tiny
quantizers: [rtn]
corpus: texts
)";

TEST(JobSpec, CarriesRequirementsAndQueueTimeout) {
  for (const char* policy :
       {"policy: {require: {gpu: [T4, A100], vram: 14GiB, compute: 7.5}, "
        "queueTimeout: 90m}\n",
        "policy: {require: \"gpu=T4,gpu=A100,vram>=14GiB,compute>=7.5\", "
        "queueTimeout: 5400}\n"}) {
    const auto spec = ParseJobSpec(std::string(kSpec) + policy, {});
    QSWEEP_ASSERT_OK(spec);
    QSWEEP_EXPECT_OK(ValidateJobSpec(*spec));
    EXPECT_EQ(spec->policy().require().memory_bytes(), uint64_t{14} << 30);
    EXPECT_EQ(spec->policy().queue_timeout_ms(), 5'400'000u);
    const std::string written = FormatJobSpecYaml(*spec);
    const auto again = ParseJobSpec(written, {});
    QSWEEP_ASSERT_OK(again);
    EXPECT_EQ(FormatJobSpecYaml(*again), written);
    EXPECT_EQ(again->policy().require().SerializeAsString(),
              spec->policy().require().SerializeAsString());
    EXPECT_EQ(again->policy().queue_timeout_ms(), 5'400'000u);
  }
}

TEST(JobSpec, KeepsItsDigest_WhenItAsksForNothing) {
  EXPECT_THAT(FormatJobSpecYaml(*ParseJobSpec(kSpec, {})),
              Not(HasSubstr("require")));
  for (const char* bad :
       {"{require: {cpu: 2}}", "{require: {vram: 14}}",
        "{require: [gpu=T4, \"vram>=14GiB\"]}", "{require: }",
        "{require: {vram: [1GiB, 8GiB]}}", "{queueTimeout: 500us}",
        "{queueTimeout: soon}", "{queueTimeout: 0s}"}) {
    EXPECT_EQ(
        CodeOf(ParseJobSpec(std::string(kSpec) + "policy: " + bad + "\n", {})),
        "QS1004")
        << bad;
  }
}

}  // namespace
}  // namespace qsweep::testing
