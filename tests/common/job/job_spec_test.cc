#include "common/job/job_spec.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "common/job/spec_tree.h"
#include "tests/support/damage.h"
#include "tests/support/error_matchers.h"

namespace qsweep {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using testing::CodeOf;
using ::testing::ElementsAre;
using testing::FieldOf;
using ::testing::HasSubstr;
using testing::HintOf;

constexpr char kFull[] = R"(# every field
apiVersion: qctl/v1
kind: LayerSweep
name: low-resource
labels: {paper: acl27, "run 1": "yes"}
model: {path: /models/smollm2}
quantizers: ["rtn:bits=4,group=128", upstream:gpu]
layerSets: [none, {protect: each}, {protect: [L0, L0+L27]}, {quantize: each}]
layers: [0-3, 7]
corpus: udhr
languages: [eng, swh]
reference: eng
evals: [hf-text, {eval: aligned, samples: 12, maxTokens: 512}]
policy: {priority: -5, maxRetries: 4, maxFails: 20, reuse: never, compute: bf16}
seed: 18446744073709551615
)";

constexpr char kSmall[] = R"(apiVersion: qctl/v1
kind: LayerSweep
model: /models/smollm2
quantizers: [rtn]
corpus: udhr
)";

std::string SmallWith(const std::string& lines) {
  return absl::StrCat(kSmall, lines, "\n");
}

TEST(ParseJobSpec, ReadsEveryField) {
  const auto spec = ParseJobSpec(kFull);
  QSWEEP_ASSERT_OK(spec);
  QSWEEP_EXPECT_OK(ValidateJobSpec(*spec));
  EXPECT_EQ(spec->kind(), v1::JOB_KIND_LAYER_SWEEP);
  EXPECT_EQ(spec->name(), "low-resource");
  EXPECT_EQ(spec->labels().at("run 1"), "yes");
  EXPECT_EQ(spec->models(0).path(), "/models/smollm2");
  EXPECT_THAT(spec->quantizers(),
              ElementsAre("rtn:bits=4,group=128", "upstream:gpu"));
  ASSERT_EQ(spec->layer_sets_size(), 5);
  EXPECT_EQ(spec->layer_sets(0).literal(), "none");
  EXPECT_EQ(spec->layer_sets(1).protect(), "each");
  EXPECT_EQ(spec->layer_sets(3).literal(), "L0+L27");
  EXPECT_EQ(spec->layer_sets(4).quantize(), "each");
  EXPECT_EQ(spec->layers(), "0-3,7");
  EXPECT_THAT(spec->languages(), ElementsAre("eng", "swh"));
  EXPECT_EQ(spec->evals(0).eval(), "hf-text");
  EXPECT_EQ(spec->evals(1).samples(), 12);
  EXPECT_EQ(spec->evals(1).max_tokens(), 512);
  EXPECT_EQ(spec->policy().priority(), -5);
  EXPECT_EQ(spec->policy().reuse(), v1::REUSE_NEVER);
  EXPECT_EQ(spec->compute(), v1::COMPUTE_BF16);
  EXPECT_EQ(spec->seed(), 18446744073709551615ULL);
}

TEST(ParseJobSpec, FillsDefaults) {
  const auto spec = ParseJobSpec(kSmall);
  QSWEEP_ASSERT_OK(spec);
  QSWEEP_EXPECT_OK(ValidateJobSpec(*spec));
  EXPECT_EQ(spec->layers(), "all");
  EXPECT_EQ(spec->evals(0).eval(), "aligned");
  EXPECT_EQ(spec->layer_sets(0).protect(), "each");
  EXPECT_EQ(spec->compute(), v1::COMPUTE_FP32);
  EXPECT_EQ(spec->policy().reuse(), v1::REUSE_AUTO);
}

TEST(ParseJobSpec, ReadsJson) {
  const auto spec = ParseJobSpec(R"({"apiVersion": "qctl/v1",
    "kind": "CrossModel", "models": [{"path": "/a"}, "/b"],
    "quantizers": ["rtn"], "layerSets": ["none", "L0+L75%+L-1"],
    "corpus": "udhr", "seed": 3})");
  QSWEEP_ASSERT_OK(spec);
  QSWEEP_EXPECT_OK(ValidateJobSpec(*spec));
  EXPECT_EQ(spec->models(1).path(), "/b");
}

TEST(ParseJobSpec, NamesFieldAndPlace_WhenAFieldIsUnknown) {
  const auto spec = ParseJobSpec(SmallWith("langauges: [eng]"));
  EXPECT_EQ(CodeOf(spec), "QS1001");
  EXPECT_EQ(FieldOf(spec), "langauges");
  EXPECT_EQ(HintOf(spec), "Did you mean \"languages\"?");
  EXPECT_THAT(std::string(spec.status().message()), HasSubstr("at 6:1"));

  const auto nested = ParseJobSpec(SmallWith("policy: {retries: 3}"));
  EXPECT_EQ(CodeOf(nested), "QS1001");
  EXPECT_EQ(FieldOf(nested), "policy.retries");
  EXPECT_THAT(std::string(nested.status().message()), HasSubstr("at 6:10"));
}

TEST(ParseJobSpec, RefusesWrongShapes) {
  struct Case {
    const char* lines;
    const char* code;
    const char* field;
  };
  for (const Case& c : {
           Case{"corpus: b", "QS1005", "corpus"},
           Case{"policy: {priority: 1, priority: 2}", "QS1005", "priority"},
           Case{"models: [/a]", "QS1005", "models"},
           Case{"languages: eng", "QS1004", "languages"},
           Case{"languages: [[eng]]", "QS1004", "languages[0]"},
           Case{"replicates: 0", "QS1004", "replicates"},
           Case{"replicates: -1", "QS1004", "replicates"},
           Case{"replicates: some", "QS1004", "replicates"},
           Case{"seed: -1", "QS1004", "seed"},
           Case{"seed: 1.5", "QS1004", "seed"},
           Case{"policy: {priority: high}", "QS1004", "policy.priority"},
           Case{"policy: {priority: 99999999999}", "QS1004", "policy.priority"},
           Case{"policy: {reuse: sometimes}", "QS1004", "policy.reuse"},
           Case{"policy: {compute: fp64}", "QS1004", "policy.compute"},
           Case{"policy: 5", "QS1004", "policy"},
           Case{"layerSets: {protect: each}", "QS1004", "layerSets"},
           Case{"layerSets: [{protect: each, quantize: each}]", "QS1004",
                "layerSets[0]"},
           Case{"layerSets: [{protects: each}]", "QS1001",
                "layerSets[0].protects"},
           Case{"evals: [{eval: aligned, sample: 3}]", "QS1001",
                "evals[0].sample"},
           Case{"evals: [{samples: many}]", "QS1004", "evals[0].samples"},
           Case{"labels: [a]", "QS1004", "labels"},
           Case{"name: ", "QS1004", "name"},
           Case{"name: [", "QS1002", ""},
       }) {
    SCOPED_TRACE(c.lines);
    const auto spec = ParseJobSpec(SmallWith(c.lines));
    EXPECT_EQ(CodeOf(spec), c.code);
    EXPECT_EQ(FieldOf(spec), c.field);
  }
  EXPECT_EQ(CodeOf(ParseJobSpec("kind: LayerSweep")), "QS1003");
  EXPECT_EQ(FieldOf(ParseJobSpec("kind: LayerSweep")), "apiVersion");
  EXPECT_EQ(FieldOf(ParseJobSpec("apiVersion: qctl/v1")), "kind");
  EXPECT_EQ(CodeOf(ParseJobSpec("apiVersion: qctl/v2\nkind: Configs")),
            "QS1004");
  EXPECT_EQ(HintOf(ParseJobSpec("apiVersion: qctl/v1\nkind: LayerSwep")),
            "Did you mean \"LayerSweep\"?");
  EXPECT_EQ(CodeOf(ParseJobSpec("[]")), "QS1004");
}

TEST(ParseSpecTree, RefusesWhatCostsTooMuch) {
  EXPECT_EQ(CodeOf(ParseSpecTree("")), "QS1002");
  EXPECT_EQ(CodeOf(ParseSpecTree(std::string((1 << 20) + 1, ' '))), "QS1002");
  EXPECT_EQ(CodeOf(ParseSpecTree("a: 1\n---\nb: 2\n")), "QS1002");
  EXPECT_EQ(CodeOf(ParseSpecTree("a: \xff")), "QS1002");
  EXPECT_EQ(CodeOf(ParseSpecTree("a: &x [*x]")), "QS1002");
  EXPECT_EQ(CodeOf(ParseSpecTree("a: *nowhere")), "QS1002");
  EXPECT_EQ(CodeOf(ParseSpecTree(std::string(33, '[') + std::string(33, ']'))),
            "QS1002");
  EXPECT_EQ(
      CodeOf(ParseSpecTree(std::string(5000, '[') + std::string(5000, ']'))),
      "QS1002");
  QSWEEP_EXPECT_OK(ParseSpecTree(std::string(32, '[') + std::string(32, ']')));
}

TEST(ParseSpecTree, StopsAliasBombs) {
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string previous = absl::StrCat("*a", i - 1);
    absl::StrAppend(&bomb, "a", i, ": &a", i, " [", previous);
    for (int k = 0; k < 9; ++k) {
      absl::StrAppend(&bomb, ",", previous);
    }
    absl::StrAppend(&bomb, "]\n");
  }
  const auto tree = ParseSpecTree(bomb);
  EXPECT_EQ(CodeOf(tree), "QS1002");
  EXPECT_THAT(std::string(tree.status().message()),
              HasSubstr("aliases counted"));
  // Deep without being large: each alias nests the one before.
  std::string ladder = "a0: &a0 [x]\n";
  for (int i = 1; i < 40; ++i) {
    absl::StrAppend(&ladder, "a", i, ": &a", i, " [*a", i - 1, "]\n");
  }
  EXPECT_EQ(CodeOf(ParseSpecTree(ladder)), "QS1002");
}

TEST(ParseSpecTree, CopiesAliases) {
  const auto tree = ParseSpecTree("a: &x [1, 2]\nb: *x\n");
  QSWEEP_ASSERT_OK(tree);
  EXPECT_EQ(tree->Find("b")->items[1].scalar, "2");
}

TEST(ParseJobSpec, AppliesOverrides) {
  const std::vector<std::string> overrides = {"seed=7",
                                              "policy.priority=3",
                                              "evals[0].eval=hf-text",
                                              "evals[0].samples=8",
                                              "languages=[eng, deu_1996]",
                                              "labels.paper=acl27",
                                              "quantizers[1]=upstream:gpu"};
  const auto spec = ParseJobSpec(kSmall, overrides);
  QSWEEP_ASSERT_OK(spec);
  EXPECT_EQ(spec->seed(), 7);
  EXPECT_EQ(spec->policy().priority(), 3);
  EXPECT_EQ(spec->evals(0).samples(), 8);
  EXPECT_THAT(spec->languages(), ElementsAre("eng", "deu_1996"));
  EXPECT_EQ(spec->labels().at("paper"), "acl27");
  EXPECT_THAT(spec->quantizers(), ElementsAre("rtn", "upstream:gpu"));
}

TEST(ParseJobSpec, RefusesBadOverrides) {
  const auto code = [](const std::string& text) {
    const std::string overrides[] = {text};
    return CodeOf(ParseJobSpec(kSmall, overrides));
  };
  EXPECT_EQ(code("seed"), "QS1002");
  EXPECT_EQ(code("seed=[1"), "QS1002");
  EXPECT_EQ(code("seed="), "QS1002");
  EXPECT_EQ(code("sed=1"), "QS1001");
  EXPECT_EQ(code("corpus.name=x"), "QS1004");
  EXPECT_EQ(code("quantizers[2]=rtn"), "QS1004");
  EXPECT_EQ(code("quantizers[x]=rtn"), "QS1004");
  EXPECT_EQ(code("quantizers[0=rtn"), "QS1004");
  EXPECT_EQ(code("=1"), "QS1004");
}

TEST(ValidateJobSpec, NamesTheField) {
  struct Case {
    const char* lines;
    const char* code;
    const char* field;
  };
  for (const Case& c : {
           Case{"layerSets: [none, L0++L1]", "QS1010", "layerSets[1]"},
           Case{"layerSets: [{protect: quads}]", "QS1010", "layerSets[0]"},
           Case{"layerSets: [{quantize: pairs}]", "QS1010", "layerSets[0]"},
           Case{"layerSets: [atn@L0]", "QS1012", "layerSets[0]"},
           Case{"layers: 5-2", "QS1010", "layers"},
           Case{"layers: 0-999999999", "QS1011", "layers"},
           Case{"languages: [eng, eng]", "QS1004", "languages[1]"},
           Case{"evals: [aligned, rolling]", "QS1052", "evals[1]"},
           Case{"evals: [aligned, aligned]", "QS1004", "evals[1]"},
           Case{"evals: [{eval: aligned, maxTokens: 1}]", "QS1004", "evals[0]"},
           Case{"policy: {priority: 5000}", "QS1004", "policy.priority"},
           Case{"name: \"12\"", "QS1004", "name"},
           Case{"replicates: 101", "QS1004", "replicates"},
           Case{"name: last", "QS1004", "name"},
           Case{"name: \"a\\u0007\"", "QS1004", "name"},
       }) {
    SCOPED_TRACE(c.lines);
    const auto spec = ParseJobSpec(SmallWith(c.lines));
    QSWEEP_ASSERT_OK(spec);
    EXPECT_EQ(CodeOf(ValidateJobSpec(*spec)), c.code);
    EXPECT_EQ(FieldOf(ValidateJobSpec(*spec)), c.field);
  }
  const auto validate = [](const char* from, const char* to) {
    return ValidateJobSpec(
        *ParseJobSpec(absl::StrReplaceAll(kSmall, {{from, to}})));
  };
  EXPECT_EQ(FieldOf(validate("[rtn]", "[rtn, qat]")), "quantizers[1]");
  EXPECT_EQ(CodeOf(validate("[rtn]", "[rtn, qat]")), "QS1020");
  EXPECT_EQ(CodeOf(validate("[rtn]", "[]")), "QS1003");
  EXPECT_EQ(CodeOf(validate("[rtn]", "[rtn, 'checkpoint:path=./m']")),
            "QS1004");
  EXPECT_EQ(FieldOf(validate("[rtn]", "[rtn, 'checkpoint:path=./m']")),
            "quantizers[1]");
  EXPECT_EQ(CodeOf(validate("[rtn]",
                            "['checkpoint:digest=0123456789abcdef,bits=4']")),
            "QS1004");
  QSWEEP_EXPECT_OK(validate("[rtn]", "['checkpoint:path=/m']"));
  EXPECT_EQ(CodeOf(validate("/models/", "org/")), "QS1004");
  EXPECT_EQ(CodeOf(validate("/models/", "./")), "QS1004");
  EXPECT_EQ(CodeOf(validate("LayerSweep", "Mmlu")), "QS1053");
  EXPECT_EQ(FieldOf(validate("LayerSweep", "Configs")), "layerSets");
  EXPECT_EQ(CodeOf(validate("corpus: udhr", "seed: 1")), "QS1003");
  EXPECT_EQ(CodeOf(ValidateJobSpec(v1::JobSpec())), "QS1003");
}

TEST(ParseJobSpec, ReadsReplicates_WhichEarlierSpecsDigestsLeaveOut) {
  const auto spec = ParseJobSpec(SmallWith("replicates: 4"));
  QSWEEP_ASSERT_OK(spec);
  QSWEEP_EXPECT_OK(ValidateJobSpec(*spec));
  EXPECT_EQ(spec->replicates(), 4u);
  const std::string yaml = FormatJobSpecYaml(*spec);
  EXPECT_THAT(yaml, HasSubstr("\nreplicates: 4\n"));
  EXPECT_TRUE(MessageDifferencer::Equals(*ParseJobSpec(yaml), *spec));
  const auto one = ParseJobSpec(SmallWith("replicates: 1"));
  EXPECT_EQ(JobSpecDigest(*one), JobSpecDigest(*ParseJobSpec(kSmall)));
  EXPECT_NE(JobSpecDigest(*spec), JobSpecDigest(*one));
}

TEST(ValidateJobSpec, WantsSoManyReplicatesOfEachQuantizer) {
  const auto validate = [](absl::string_view quantizers) {
    const auto spec = ParseJobSpec(
        absl::StrCat(absl::StrReplaceAll(kSmall, {{"[rtn]", quantizers}}),
                     "replicates: 65\n"));
    EXPECT_TRUE(spec.ok()) << spec.status();
    return ValidateJobSpec(*spec);
  };
  QSWEEP_EXPECT_OK(validate("[rtn, \"nf4:group=128\"]"));
  for (const char* quantizers :
       {"[rtn, nf4]", "[\"upstream:gpu\"]", "[\"rtn:group=-1\"]", "[gptq]"}) {
    EXPECT_EQ(CodeOf(validate(quantizers)), "QS1004") << quantizers;
    EXPECT_EQ(FieldOf(validate(quantizers)), "replicates") << quantizers;
  }
  EXPECT_THAT(std::string(validate("[rtn, nf4]").message()),
              HasSubstr("65 replicates of nf4: "));
  EXPECT_EQ(FieldOf(validate("[rtn, \"rtn:group=64,replicate=2\"]")),
            "quantizers[1]");
}

TEST(ParseJobSpec, ReadsCalibration) {
  const std::string small =
      absl::StrReplaceAll(kSmall, {{"[rtn]", "[rtn, \"gptq:group=64\"]"}});
  const auto spec = ParseJobSpec(
      small +
      "calibration: {corpus: c4, languages: [eng, swh], samples: 128, seeds: "
      "[3, 18446744073709551615], mode: fp}\n");
  QSWEEP_ASSERT_OK(spec);
  QSWEEP_EXPECT_OK(ValidateJobSpec(*spec));
  const v1::CalibrationRequest& calibration = spec->calibration();
  EXPECT_EQ(calibration.corpus(), "c4");
  EXPECT_THAT(calibration.languages(), ElementsAre("eng", "swh"));
  EXPECT_EQ(calibration.samples(), 128u);
  EXPECT_THAT(calibration.seeds(), ElementsAre(3u, 18446744073709551615u));
  const std::string yaml = FormatJobSpecYaml(*spec);
  EXPECT_THAT(yaml, HasSubstr("calibration: {corpus: c4, languages: [eng, swh],"
                              " samples: 128, seeds: [3, 18446744073709551615],"
                              " mode: fp}\n"));
  EXPECT_TRUE(MessageDifferencer::Equals(*ParseJobSpec(yaml), *spec));

  const auto brief = ParseJobSpec(small + "calibration: c4\n");
  QSWEEP_ASSERT_OK(brief);
  QSWEEP_EXPECT_OK(ValidateJobSpec(*brief));
  EXPECT_EQ(brief->calibration().mode(), "");
  EXPECT_THAT(brief->calibration().seeds(), ElementsAre(0u));
}

TEST(JobSpecDigest, IsTheSame_WhateverCorpusTheNameOfACalibrationMeans) {
  v1::JobSpec spec = *ParseJobSpec(SmallWith("calibration: c4"));
  const Digest before = JobSpecDigest(spec);
  spec.mutable_calibration()->set_corpus_digest(std::string(32, 'x'));
  EXPECT_EQ(JobSpecDigest(spec), before);
}

TEST(ValidateJobSpec, WantsACalibrationJustWhereAQuantizerIsCalibrated) {
  const auto validate = [](absl::string_view quantizer,
                           const std::string& calibration) {
    const auto spec = ParseJobSpec(absl::StrCat(
        absl::StrReplaceAll(kSmall, {{"[rtn]", quantizer}}), calibration));
    EXPECT_TRUE(spec.ok()) << spec.status();
    return ValidateJobSpec(*spec);
  };
  EXPECT_EQ(CodeOf(validate("[gptq]", "")), "QS1003");
  EXPECT_EQ(FieldOf(validate("[gptq]", "")), "calibration");
  EXPECT_EQ(FieldOf(validate("[gptq]", "calibration: {samples: 1}\n")),
            "calibration.corpus");
  EXPECT_EQ(CodeOf(validate("[rtn]", "calibration: c4\n")), "QS1004");
  EXPECT_EQ(FieldOf(validate("[rtn]", "calibration: c4\n")), "calibration");
  QSWEEP_EXPECT_OK(
      validate("[gptq]", "calibration: {corpus: c4, mode: exact}\n"));
  const absl::Status best =
      validate("[gptq]", "calibration: {corpus: c4, mode: best}\n");
  EXPECT_EQ(FieldOf(best), "calibration.mode");
  EXPECT_EQ(CodeOf(best), "QS1004");
}

TEST(FormatJobSpecYaml, ParsesBackToTheSameSpec) {
  for (const std::string& text :
       {std::string(kFull), std::string(kSmall),
        SmallWith("name: \"a: \\\"b\\\" \\\\ é\"\nlabels: {x: 'no', y: '12'}"),
        SmallWith("layerSets: [attn@L0-3, L75%, '-x']\nlanguages: ['no']")}) {
    const auto spec = ParseJobSpec(text);
    QSWEEP_ASSERT_OK(spec);
    const std::string yaml = FormatJobSpecYaml(*spec);
    const auto again = ParseJobSpec(yaml);
    QSWEEP_ASSERT_OK(again);
    EXPECT_TRUE(MessageDifferencer::Equals(*again, *spec)) << yaml;
    EXPECT_EQ(FormatJobSpecYaml(*again), yaml);
  }
}

// Whatever is read can be written, and means the same then.
TEST(ParseJobSpec, ReadsOrRefusesWithACode_WhateverTheText) {
  Random random(3);
  int num_read = 0;
  int num_refused = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::string text =
        testing::Damaged(round % 2 == 0 ? kFull : kSmall, random);
    SCOPED_TRACE(text);
    const auto spec = ParseJobSpec(text);
    if (!spec.ok()) {
      ASSERT_THAT(CodeOf(spec), HasSubstr("QS1"));
      ++num_refused;
      continue;
    }
    const std::string yaml = FormatJobSpecYaml(*spec);
    const auto again = ParseJobSpec(yaml);
    ASSERT_EQ(again.status(), absl::OkStatus()) << yaml;
    ASSERT_TRUE(MessageDifferencer::Equals(*again, *spec)) << yaml;
    const absl::Status valid = ValidateJobSpec(*spec);
    ASSERT_TRUE(valid.ok() || !CodeOf(valid).empty()) << valid;
    ++num_read;
  }
  EXPECT_GT(num_read, 100);
  EXPECT_GT(num_refused, 100);
}

// The identity of a submit: a change here breaks repeated submits.
TEST(FormatJobSpecYaml, EqualsTheGoldenText) {
  EXPECT_EQ(FormatJobSpecYaml(*ParseJobSpec(kFull)), R"(apiVersion: qctl/v1
kind: LayerSweep
name: low-resource
labels:
  paper: acl27
  "run 1": "yes"
model: {path: "/models/smollm2"}
quantizers:
  - "rtn:bits=4,group=128"
  - "upstream:gpu"
layerSets:
  - none
  - {protect: each}
  - L0
  - L0+L27
  - {quantize: each}
layers: "0-3,7"
corpus: udhr
languages:
  - eng
  - swh
reference: eng
evals:
  - {eval: hf-text}
  - {eval: aligned, samples: 12, maxTokens: 512}
policy: {priority: -5, maxRetries: 4, maxFails: 20, reuse: never, compute: bf16}
seed: 18446744073709551615
)");
}

TEST(JobSpecDigest, IsOfTheMeaningWithDefaults) {
  v1::JobSpec spec = *ParseJobSpec(kSmall);
  const Digest digest = JobSpecDigest(spec);
  spec.clear_evals();
  spec.clear_layers();
  spec.set_compute(v1::COMPUTE_UNSPECIFIED);
  EXPECT_EQ(JobSpecDigest(spec), digest);
  spec.set_seed(1);
  EXPECT_NE(JobSpecDigest(spec), digest);
}

TEST(ParseModelReference, TellsPathsFromHubIds) {
  EXPECT_EQ(ParseModelReference("/a/b").path(), "/a/b");
  EXPECT_EQ(ParseModelReference("./m").path(), "./m");
  EXPECT_EQ(ParseModelReference("m.gguf").path(), "m.gguf");
  EXPECT_EQ(ParseModelReference("org/name").id(), "org/name");
}

}  // namespace
}  // namespace qsweep
