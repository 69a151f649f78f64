#include "common/job/checkpoint_quantizer.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"
#include "tests/support/model_descriptions.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;
using ::testing::HasSubstr;

// The model as a packed checkpoint has it: other files, fewer bits.
ModelDescription PackedTinyLlama() {
  ModelDescription packed = testing::TinyLlamaDescription();
  packed.digest = Digest::Of("packed");
  packed.name = "packed";
  packed.tokenizer_digest = Digest::Of("the same, written otherwise");
  packed.context_length = 512;
  for (TensorDescription& tensor : packed.tensors) {
    tensor.stored_bits = IsLinear(tensor.component) ? 4.25 : 16;
  }
  return packed;
}

TEST(WithCheckpoint, SaysWhatTheFilesSay) {
  const auto quantizer =
      WithCheckpoint(*ParseQuantizer("checkpoint:path=/c"), PackedTinyLlama(),
                     testing::TinyLlamaDescription());
  QSWEEP_ASSERT_OK(quantizer);
  EXPECT_EQ(quantizer->scheme.checkpoint, ShortDigest(Digest::Of("packed")));
  EXPECT_EQ(quantizer->scheme.stored_millibits, 4250);
  EXPECT_EQ(quantizer->checkpoint_path, "/c");
  EXPECT_EQ(FormatQuantizer(*quantizer),
            "checkpoint:path=/c,digest=" +
                Digest::Of("packed").hex().substr(0, 16) + ",bits=4.25");
  // Once more, as a worker does.
  EXPECT_EQ(*WithCheckpoint(*quantizer, PackedTinyLlama(),
                            testing::TinyLlamaDescription()),
            *quantizer);
}

TEST(WithCheckpoint, NamesWhatDiffersFromTheModel) {
  struct Case {
    const char* text;
    void (*change)(ModelDescription&);
  };
  for (const Case& c : {
           Case{"family qwen2, the model's llama",
                [](ModelDescription& m) { m.family = "qwen2"; }},
           Case{"layers: 3, the model's 2",
                [](ModelDescription& m) { m.layers = 3; }},
           Case{"hidden size 16",
                [](ModelDescription& m) { m.hidden_size = 16; }},
           Case{"vocabulary 33",
                [](ModelDescription& m) { m.vocabulary_size = 33; }},
           Case{"head of its own, the model's tied",
                [](ModelDescription& m) { m.tied_head = false; }},
           Case{"tensors: ", [](ModelDescription& m) { m.tensors.pop_back(); }},
           Case{"a tensor x.weight, the model's ",
                [](ModelDescription& m) { m.tensors[3].name = "x.weight"; }},
           Case{"[7, 8], the model's ",
                [](ModelDescription& m) {
                  m.tensors[3].shape = {7, 8};
                }},
       }) {
    SCOPED_TRACE(c.text);
    ModelDescription packed = PackedTinyLlama();
    c.change(packed);
    const auto quantizer =
        WithCheckpoint(*ParseQuantizer("checkpoint:path=/c"), packed,
                       testing::TinyLlamaDescription());
    EXPECT_EQ(CodeOf(quantizer), "QS3013");
    EXPECT_EQ(FieldOf(quantizer), "/c");
    EXPECT_THAT(std::string(quantizer.status().message()), HasSubstr(c.text));
  }
}

TEST(WithCheckpoint, RefusesOtherFilesThanTheQuantizerSays) {
  const auto quantizer = WithCheckpoint(
      *ParseQuantizer("checkpoint:path=/c,digest=0123456789abcdef,bits=4"),
      PackedTinyLlama(), testing::TinyLlamaDescription());
  EXPECT_EQ(CodeOf(quantizer), "QS3010");
  EXPECT_THAT(std::string(quantizer.status().message()),
              HasSubstr("0123456789abcdef"));
}

}  // namespace
}  // namespace qsweep
