#include "common/job/quantizer.h"

#include <vector>

#include "gtest/gtest.h"

#include "tests/support/error_matchers.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;
using testing::HintOf;

TEST(ParseQuantizer, FillsDefaults) {
  const auto rtn = ParseQuantizer("rtn");
  QSWEEP_ASSERT_OK(rtn);
  EXPECT_EQ(rtn->scheme.CanonicalText(),
            "rtn;bits=4;gran=group;group=128;sym=1;grid=absmax;arith=fp32;"
            "scale=fp32");
  EXPECT_EQ(rtn->scope, Scope::kLinear);

  const auto asymmetric = ParseQuantizer("rtn:sym=0");
  QSWEEP_ASSERT_OK(asymmetric);
  EXPECT_EQ(asymmetric->scheme.grid, Grid::kGptq);
}

TEST(ParseQuantizer, ReadsEveryParameter) {
  const auto quantizer = ParseQuantizer(
      " rtn:bits=3, group=32,sym=0,grid=awq,arith=fp16,scale=fp16,"
      "scope=p5-final,replicate=5");
  QSWEEP_ASSERT_OK(quantizer);
  EXPECT_EQ(quantizer->scheme.CanonicalText(),
            "rtn;bits=3;gran=group;group=32;sym=0;grid=awq;arith=fp16;"
            "scale=fp16");
  EXPECT_EQ(quantizer->scope, Scope::kP5Final);
  EXPECT_EQ(quantizer->scheme.replicate, 5);
}

TEST(ParseQuantizer, GivesEachMethodItsOwnDefaultsAndMeaning) {
  EXPECT_EQ(ParseQuantizer("nf4")->scheme.CanonicalText(),
            "nf4;bits=4;group=64;double_quant=0");
  EXPECT_EQ(ParseQuantizer("hqq")->scheme.CanonicalText(),
            "hqq;bits=4;group=64;axis=1;round_zero=1");
  // Its helper rounds zeros at 4 bits alone.
  EXPECT_EQ(ParseQuantizer("hqq:bits=3")->scheme.CanonicalText(),
            "hqq;bits=3;group=64;axis=1;round_zero=0");
  EXPECT_EQ(
      ParseQuantizer("gptq:texts=0123456789abcdef")->scheme.CanonicalText(),
      "gptq;bits=4;gran=group;group=128;sym=1;scale=fp32;act_order=0;"
      "static_groups=0;damp=0.01;calib=fp;texts=0123456789abcdef");
  EXPECT_EQ(
      ParseQuantizer("awq:texts=0123456789abcdef")->scheme.CanonicalText(),
      "awq;bits=4;gran=group;group=128;sym=0;scale=fp32;calib=fp;"
      "texts=0123456789abcdef");
  Scheme exact =
      ParseQuantizer("awq:calib=exact,texts=0123456789abcdef")->scheme;
  exact.calibration_path = 0xab;
  EXPECT_EQ(exact.CanonicalText(),
            "awq;bits=4;gran=group;group=128;sym=0;scale=fp32;calib=exact;"
            "texts=0123456789abcdef;path=00000000000000ab");
  EXPECT_EQ(exact.InQuantizer().calibration_path, 0u);
}

TEST(ParseQuantizer, TakesMinusOneAsChannel) {
  EXPECT_EQ(*ParseQuantizer("rtn:group=-1"),
            *ParseQuantizer("rtn:gran=channel"));
}

TEST(ParseQuantizer, ReadsUpstreamPresets) {
  const auto preset = ParseQuantizer("upstream:gpu,bits=8,arith=fp16");
  QSWEEP_ASSERT_OK(preset);
  EXPECT_EQ(preset->scheme.CanonicalText(),
            "rtn;bits=8;gran=tensor;group=0;sym=1;grid=absmax;arith=fp16;"
            "scale=fp32");
  EXPECT_EQ(preset->scope, Scope::kGpu);
}

TEST(FormatQuantizer, HasOneSpelling_ThatParsesBack) {
  struct Case {
    const char* written;
    const char* want;
  };
  for (const Case& c : {
           Case{"rtn", "rtn:bits=4,group=128"},
           Case{"rtn:group=64,bits=4,sym=1", "rtn:bits=4,group=64"},
           Case{"rtn:group=-1,sym=0", "rtn:bits=4,gran=channel,sym=0"},
           Case{"rtn:sym=0,grid=gptq", "rtn:bits=4,group=128,sym=0"},
           Case{"rtn:grid=gptq", "rtn:bits=4,group=128,grid=gptq"},
           Case{"rtn:gran=tensor,scope=gpu", "upstream:gpu"},
           Case{"rtn:gran=tensor", "rtn:bits=4,gran=tensor"},
           Case{"upstream:p5-weights,bits=8", "upstream:p5-weights,bits=8"},
           Case{"rtn:scope=gpu001,replicate=0,scale=fp16",
                "rtn:bits=4,group=128,scale=fp16,scope=gpu001"},
           Case{"rtn:replicate=127", "rtn:bits=4,group=128,replicate=127"},
           Case{"hqq:replicate=2,scope=gpu",
                "hqq:bits=4,group=64,scope=gpu,replicate=2"},
           Case{"nf4:replicate=1", "nf4:group=64,replicate=1"},
           Case{"nf4", "nf4:group=64"},
           Case{"nf4:double_quant=1,group=128,scope=gpu",
                "nf4:group=128,double_quant=1,scope=gpu"},
           Case{"hqq", "hqq:bits=4,group=64"},
           Case{"hqq:bits=3", "hqq:bits=3,group=64"},
           Case{"hqq:bits=3,round_zero=1,axis=0",
                "hqq:bits=3,group=64,axis=0,round_zero=1"},
           Case{"gptq", "gptq:bits=4,group=128"},
           Case{"gptq:group=-1,damp=0.01,calib=fp", "gptq:bits=4,group=-1"},
           Case{"gptq:calib=qpath", "gptq:bits=4,group=128,calib=qpath"},
           Case{"awq:calib=exact", "awq:bits=4,group=128,calib=exact"},
           Case{"awq:sym=0", "awq:bits=4,group=128"},
           Case{"awq:sym=1,group=-1,scale=fp16,texts=00ff000000000001",
                "awq:bits=4,group=-1,sym=1,scale=fp16,calib=fp,"
                "texts=00ff000000000001"},
           Case{"gptq:texts=00ff000000000001,damp=0.05,act_order=1,sym=0,"
                "scale=fp16,static_groups=1",
                "gptq:bits=4,group=128,sym=0,scale=fp16,act_order=1,"
                "static_groups=1,damp=0.05,calib=fp,texts=00ff000000000001"},
           Case{"checkpoint: path = /m/a b=c", "checkpoint:path=/m/a b=c"},
           Case{"checkpoint:bits=4.5000,digest=0123456789abcdef,path=/m",
                "checkpoint:path=/m,digest=0123456789abcdef,bits=4.5"},
           Case{"checkpoint:digest=0123456789abcdef,bits=16",
                "checkpoint:digest=0123456789abcdef,bits=16"},
       }) {
    SCOPED_TRACE(c.written);
    const auto quantizer = ParseQuantizer(c.written);
    QSWEEP_ASSERT_OK(quantizer);
    EXPECT_EQ(FormatQuantizer(*quantizer), c.want);
    const auto again = ParseQuantizer(c.want);
    QSWEEP_ASSERT_OK(again);
    EXPECT_EQ(*again, *quantizer);
  }
}

TEST(ParseQuantizer, RefusesWhatDoesNotExist) {
  struct Case {
    const char* text;
    const char* code;
    const char* field;
  };
  for (const Case& c : {
           Case{"", "QS1020", ""},
           Case{"rnt:bits=4", "QS1020", ""},
           Case{"fp", "QS1020", ""},
           Case{"checkpoint:group=128", "QS1021", "group"},
           Case{"checkpoint", "QS1003", "path"},
           Case{"checkpoint:id=TheBloke/Llama-2-7B-GPTQ", "QS1004", "id"},
           Case{"checkpoint:path=/m,digest=12,bits=4", "QS1004", "digest"},
           Case{"checkpoint:path=/m,bits=4", "QS1004", "bits"},
           Case{"checkpoint:digest=0123456789abcdef", "QS1004", "digest"},
           Case{"checkpoint:digest=0123456789abcdef,bits=65", "QS1004", "bits"},
           Case{"checkpoint:digest=0123456789abcdef,bits=0", "QS1004", "bits"},
           Case{"checkpoint:path=/m,replicate=1", "QS1021", "replicate"},
           Case{"checkpoint:path=/a,b", "QS1021", "b"},
           Case{"upstream:p5", "QS1020", ""},
           Case{"upstream:linear", "QS1020", ""},
           Case{"rtn:bit=4", "QS1021", "bit"},
           Case{"upstream:gpu,group=64", "QS1021", "group"},
           Case{"rtn:bits=4,bits=3", "QS1005", "bits"},
           Case{"rtn:bits=1", "QS1042", "bits"},
           Case{"rtn:bits=9", "QS1042", "bits"},
           Case{"rtn:bits=4x", "QS1042", "bits"},
           Case{"rtn:group=0", "QS1043", "group"},
           Case{"rtn:group=-2", "QS1043", "group"},
           Case{"rtn:group=64,gran=tensor", "QS1043", "group"},
           Case{"rtn:group=-1,gran=group", "QS1043", "group"},
           Case{"rtn:sym=2", "QS1004", "sym"},
           Case{"rtn:sym=0,grid=absmax", "QS1004", "grid"},
           Case{"rtn:grid=hqq", "QS1004", "grid"},
           Case{"rtn:arith=bf16", "QS1004", "arith"},
           Case{"rtn:scope=liner", "QS1004", "scope"},
           Case{"rtn:bits=", "QS1004", "bits"},
           Case{"rtn:replicate=-1", "QS1004", "replicate"},
           Case{"rtn:replicate=1x", "QS1004", "replicate"},
           Case{"rtn:replicate=128", "QS1004", "replicate"},
           Case{"rtn:group=100,replicate=64", "QS1004", "replicate"},
           Case{"rtn:group=1,replicate=1", "QS1004", "replicate"},
           Case{"rtn:gran=tensor,replicate=1", "QS1004", "replicate"},
           Case{"rtn:group=-1,replicate=1", "QS1004", "replicate"},
           Case{"hqq:axis=0,replicate=1", "QS1004", "replicate"},
           Case{"nf4:replicate=64", "QS1004", "replicate"},
           Case{"gptq:replicate=1", "QS1004", "replicate"},
           Case{"awq:replicate=1", "QS1004", "replicate"},
           Case{"upstream:gpu,replicate=1", "QS1021", "replicate"},
           Case{"nf4:bits=4", "QS1021", "bits"},
           Case{"nf4:group=96", "QS1043", "group"},
           Case{"nf4:group=32", "QS1043", "group"},
           Case{"nf4:double_quant=yes", "QS1004", "double_quant"},
           Case{"hqq:bits=1", "QS1042", "bits"},
           Case{"hqq:group=20", "QS1043", "group"},
           Case{"hqq:group=0", "QS1043", "group"},
           Case{"hqq:axis=2", "QS1004", "axis"},
           Case{"hqq:round_zero=2", "QS1004", "round_zero"},
           Case{"hqq:sym=1", "QS1021", "sym"},
           Case{"gptq:bits=5", "QS1042", "bits"},
           Case{"gptq:group=0", "QS1043", "group"},
           Case{"gptq:sym=2", "QS1004", "sym"},
           Case{"gptq:grid=awq", "QS1021", "grid"},
           Case{"gptq:damp=1.5", "QS1004", "damp"},
           Case{"gptq:damp=nan", "QS1004", "damp"},
           Case{"gptq:calib=exactly", "QS1004", "calib"},
           Case{"gptq:calib=exact,path=00000000000000ab", "QS1021", "path"},
           Case{"gptq:calib=none", "QS1004", "calib"},
           Case{"gptq:texts=12", "QS1004", "texts"},
           Case{"gptq:texts=0000000000000000", "QS1004", "texts"},
           Case{"gptq:texts=0123456789ABCDEF", "QS1004", "texts"},
           Case{"gptq:scope=gpu", "QS1004", "scope"},
           Case{"awq:damp=0.1", "QS1021", "damp"},
           Case{"awq:bits=9", "QS1042", "bits"},
           Case{"awq:scope=gpu", "QS1004", "scope"},
       }) {
    SCOPED_TRACE(c.text);
    const auto quantizer = ParseQuantizer(c.text);
    EXPECT_EQ(CodeOf(quantizer), c.code);
    EXPECT_EQ(FieldOf(quantizer), c.field);
  }
}

TEST(ParseQuantizer, SuggestsWhatWasMeant) {
  EXPECT_EQ(HintOf(ParseQuantizer("rnt:bits=4")), "Did you mean \"rtn\"?");
  EXPECT_EQ(HintOf(ParseQuantizer("rtn:gruop=64")), "Did you mean \"group\"?");
  EXPECT_EQ(HintOf(ParseQuantizer("rtn:scope=liner")),
            "Did you mean \"linear\"?");
}

TEST(CalibrationTexts, FollowFromEachDocumentAndTheirOrder) {
  const Digest a = Digest::Of("a");
  const Digest b = Digest::Of("b");
  EXPECT_EQ(
      CalibrationDigest(std::vector<Digest>{a, b}),
      Digest::Of("qsweep-calibration 1\n" + a.hex() + "\n" + b.hex() + "\n"));
  EXPECT_EQ(ShortDigestText(CalibrationTexts(std::vector<Digest>{a, b})),
            CalibrationDigest(std::vector<Digest>{a, b}).hex().substr(0, 16));
  EXPECT_NE(CalibrationTexts(std::vector<Digest>{a, b}),
            CalibrationTexts(std::vector<Digest>{b, a}));
}

TEST(Scheme, CountsScalesAndZerosInEffectiveBits) {
  const auto bits = [](const char* text, int64_t rows, int64_t columns) {
    return ParseQuantizer(text)->scheme.EffectiveBits(rows, columns);
  };
  // 4 + (16 + 4) / 128: the packed GPTQ format.
  EXPECT_DOUBLE_EQ(bits("rtn:sym=0,scale=fp16", 8, 256), 4.15625);
  EXPECT_DOUBLE_EQ(bits("rtn:group=64", 8, 128), 4.5);
  EXPECT_DOUBLE_EQ(bits("rtn:group=64", 8, 65), 4 + 2 * 32 / 65.0);
  EXPECT_DOUBLE_EQ(bits("rtn:gran=channel", 8, 64), 4.5);
  EXPECT_DOUBLE_EQ(bits("rtn:gran=tensor", 8, 64), 4 + 32 / 512.0);
  EXPECT_DOUBLE_EQ(bits("nf4", 1024, 1024), 4.5);
  EXPECT_NEAR(bits("nf4:double_quant=1", 1024, 1024), 4.127, 5e-4);
  EXPECT_DOUBLE_EQ(bits("hqq", 1024, 1024), 4.5);
  EXPECT_DOUBLE_EQ(bits("gptq:sym=0,scale=fp16", 8, 256), 4.15625);
}

}  // namespace
}  // namespace qsweep
