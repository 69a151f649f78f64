#include "common/job/expand.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/base/random.h"
#include "common/job/corpus.h"
#include "common/job/job_spec.h"
#include "tests/support/error_matchers.h"
#include "tests/support/model_descriptions.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using ::testing::ElementsAre;
using testing::FieldOf;
using ::testing::IsEmpty;
using testing::TinyLlamaDescription;

// language -> ids; texts are made of both, so that digests differ.
v1::Corpus MakeTestCorpus(
    const std::map<std::string, std::vector<std::string>>& ids) {
  std::vector<LanguageText> languages;
  for (const auto& [code, documents] : ids) {
    LanguageText& language = languages.emplace_back();
    language.corpus.set_language(code);
    for (const std::string& id : documents) {
      v1::Document& document = *language.corpus.add_documents();
      document.set_id(id);
      document.set_text(absl::StrCat(code, " ", id));
    }
  }
  return MakeCorpus("test", std::move(languages), {})->corpus;
}

std::vector<std::string> Numbers(int count) {
  std::vector<std::string> ids;
  for (int i = 0; i < count; ++i) {
    ids.push_back(absl::StrCat(i));
  }
  return ids;
}

v1::JobSpec SweepSpec() {
  v1::JobSpec spec;
  spec.set_kind(v1::JOB_KIND_LAYER_SWEEP);
  spec.add_models()->set_path("/m");
  spec.add_quantizers("rtn:group=4");
  spec.set_corpus("test");
  FillJobSpecDefaults(spec);
  return spec;
}

absl::StatusOr<Expansion> Expand(const v1::JobSpec& spec,
                                 const ModelDescription& model,
                                 const v1::Corpus& corpus) {
  const ModelDescription models[] = {model};
  return ExpandJob(spec, models, corpus);
}

std::vector<std::string> LayerSets(const Expansion& expansion, size_t model) {
  std::vector<std::string> sets;
  for (const ExpandedConfiguration& c :
       expansion.models[model].configurations) {
    sets.push_back(c.configuration.layer_set_text);
  }
  return sets;
}

std::vector<std::string> Ids(const ExpandedEvaluation& evaluation,
                             int language) {
  std::vector<std::string> ids;
  for (const ExpandedDocument& document : evaluation.documents) {
    if (document.language == language) {
      ids.push_back(document.id);
    }
  }
  return ids;
}

const v1::Corpus& TwoLanguages() {
  static const v1::Corpus& corpus = *new v1::Corpus(
      MakeTestCorpus({{"eng", Numbers(3)}, {"swh", Numbers(3)}}));
  return corpus;
}

TEST(ExpandJob, GivesTheDemoSweepThirtyTwoConfigurations) {
  const auto expansion =
      Expand(SweepSpec(), testing::SmolLm2Description(), TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  const std::vector<std::string> sets = LayerSets(*expansion, 0);
  ASSERT_EQ(sets.size(), 32);
  EXPECT_EQ(sets[0], "all");
  EXPECT_EQ(sets[1], "none");
  EXPECT_EQ(sets[2], "L0");
  EXPECT_EQ(sets[31], "L29");
  EXPECT_TRUE(expansion->models[0].configurations[0].configuration.baseline());
  EXPECT_EQ(expansion->models[0].configurations[5].configuration.single_layer,
            3);
  EXPECT_EQ(expansion->num_configurations(), 32);
  EXPECT_EQ(expansion->num_documents(), 6);
  EXPECT_EQ(expansion->num_measurements(), 32 * 6);
  EXPECT_EQ(expansion->reference, "eng");
  EXPECT_THAT(expansion->notes, IsEmpty());
}

v1::JobSpec CalibratedSpec() {
  v1::JobSpec spec = SweepSpec();
  spec.add_quantizers("gptq:group=4");
  spec.mutable_calibration()->set_corpus("other");
  spec.mutable_calibration()->set_samples(2);
  for (const uint64_t seed : {1, 2}) {
    spec.mutable_calibration()->add_seeds(seed);
  }
  FillJobSpecDefaults(spec);
  return spec;
}

TEST(ExpandJob, DrawsEachQuantizer_AsOftenAsItIsAsked) {
  v1::JobSpec spec = SweepSpec();
  spec.add_quantizers("nf4");
  const ModelDescription model = TinyLlamaDescription(2);
  const int64_t once =
      Expand(spec, model, TwoLanguages())->num_configurations();
  EXPECT_EQ(once, 1 + 2 * 3);  // the baseline; none, L0 and L1 of each
  spec.set_replicates(3);
  const auto expansion = Expand(spec, model, TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_EQ(expansion->num_configurations(), 1 + 3 * 2 * 3);
  std::set<Digest> digests;
  std::vector<std::string> nones;
  for (const ExpandedConfiguration& c : expansion->models[0].configurations) {
    digests.insert(c.configuration.digest);
    if (c.configuration.unprotected) {
      nones.push_back(c.configuration.quantizer_text);
    }
  }
  EXPECT_EQ(digests.size(), 1u + 3 * 2 * 3);
  EXPECT_THAT(
      nones,
      ElementsAre("rtn:bits=4,group=4", "rtn:bits=4,group=4,replicate=1",
                  "rtn:bits=4,group=4,replicate=2", "nf4:group=64",
                  "nf4:group=64,replicate=1", "nf4:group=64,replicate=2"));
}

TEST(ExpandJob, TakesTheReplicateThatAQuantizerNames) {
  v1::JobSpec spec = SweepSpec();
  spec.set_quantizers(0, "rtn:group=4,replicate=3");
  const auto expansion = Expand(spec, TinyLlamaDescription(), TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_EQ(expansion->models[0].configurations[1].configuration.quantizer_text,
            "rtn:bits=4,group=4,replicate=3");
  spec.set_quantizers(0, "rtn:group=64,replicate=1");
  const auto too_long = Expand(spec, TinyLlamaDescription(), TwoLanguages());
  EXPECT_EQ(CodeOf(too_long), "QS1004");
  EXPECT_EQ(FieldOf(too_long), "quantizers[0]");
}

TEST(ExpandJob, MakesAConfigurationPerSeed_OfCalibratedQuantizers) {
  const v1::Corpus texts =
      MakeTestCorpus({{"deu", Numbers(40)}, {"fra", Numbers(40)}});
  const ModelDescription models[] = {TinyLlamaDescription(2)};
  const v1::JobSpec spec = CalibratedSpec();
  const auto expansion = ExpandJob(spec, models, TwoLanguages(), &texts);
  QSWEEP_ASSERT_OK(expansion);
  ASSERT_EQ(expansion->calibrations.size(), 2u);
  std::vector<std::string> quantizers;
  for (const ExpandedConfiguration& expanded :
       expansion->models[0].configurations) {
    quantizers.push_back(expanded.configuration.quantizer_text);
  }
  const auto with_texts = [&](size_t seed) {
    return absl::StrCat("gptq:bits=4,group=4,calib=fp,texts=",
                        ShortDigestText(expansion->calibrations[seed].texts));
  };
  const std::string rtn = "rtn:bits=4,group=4";
  EXPECT_THAT(
      quantizers,
      ElementsAre("fp", rtn, rtn, rtn, with_texts(0), with_texts(0),
                  with_texts(0), with_texts(1), with_texts(1), with_texts(1)));
  EXPECT_NE(expansion->models[0].configurations[4].configuration.digest,
            expansion->models[0].configurations[7].configuration.digest);
  const ExpandedCalibration& first = expansion->calibrations[0];
  ASSERT_EQ(first.languages.size(), 2u);
  EXPECT_EQ(first.languages[1].language, "fra");
  EXPECT_EQ(first.languages[1].artifact.bytes(),
            texts.languages(1).artifact_digest());
  v1::JobSpec other = spec;
  other.mutable_calibration()->set_mode("qpath");
  const auto sequential = ExpandJob(other, models, TwoLanguages(), &texts);
  QSWEEP_ASSERT_OK(sequential);
  EXPECT_EQ(
      sequential->models[0].configurations[4].configuration.quantizer_text,
      absl::StrCat("gptq:bits=4,group=4,calib=qpath,texts=",
                   ShortDigestText(first.texts)));
  ASSERT_EQ(first.documents.size(), 4u);  // two of each language, the same ids
  std::vector<Digest> digests;
  for (const ExpandedCalibration::Document& document : first.documents) {
    digests.push_back(document.digest);
  }
  EXPECT_EQ(CalibrationTexts(digests), first.texts);
  EXPECT_EQ(first.documents[0].language, 0);
  EXPECT_EQ(first.documents[3].language, 1);
}

TEST(ExpandJob, NotesSeedsThatChooseTheSame_AndTextsThatAreScored) {
  const ModelDescription models[] = {TinyLlamaDescription(2)};
  v1::JobSpec spec = CalibratedSpec();
  spec.mutable_calibration()->set_samples(0);
  const auto expansion =
      ExpandJob(spec, models, TwoLanguages(), &TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_EQ(expansion->calibrations.size(), 1u);
  EXPECT_THAT(expansion->notes,
              ElementsAre("calibration: 2 seeds choose 1 set of texts",
                          "calibration: 6 of 6 texts are scored, too: their "
                          "losses look better than those of other texts"));
}

TEST(ExpandJob, NotesWhatCalibratingEachConfigurationCosts) {
  const v1::Corpus texts = MakeTestCorpus({{"deu", Numbers(40)}});
  const ModelDescription models[] = {TinyLlamaDescription(3)};
  v1::JobSpec spec = SweepSpec();  // none and the single layers
  spec.set_quantizers(0, "gptq:bits=8,group=4,calib=exact");
  spec.mutable_calibration()->set_corpus("other");
  const auto expansion = ExpandJob(spec, models, TwoLanguages(), &texts);
  QSWEEP_ASSERT_OK(expansion);
  ASSERT_EQ(expansion->num_configurations(), 1 + 1 + 3);
  // Layer 0 once, layer 1 after two prefixes, layer 2 after three.
  EXPECT_THAT(expansion->notes,
              ElementsAre("calibration: exact calibrates 6 layers of "
                          "tiny-llama-3 on each worker, where fp would 3; "
                          "their codes take about 1 MiB"));
  spec.mutable_calibration()->set_mode("fp");
  EXPECT_THAT(ExpandJob(spec, models, TwoLanguages(), &texts)->notes,
              IsEmpty());
}

TEST(ExpandJob, TakesAQuantizerWithItsTexts_WhenTheyAreThoseOfASeed) {
  const v1::Corpus texts = MakeTestCorpus({{"deu", Numbers(40)}});
  const ModelDescription models[] = {TinyLlamaDescription(2)};
  v1::JobSpec spec = CalibratedSpec();
  const uint64_t second =
      ExpandJob(spec, models, TwoLanguages(), &texts)->calibrations[1].texts;
  spec.set_quantizers(
      1, absl::StrCat("gptq:group=4,texts=", ShortDigestText(second)));
  const auto expansion = ExpandJob(spec, models, TwoLanguages(), &texts);
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_EQ(expansion->models[0].configurations.size(), 1u + 3 + 3);
  spec.set_quantizers(1, "gptq:group=4,texts=0123456789abcdef");
  const auto refused = ExpandJob(spec, models, TwoLanguages(), &texts);
  EXPECT_EQ(CodeOf(refused), "QS1004");
  EXPECT_EQ(FieldOf(refused), "quantizers[1]");
}

TEST(ExpandJob, NamesTheCalibration_WhenItsLanguageIsUnknown) {
  const ModelDescription models[] = {TinyLlamaDescription(2)};
  v1::JobSpec spec = CalibratedSpec();
  spec.mutable_calibration()->add_languages("xyz");
  const auto refused = ExpandJob(spec, models, TwoLanguages(), &TwoLanguages());
  EXPECT_EQ(CodeOf(refused), "QS2101");
  EXPECT_EQ(FieldOf(refused), "calibration.languages[0]");
}

TEST(ExpandJob, FollowsPatterns) {
  v1::JobSpec spec = SweepSpec();
  spec.mutable_layer_sets(0)->set_protect("pairs");
  spec.set_layers("0,2-3");
  spec.add_layer_sets()->set_quantize("each");
  const auto expansion = Expand(spec, TinyLlamaDescription(4), TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_THAT(LayerSets(*expansion, 0),
              ElementsAre("all", "none", "L0+L2", "L0+L3", "L2-3", "L1-3",
                          "L0-1+L3", "L0-2"));
}

// Configurations of "at most m of L protected": quantization.md 5.1, plus the
// baseline.
TEST(ExpandJob, CountsAsTheTrieTable) {
  struct Case {
    int layers;
    const char* pattern;
    size_t want;
  };
  for (const Case& c :
       {Case{12, "each", 13}, Case{12, "pairs", 79 - 12},
        Case{12, "triples", 299 - 78}, Case{32, "pairs", 529 - 32}}) {
    v1::JobSpec spec = SweepSpec();
    spec.mutable_layer_sets(0)->set_protect(c.pattern);
    const auto expansion =
        Expand(spec, TinyLlamaDescription(c.layers), TwoLanguages());
    QSWEEP_ASSERT_OK(expansion);
    EXPECT_EQ(expansion->models[0].configurations.size(), c.want + 1);
  }
}

TEST(ExpandJob, MergesEqualConfigurations_AndSaysSo) {
  v1::JobSpec spec = SweepSpec();
  spec.set_kind(v1::JOB_KIND_CONFIGS);
  spec.clear_layer_sets();
  for (const char* text : {"L0+L1", "L1+L0", "bias", "none", "L0-3", "none"}) {
    spec.add_layer_sets()->set_literal(text);
  }
  const auto expansion = Expand(spec, TinyLlamaDescription(4), TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_THAT(LayerSets(*expansion, 0), ElementsAre("all", "L0-1", "none"));
  EXPECT_THAT(
      expansion->notes,
      ElementsAre(
          "L1+L0 is the same configuration as L0+L1 on tiny-llama-4",
          "bias is the same configuration as none on tiny-llama-4",
          "L0-3 protects all that is in scope on tiny-llama-4: it is the "
          "baseline"));
}

// All layers at 8 bits under bits=4 measure what "none" does under bits=8.
TEST(ExpandJob, KeepsTheNoneOfEachQuantizer_WhenAnotherWritesItFirst) {
  v1::JobSpec spec = SweepSpec();
  spec.set_kind(v1::JOB_KIND_CONFIGS);
  spec.clear_quantizers();
  spec.add_quantizers("rtn:bits=4,group=4");
  spec.add_quantizers("rtn:bits=8,group=4");
  spec.clear_layer_sets();
  for (const char* text : {"L0-3:int8", "L0-2:int8", "none"}) {
    spec.add_layer_sets()->set_literal(text);
  }
  const auto expansion = Expand(spec, TinyLlamaDescription(4), TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  std::vector<std::string> unprotected;
  for (const auto& expanded : expansion->models[0].configurations) {
    if (expanded.configuration.unprotected) {
      unprotected.push_back(
          absl::StrCat(expanded.configuration.quantizer_text.substr(0, 10), " ",
                       expanded.written_layer_set));
    }
  }
  EXPECT_THAT(unprotected, ElementsAre("rtn:bits=8 none", "rtn:bits=4 none"));
}

TEST(ExpandJob, MeasuresACheckpointOnce_UnderTwoPaths) {
  v1::JobSpec spec = SweepSpec();
  spec.set_quantizers(0, "checkpoint:path=/a,digest=0123456789abcdef,bits=4");
  spec.add_quantizers("checkpoint:path=/b,digest=0123456789abcdef,bits=4");
  const auto expansion = Expand(spec, TinyLlamaDescription(), TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  // Baseline, none, and each of two layers.
  EXPECT_EQ(expansion->num_configurations(), 4);
  EXPECT_EQ(expansion->models[0].configurations[1].configuration.quantizer_text,
            "checkpoint:path=/a,digest=0123456789abcdef,bits=4");
}

TEST(ExpandJob, MapsLayersByDepth_AcrossModels) {
  v1::JobSpec spec = SweepSpec();
  spec.set_kind(v1::JOB_KIND_CROSS_MODEL);
  spec.clear_layer_sets();
  spec.add_layer_sets()->set_literal("L0+L75%+L-1");
  spec.add_models()->set_path("/n");
  const ModelDescription models[] = {testing::SmolLm2Description(),
                                     TinyLlamaDescription(4)};
  const auto expansion = ExpandJob(spec, models, TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_THAT(LayerSets(*expansion, 0), ElementsAre("all", "L0+L22+L29"));
  EXPECT_THAT(LayerSets(*expansion, 1), ElementsAre("all", "L0+L3"));
  EXPECT_EQ(expansion->models[1].configurations[1].written_layer_set,
            "L0+L75%+L-1");
  EXPECT_NE(expansion->models[0].evaluations[0],
            expansion->models[1].evaluations[0]);
}

TEST(ExpandJob, TakesIdsOfAllLanguages_AndCountsTheDropped) {
  const v1::Corpus corpus = MakeTestCorpus(
      {{"eng", {"preamble", "1", "2", "3"}}, {"swh", {"3", "2", "preamble"}}});
  const auto expansion = Expand(SweepSpec(), TinyLlamaDescription(), corpus);
  QSWEEP_ASSERT_OK(expansion);
  // In the order of the first language, in both.
  EXPECT_THAT(Ids(expansion->evaluations[0], 0),
              ElementsAre("preamble", "2", "3"));
  EXPECT_THAT(Ids(expansion->evaluations[0], 1),
              ElementsAre("preamble", "2", "3"));
  EXPECT_EQ(expansion->evaluations[0].documents[4].digest, Digest::Of("swh 2"));
  EXPECT_THAT(expansion->notes,
              ElementsAre("evals[0]: 1 documents dropped: not in all "
                          "languages (1)"));
}

TEST(ExpandJob, TakesAllDocuments_WhenHfTextMeetsAnUnalignedCorpus) {
  const v1::Corpus corpus =
      MakeTestCorpus({{"eng", {"a", "b"}}, {"swh", {"c"}}});
  v1::JobSpec spec = SweepSpec();
  const auto aligned = Expand(spec, TinyLlamaDescription(), corpus);
  EXPECT_EQ(CodeOf(aligned), "QS2107");
  EXPECT_EQ(FieldOf(aligned), "evals[0]");

  spec.mutable_evals(0)->set_eval("hf-text");
  const auto expansion = Expand(spec, TinyLlamaDescription(), corpus);
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_EQ(expansion->evaluations[0].documents.size(), 3);
  ASSERT_EQ(expansion->notes.size(), 1);
}

TEST(ExpandJob, AddsTheReference_WhenItIsNotAmongTheLanguages) {
  v1::JobSpec spec = SweepSpec();
  spec.add_languages("swh");
  spec.set_reference("eng");
  const auto expansion = Expand(spec, TinyLlamaDescription(), TwoLanguages());
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_THAT(expansion->languages, ElementsAre(0, 1));
  EXPECT_THAT(expansion->notes,
              ElementsAre("language eng added: it is the reference"));
  spec.clear_reference();
  EXPECT_EQ(Expand(spec, TinyLlamaDescription(), TwoLanguages())->reference,
            "swh");
}

TEST(ExpandJob, SamplesByHash_NotByPosition) {
  const v1::Corpus corpus = MakeTestCorpus({{"eng", Numbers(1000)}});
  v1::JobSpec spec = SweepSpec();
  spec.mutable_evals(0)->set_samples(100);
  std::set<std::vector<std::string>> samples;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    spec.set_seed(seed);
    const auto expansion = Expand(spec, TinyLlamaDescription(), corpus);
    QSWEEP_ASSERT_OK(expansion);
    const std::vector<std::string> ids = Ids(expansion->evaluations[0], 0);
    EXPECT_EQ(ids.size(), 100);
    EXPECT_TRUE(samples.insert(ids).second);
    // Spread over the corpus: about 10 in each tenth.
    for (int tenth = 0; tenth < 10; ++tenth) {
      const auto inside =
          std::count_if(ids.begin(), ids.end(), [tenth](const std::string& id) {
            return std::stoi(id) / 100 == tenth;
          });
      EXPECT_GE(inside, 2);
      EXPECT_LE(inside, 25);
    }
    // In the order of the corpus.
    EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end(),
                               [](const std::string& a, const std::string& b) {
                                 return std::stoi(a) < std::stoi(b);
                               }));
  }
}

// The rule itself: ids computed by another program.
TEST(ExpandJob, TakesTheSmallestHashes) {
  const v1::Corpus corpus = MakeTestCorpus({{"eng", Numbers(50)}});
  v1::JobSpec spec = SweepSpec();
  spec.set_seed(42);
  spec.mutable_evals(0)->set_samples(7);
  const auto expansion = Expand(spec, TinyLlamaDescription(), corpus);
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_THAT(Ids(expansion->evaluations[0], 0),
              ElementsAre("8", "9", "25", "31", "36", "40", "43"));
}

TEST(ExpandJob, KeepsEmptyDocuments) {
  std::vector<LanguageText> languages(1);
  languages[0].corpus.set_language("eng");
  languages[0].corpus.add_documents()->set_id("1");
  const v1::Corpus corpus =
      MakeCorpus("test", std::move(languages), {})->corpus;
  const auto expansion = Expand(SweepSpec(), TinyLlamaDescription(), corpus);
  QSWEEP_ASSERT_OK(expansion);
  EXPECT_EQ(expansion->evaluations[0].documents[0].digest, Digest::Of(""));
}

TEST(ExpandJob, NamesTheField_WhenTheModelDoesNotFit) {
  struct Case {
    const char* name;
    void (*change)(v1::JobSpec&);
    const char* code;
    const char* field;
  };
  for (const Case& c : {
           Case{"layer set",
                [](v1::JobSpec& s) { s.add_layer_sets()->set_literal("L99"); },
                "QS1011", "layerSets[1]"},
           Case{"component",
                [](v1::JobSpec& s) { s.add_layer_sets()->set_literal("qkv"); },
                "QS1012", "layerSets[1]"},
           Case{"layers", [](v1::JobSpec& s) { s.set_layers("0-30"); },
                "QS1011", "layers"},
           Case{"quantizer", [](v1::JobSpec& s) { s.set_quantizers(0, "x"); },
                "QS1020", "quantizers[0]"},
           Case{"checkpoint that nobody has looked at",
                [](v1::JobSpec& s) {
                  s.set_quantizers(0, "checkpoint:path=/c");
                },
                "QS1003", "quantizers[0]"},
           Case{"language", [](v1::JobSpec& s) { s.add_languages("xyz"); },
                "QS2101", "languages[0]"},
           Case{"reference", [](v1::JobSpec& s) { s.set_reference("xyz"); },
                "QS2101", "reference"},
           Case{"models",
                [](v1::JobSpec& s) {
                  s.set_kind(v1::JOB_KIND_CROSS_MODEL);
                  s.add_models()->set_path("/n");
                },
                "QS1004", "models"},
       }) {
    SCOPED_TRACE(c.name);
    v1::JobSpec spec = SweepSpec();
    c.change(spec);
    const auto expansion =
        Expand(spec, testing::SmolLm2Description(), TwoLanguages());
    EXPECT_EQ(CodeOf(expansion), c.code);
    EXPECT_EQ(FieldOf(expansion), c.field);
  }
  v1::JobSpec spec = SweepSpec();
  spec.add_quantizers("upstream:gpu001");
  const auto empty = Expand(spec, testing::Gpt2Description(), TwoLanguages());
  EXPECT_EQ(CodeOf(empty), "QS1050");
  EXPECT_EQ(FieldOf(empty), "quantizers[1]");
}

TEST(ExpandJob, RefusesTooMuch_BeforeMakingIt) {
  v1::JobSpec spec = SweepSpec();
  spec.mutable_layer_sets(0)->set_protect("triples");
  EXPECT_EQ(CodeOf(Expand(spec, TinyLlamaDescription(80), TwoLanguages())),
            "QS1051");
  spec.mutable_layer_sets(0)->set_protect("pairs");
  const v1::Corpus many = MakeTestCorpus({{"eng", Numbers(5000)}});
  EXPECT_EQ(CodeOf(Expand(spec, TinyLlamaDescription(32), many)), "QS1051");
}

// The limit is met by the texts of all seeds, and each is passed by one text.
TEST(ExpandJob, RefusesMoreCalibrationTextsThanLeasesShouldCarry) {
  constexpr int kMost = kMostCalibrationTextsPerJob;
  const ModelDescription models[] = {TinyLlamaDescription(2)};
  struct Case {
    const char* name;
    int documents;  // in each of two languages
    uint32_t samples;
    std::string refusal;  // empty: taken
  };
  for (const Case& c :
       {Case{"all texts, once for both seeds", kMost / 2, 0, ""},
        Case{"a sample for each seed", kMost, kMost / 4, ""},
        Case{"one seed too much", kMost / 2 + 1, 0,
             "calibration takes 10002 texts for 1 seed, a job at most 10000"},
        Case{"two seeds too much", kMost, kMost / 4 + 1,
             "calibration takes 10004 texts for 2 seeds, a job at most "
             "10000"}}) {
    SCOPED_TRACE(c.name);
    const v1::Corpus texts = MakeTestCorpus(
        {{"deu", Numbers(c.documents)}, {"fra", Numbers(c.documents)}});
    v1::JobSpec spec = CalibratedSpec();
    spec.mutable_calibration()->set_samples(c.samples);
    const auto expansion = ExpandJob(spec, models, TwoLanguages(), &texts);
    if (c.refusal.empty()) {
      QSWEEP_ASSERT_OK(expansion);
      continue;
    }
    EXPECT_EQ(CodeOf(expansion), "QS1051");
    EXPECT_EQ(FieldOf(expansion), "calibration.samples");
    EXPECT_THAT(expansion.status().message(), ::testing::HasSubstr(c.refusal));
  }
}

// Random specs: counts, uniqueness, and no dependence on the order of lists
// whose order means nothing.
TEST(ExpandJob, IsDeterministicAndOrderIndependent) {
  const char* const literals[] = {"L0",   "L-1",  "attn@L0", "even",
                                  "L50%", "none", "mlp",     "L0+L1:int8"};
  Random random(11);
  for (int round = 0; round < 200; ++round) {
    v1::JobSpec spec = SweepSpec();
    const uint64_t sets = random.Below(5);
    for (uint64_t i = 0; i < sets; ++i) {
      spec.add_layer_sets()->set_literal(
          literals[random.Below(std::size(literals))]);
    }
    if (random.Below(2) == 0) {
      spec.add_quantizers("upstream:gpu");
    }
    spec.set_seed(random.Next());
    spec.mutable_evals(0)->set_samples(static_cast<uint32_t>(random.Below(12)));
    std::vector<std::string> shuffled = Numbers(10);
    for (size_t i = shuffled.size() - 1; i > 0; --i) {
      std::swap(shuffled[i], shuffled[random.Below(i + 1)]);
    }
    const v1::Corpus corpus = MakeTestCorpus(
        {{"eng", Numbers(10)}, {"swh", shuffled}, {"arb", Numbers(8)}});
    const v1::Corpus reordered = MakeTestCorpus(
        {{"eng", shuffled}, {"swh", Numbers(10)}, {"arb", Numbers(8)}});
    const ModelDescription model =
        TinyLlamaDescription(2 + static_cast<int>(random.Below(6)));
    for (const char* language : {"eng", "swh", "arb"}) {
      spec.add_languages(language);
    }
    const auto first = Expand(spec, model, corpus);
    QSWEEP_ASSERT_OK(first);

    std::set<Digest> digests;
    for (const auto& c : first->models[0].configurations) {
      EXPECT_TRUE(digests.insert(c.configuration.digest).second);
      // What a worker makes of the two texts has the same digest.
      const auto again = ParseConfiguration(
          model, c.configuration.quantizer_text, c.configuration.layer_set_text,
          c.configuration.compute);
      QSWEEP_ASSERT_OK(again);
      EXPECT_EQ(again->digest, c.configuration.digest);
    }
    const auto& documents = first->evaluations[0].documents;
    EXPECT_EQ(documents.size() % 3, 0);
    EXPECT_EQ(first->num_measurements(),
              static_cast<int64_t>(digests.size() * documents.size()));

    spec.mutable_languages()->SwapElements(0, 2);
    spec.mutable_layer_sets()->SwapElements(0, spec.layer_sets_size() - 1);
    const auto second = Expand(spec, model, reordered);
    QSWEEP_ASSERT_OK(second);
    std::set<Digest> other_digests;
    for (const auto& c : second->models[0].configurations) {
      other_digests.insert(c.configuration.digest);
    }
    EXPECT_EQ(other_digests, digests);
    EXPECT_EQ(second->languages, first->languages);
    std::set<Digest> units;
    std::set<Digest> other_units;
    for (const auto& document : documents) {
      units.insert(document.digest);
    }
    for (const auto& document : second->evaluations[0].documents) {
      other_units.insert(document.digest);
    }
    EXPECT_EQ(other_units, units);
  }
}

}  // namespace
}  // namespace qsweep
