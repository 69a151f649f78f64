#include "common/job/canonical_spelling.h"

#include <string>

#include "gtest/gtest.h"

#include "tests/support/model_descriptions.h"

namespace qsweep {
namespace {

Spelling Canonical(const ModelDescription& model, const std::string& quantizer,
                   const std::string& layer_set) {
  const auto made =
      ParseConfiguration(model, quantizer, layer_set, Compute::kFp32);
  EXPECT_EQ(made.status(), absl::OkStatus()) << quantizer << " " << layer_set;
  const Spelling spelling = CanonicalSpelling(model, *made);
  const auto again = ParseConfiguration(model, spelling.quantizer,
                                        spelling.layer_set, Compute::kFp32);
  EXPECT_EQ(again.status(), absl::OkStatus()) << spelling.layer_set;
  EXPECT_EQ(again->digest, made->digest) << quantizer << " " << layer_set;
  return spelling;
}

TEST(CanonicalSpelling, IsTheSame_HoweverTheConfigurationIsWritten) {
  const ModelDescription model = testing::TinyLlamaDescription(4);
  struct Case {
    const char* quantizer;
    const char* layer_set;
    Spelling want;
  };
  for (const Case& c : {
           Case{"rtn", "none", {"rtn:bits=4,group=128", "none"}},
           Case{"rtn", "norm+embed", {"rtn:bits=4,group=128", "none"}},
           Case{"rtn", "L0-3:int8", {"rtn:bits=8,group=128", "none"}},
           Case{"rtn:bits=8", "none", {"rtn:bits=8,group=128", "none"}},
           Case{"rtn", "L0-3", {"fp", "all"}},
           Case{"rtn", "L2+L0+L1", {"rtn:bits=4,group=128", "L0-2"}},
           Case{"rtn", "attn@L2+mlp@L2", {"rtn:bits=4,group=128", "L2"}},
           Case{"rtn", "q@L2", {"rtn:bits=4,group=128", "q@L2"}},
           Case{"rtn", "attn", {"rtn:bits=4,group=128", "attn"}},
           Case{"rtn:bits=8",
                "L2+L3:int4",
                {"rtn:bits=8,group=128", "L2+L3:int4"}},
           Case{"rtn:bits=4",
                "L2+L0-1:int8",
                {"rtn:bits=8,group=128", "L2+L3:int4"}},
           Case{"gptq:calib=exact,texts=0123456789abcdef",
                "L2+L0:int8",
                {"gptq:bits=4,group=128,calib=exact,texts=0123456789abcdef",
                 "L2+L0:int8"}},
           Case{"rtn", "top5%+L0-3:int8", {"rtn:bits=8,group=128", "top5%"}},
           Case{"rtn", "top5%+norm+L2", {"rtn:bits=4,group=128", "L2+top5%"}},
           Case{"rtn", "top5%+L0-3", {"fp", "all"}},
           Case{"checkpoint:path=/c,digest=0123456789abcdef,bits=4.5",
                "L2+top5%+L1",
                {"checkpoint:digest=0123456789abcdef,bits=4.5", "L1-2+top5%"}},
           Case{"checkpoint:path=/c,digest=0123456789abcdef,bits=4.5",
                "embed+norm+head",
                {"checkpoint:digest=0123456789abcdef,bits=4.5",
                 "norm@L0-3+embed+norm.final"}},
           Case{"upstream:gpu", "L1", {"upstream:gpu", "L1"}},
           // The embedding is the tied head, so linear weights are left.
           Case{"upstream:gpu", "L1+embed", {"rtn:bits=4,gran=tensor", "L1"}},
           Case{"upstream:p5-weights", "norm", {"upstream:gpu", "none"}},
       }) {
    const Spelling got = Canonical(model, c.quantizer, c.layer_set);
    EXPECT_EQ(got.quantizer, c.want.quantizer)
        << c.quantizer << " " << c.layer_set;
    EXPECT_EQ(got.layer_set, c.want.layer_set)
        << c.quantizer << " " << c.layer_set;
  }
}

TEST(CanonicalSpelling, ParsesBackToTheSameDigest_OnEveryFamily) {
  for (const ModelDescription& model :
       {testing::Gpt2Description(), testing::Opt125mDescription()}) {
    for (const char* quantizer :
         {"rtn", "upstream:p5-all", "upstream:gpu", "upstream:fairness-cli"}) {
      for (const char* layer_set :
           {"none", "L0", "bias", "attn@L1-2+L5", "embed.pos", "norm",
            "mlp:int8", "even", "L0+top2.5%"}) {
        Canonical(model, quantizer, layer_set);
      }
    }
  }
}

}  // namespace
}  // namespace qsweep
