#include "common/job/model_description.h"

#include <limits>
#include <string>

#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"

#include "common/job/model_description_json.h"
#include "tests/support/error_matchers.h"
#include "tests/support/model_descriptions.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;

TEST(Component, HasANameThatParsesBack) {
  for (int i = 0; i <= static_cast<int>(Component::kFinalNorm); ++i) {
    const auto component = static_cast<Component>(i);
    EXPECT_EQ(ParseComponent(ComponentName(component)), component);
  }
  EXPECT_EQ(ParseComponent("attn"), std::nullopt);
}

TEST(ValidateModelDescription, TakesRealModels) {
  QSWEEP_EXPECT_OK(ValidateModelDescription(testing::Gpt2Description()));
  QSWEEP_EXPECT_OK(ValidateModelDescription(testing::Llama2Description()));
}

TEST(ValidateModelDescription, NamesTheField_WhenSomethingIsImpossible) {
  struct Case {
    const char* name;
    void (*damage)(ModelDescription&);
    const char* field;
  };
  for (const Case& c : {
           Case{"no digest", [](auto& m) { m.digest = Digest(); }, "digest"},
           Case{"no layers", [](auto& m) { m.layers = 0; }, "layers"},
           Case{"too many layers", [](auto& m) { m.layers = 1'000'000; },
                "layers"},
           Case{"no tensors", [](auto& m) { m.tensors.clear(); }, "tensors"},
           Case{"layer", [](auto& m) { m.tensors[5].layer = 2; }, "tensors[5]"},
           Case{"embedding in a layer", [](auto& m) { m.tensors[0].layer = 0; },
                "tensors[0]"},
           Case{"zero size", [](auto& m) { m.tensors[1].shape = {0}; },
                "tensors[1]"},
           Case{"overflow",
                [](auto& m) {
                  m.tensors[1].shape = {int64_t{1} << 40, int64_t{1} << 40};
                },
                "tensors[1]"},
           Case{"not a number",
                [](auto& m) {
                  m.tensors[1].stored_bits =
                      std::numeric_limits<double>::quiet_NaN();
                },
                "tensors[1]"},
           Case{"twice", [](auto& m) { m.tensors[3] = m.tensors[2]; },
                "tensors[3]"},
       }) {
    SCOPED_TRACE(c.name);
    ModelDescription model = testing::TinyLlamaDescription();
    c.damage(model);
    const absl::Status status = ValidateModelDescription(model);
    EXPECT_EQ(CodeOf(status), "QS1004");
    EXPECT_EQ(FieldOf(status), c.field);
  }
}

TEST(ModelDescriptionJson, ReadsWhatItWrites) {
  ModelDescription model = testing::Gpt2Description();
  model.prequantized = "prequantized";
  model.tensors[0].stored_bits = 4.5;
  const std::string text = FormatModelDescriptionJson(model);
  const auto read = ParseModelDescriptionJson(text);
  QSWEEP_ASSERT_OK(read);
  EXPECT_EQ(read->digest, model.digest);
  EXPECT_EQ(read->num_parameters(), model.num_parameters());
  EXPECT_EQ(FormatModelDescriptionJson(*read), text);
}

TEST(ModelDescriptionJson, RefusesDamagedText) {
  const std::string text =
      FormatModelDescriptionJson(testing::TinyLlamaDescription());
  EXPECT_EQ(CodeOf(ParseModelDescriptionJson("")), "QS1002");
  EXPECT_EQ(CodeOf(ParseModelDescriptionJson("[]")), "QS1002");
  EXPECT_EQ(CodeOf(ParseModelDescriptionJson(text.substr(0, 300))), "QS1002");
  EXPECT_EQ(CodeOf(ParseModelDescriptionJson(
                absl::StrReplaceAll(text, {{"qctl/v1", "qctl/v2"}}))),
            "QS1002");
  for (const auto& [from, to] : {
           std::pair{"\"layers\": 2", "\"layers\": \"2\""},
           std::pair{"\"layers\": 2", "\"layers\": 20000000000"},
           std::pair{"\"component\": \"q\"", "\"component\": \"queue\""},
           std::pair{"\"tied_head\"", "\"tied\""},
           std::pair{"\"digest\": \"", "\"digest\": \"zz"},
       }) {
    EXPECT_EQ(CodeOf(ParseModelDescriptionJson(
                  absl::StrReplaceAll(text, {{from, to}}))),
              "QS1004")
        << to;
  }
}

}  // namespace
}  // namespace qsweep
