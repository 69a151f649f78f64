#include "common/job/model_description_proto.h"

#include "gtest/gtest.h"

#include "common/job/model_description_json.h"
#include "tests/support/error_matchers.h"
#include "tests/support/model_descriptions.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;

TEST(ModelDescriptionProto, KeepsEverything) {
  ModelDescription model = testing::Gpt2Description();
  model.prequantized = "prequantized8";
  const auto back = FromProto(ToProto(model));
  QSWEEP_ASSERT_OK(back);
  EXPECT_EQ(FormatModelDescriptionJson(*back),
            FormatModelDescriptionJson(model));
}

TEST(ModelDescriptionProto, RefusesDamage) {
  const v1::ModelDescription good = ToProto(testing::TinyLlamaDescription());
  v1::ModelDescription bad = good;
  bad.set_digest("short");
  EXPECT_EQ(FieldOf(FromProto(bad)), "digest");
  bad = good;
  bad.mutable_tensors(2)->set_component("queue");
  EXPECT_EQ(FieldOf(FromProto(bad)), "tensors[2].component");
  bad = good;
  bad.mutable_tensors(2)->set_shape(0, uint64_t{1} << 63);
  EXPECT_EQ(FieldOf(FromProto(bad)), "tensors[2].shape");
  bad = good;
  bad.set_layers(uint32_t{1} << 31);
  EXPECT_EQ(CodeOf(FromProto(bad)), "QS1004");
  EXPECT_EQ(CodeOf(FromProto(v1::ModelDescription())), "QS1004");
}

}  // namespace
}  // namespace qsweep
