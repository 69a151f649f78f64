#include "worker/engine/calibrator.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/job/configuration.h"
#include "tests/support/error_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_llama.h"
#include "worker/engine/engine.h"
#include "worker/kernels/coded_tensor.h"

namespace qsweep {
namespace {

using testing::CodeOf;
using testing::FieldOf;
using ::testing::HasSubstr;
using testing::HintOf;
using testing::TempDir;
using testing::TinyLlama;

class CountingSink : public EngineSink {
 public:
  void OnProgress(const EngineProgress& progress) override {
    if (progress.text != last && absl::StartsWith(progress.text, "calibr")) {
      ++calibrated;
    }
    last = progress.text;
  }
  int calibrated = 0;  // layers
  std::string last;
};

// nll_sum, kl_sum and codes of each row.
struct Loss {
  double first = 0;
  double second = 0;
  Digest codes;
  bool operator==(const Loss&) const = default;
};
using Losses = std::vector<Loss>;

// Engines on a tiny model with a token per byte, whose widest layer has 96
// inputs.
class CalibratorTest : public ::testing::Test {
 protected:
  CalibratorTest() { TinyLlama().WriteTo(directory_); }

  std::unique_ptr<Engine> MakeEngine(int threads, const std::string& cache) {
    auto engine = Engine::Create(
        {.device = "cpu", .threads = threads, .cache_dir = cache});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  // Two languages of calibration texts, no text twice.
  static std::vector<EngineLanguage> CalibrationLanguages(int texts) {
    std::vector<EngineLanguage> languages = {{.language = "eng"},
                                             {.language = "deu"}};
    for (int i = 0; i < texts; ++i) {
      languages[0].texts.push_back(
          absl::StrCat("Everyone has the right to ", i * i, " of ", i * 7919));
      languages[1].texts.push_back(
          absl::StrCat("Jeder hat das Recht auf ", i * 31, "; \xC3\xBC", i));
    }
    return languages;
  }

  // A task that scores two documents under each quantizer, "gptq" with the
  // digest of the calibration's texts.
  EngineTask Task(Engine& engine, std::vector<std::string> quantizers,
                  int texts = 20) {
    const ModelDescription& model = *engine.Describe(directory_.path()).value();
    EngineTask task;
    task.model_path = directory_.path();
    task.evaluation =
        EvaluationText("aligned", model.tokenizer_digest, 0).value();
    task.languages = {
        {.language = "fra",
         .texts = {"Tous les \xC3\xAAtres humains naissent libres",
                   "et dou\xC3\xA9s de raison"}}};
    task.documents = {{0, 0}, {0, 1}};
    EngineCalibration& calibration = task.calibrations.emplace_back();
    std::vector<Digest> digests;
    for (EngineLanguage& language : CalibrationLanguages(texts)) {
      for (size_t i = 0; i < language.texts.size(); ++i) {
        calibration.documents.push_back(
            {.language = static_cast<int>(task.languages.size()),
             .text = static_cast<int>(i)});
        digests.push_back(Digest::Of(language.texts[i]));
      }
      task.languages.push_back(std::move(language));
    }
    const std::string name = ShortDigestText(CalibrationTexts(digests));
    for (const std::string& quantizer : quantizers) {
      for (const char* layers : {"none", "L0", "mlp@L1+L2:int8"}) {
        task.configurations.push_back(
            {.quantizer = !absl::StartsWith(quantizer, "rtn")
                              ? absl::StrCat(quantizer, ",texts=", name)
                              : quantizer,
             .layer_set = layers});
      }
    }
    return task;
  }

  Losses Run(Engine& engine, const EngineTask& task) {
    sink_ = CountingSink();
    const auto result = engine.Run(task, sink_, std::stop_token());
    EXPECT_TRUE(result.ok()) << result.status();
    Losses losses;
    if (result.ok()) {
      for (const EngineRow& row : result->rows) {
        losses.push_back({row.nll_sum, row.kl_sum, row.codes});
      }
    }
    return losses;
  }

  absl::Status Error(Engine& engine, const EngineTask& task) {
    return engine.Run(task, sink_, std::stop_token()).status();
  }

  TempDir directory_;
  CountingSink sink_;
};

const std::vector<std::string>& Quantizers() {
  static const std::vector<std::string>& all = *new std::vector<std::string>{
      "gptq:bits=4,group=32",
      "gptq:bits=3,group=-1,sym=0",
      "gptq:bits=4,group=48,act_order=1,damp=0.02",
      "gptq:bits=4,group=32,act_order=1,static_groups=1",
      "gptq:bits=4,group=32,calib=qpath",
      "awq:bits=3,group=32"};
  return all;
}

TEST_F(CalibratorTest, GivesEqualRows_WhenThreadsDifferAndNothingIsShared) {
  const auto one = MakeEngine(1, "");
  EngineTask task = Task(*one, Quantizers());
  const Losses want = Run(*one, task);
  ASSERT_EQ(want.size(), 36u);
  // The way that is shared, and one for each number of bits under qpath.
  EXPECT_EQ(sink_.calibrated, 3 * 3);
  std::set<Digest> codes;
  for (const auto& [nll, kl, digest] : want) {
    EXPECT_GT(nll, 0);
    EXPECT_GT(kl, 0);
    EXPECT_FALSE(digest.empty());
    codes.insert(digest);
  }
  EXPECT_EQ(codes.size(), 18u);  // a digest for each configuration
  EXPECT_EQ(Run(*MakeEngine(3, ""), task), want);
  task.naive = true;
  EXPECT_EQ(Run(*MakeEngine(2, ""), task), want);
}

TEST_F(CalibratorTest, SeesQuantizedLayersBefore_UnderQpathAlone) {
  const auto engine = MakeEngine(2, "");
  EngineTask task =
      Task(*engine, {"gptq:group=32", "gptq:group=32,calib=qpath"});
  const auto losses_with = [&](const char* layers) {
    EngineTask some = task;
    for (EngineConfiguration& configuration : some.configurations) {
      configuration.layer_set = layers;
    }
    const Losses losses = Run(*engine, some);  // document-major
    return std::pair(losses[0], losses[3]);
  };
  const auto [fp, qpath] = losses_with("L1-2");
  EXPECT_EQ(fp, qpath);  // nothing is before the first layer
  const auto [fp_last, qpath_last] = losses_with("L0-1");
  EXPECT_NE(fp_last, qpath_last);
}

constexpr int kFewTexts = 6;  // some hundred tokens

// The quantizers of the task with "none", each layer, pairs and a mixture.
EngineTask WithLayerSets(const EngineTask& task) {
  EngineTask other = task;
  other.configurations.clear();
  for (const EngineConfiguration& one : task.configurations) {
    if (one.layer_set == "none") {
      for (const char* layers :
           {"none", "L0", "L1", "L2", "L0+L2", "L0-1", "mlp@L1+L2:int8"}) {
        other.configurations.push_back(
            {.quantizer = one.quantizer, .layer_set = layers});
      }
    }
  }
  return other;
}

TEST_F(CalibratorTest, CalibratesEachConfigurationAsIfAlone_UnderExact) {
  const auto engine = MakeEngine(1, "");
  EngineTask task = WithLayerSets(Task(*engine,
                                       {"gptq:group=32,act_order=1,calib=exact",
                                        "awq:bits=3,group=32,calib=exact"},
                                       kFewTexts));
  const size_t count = task.configurations.size();
  ASSERT_EQ(count, 14u);
  const Losses want = Run(*engine, task);
  EXPECT_EQ(Run(*MakeEngine(3, ""), task), want);
  task.naive = true;
  EXPECT_EQ(Run(*MakeEngine(2, ""), task), want);
  task.naive = false;
  for (size_t c = 0; c < count; ++c) {
    SCOPED_TRACE(absl::StrCat(task.configurations[c].quantizer, " ",
                              task.configurations[c].layer_set));
    EngineTask alone = task;
    alone.configurations = {task.configurations[c]};
    EXPECT_EQ(Run(*MakeEngine(2, ""), alone),
              (Losses{want[c], want[count + c]}));
  }
}

TEST_F(CalibratorTest, SeesWhatIsBeforeAsTheModelIsMeasured_UnderExact) {
  const auto engine = MakeEngine(2, "");
  for (const char* method : {"gptq:group=32", "awq:bits=3,group=32"}) {
    SCOPED_TRACE(method);
    const Losses exact =
        Run(*engine,
            WithLayerSets(Task(*engine, {absl::StrCat(method, ",calib=exact")},
                               kFewTexts)));
    const Losses qpath =
        Run(*engine,
            WithLayerSets(Task(*engine, {absl::StrCat(method, ",calib=qpath")},
                               kFewTexts)));
    const Losses fp =
        Run(*engine, WithLayerSets(Task(*engine, {method}, kFewTexts)));
    ASSERT_EQ(exact.size(), 14u);
    EXPECT_EQ(exact[0], qpath[0]);  // none
    EXPECT_NE(exact[1], qpath[1]);  // L0
    EXPECT_NE(exact[1], fp[1]);
    EXPECT_NE(exact[2], qpath[2]);  // L1
    EXPECT_EQ(exact[3], qpath[3]);  // L2: layers 0 and 1 are as in none
    EXPECT_EQ(exact[4], fp[4]);     // L0+L2: nothing quantized before layer 1
    EXPECT_EQ(exact[5], fp[5]);     // L0-1
    EXPECT_NE(exact[6], qpath[6]);
  }
}

// The calibration of one configuration, layer by layer, spelled out: the layers
// before are written into another model, which is calibrated as it is.
TEST_F(CalibratorTest, GivesTheCodesOfAModelQuantizedBefore_UnderExact) {
  for (const char* method : {"gptq:group=32", "awq:bits=3,group=32"}) {
    SCOPED_TRACE(method);
    const auto engine = MakeEngine(2, "");
    EngineTask task = WithLayerSets(
        Task(*engine, {absl::StrCat(method, ",calib=exact")}, kFewTexts));
    task.configurations = {task.configurations[2]};  // L1 is kept
    Run(*engine, task);
    const ModelDescription& model =
        *engine->Describe(directory_.path()).value();
    const Configuration exact =
        ParseConfiguration(model, task.configurations[0].quantizer,
                           task.configurations[0].layer_set, task.compute)
            .value();
    std::map<std::string, std::shared_ptr<const kernels::CodedTensor>> codes;
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      if (exact.schemes[i]) {
        const std::string& name = model.tensors[i].name;
        codes[name] = engine->FindCodes(name, *exact.schemes[i]).value();
      }
    }
    ASSERT_EQ(codes.size(), 2u * 7);
    const TempDir directory;
    TinyLlama quantized;
    quantized.edit = [&](const std::string& name, std::vector<float>& values) {
      if (codes.contains(name) && absl::StrContains(name, "layers.0.")) {
        codes[name]->Decode(values);
      }
    };
    quantized.WriteTo(directory);
    const auto other = MakeEngine(2, "");
    EngineTask rest = Task(*other, {method}, kFewTexts);
    rest.model_path = directory.path();
    rest.configurations.resize(1);
    rest.configurations[0].layer_set = "L0-1";
    Run(*other, rest);
    const ModelDescription& before = *other->Describe(directory.path()).value();
    const Configuration last =
        ParseConfiguration(before, rest.configurations[0].quantizer, "L0-1",
                           rest.compute)
            .value();
    int compared = 0;
    for (size_t i = 0; i < before.tensors.size(); ++i) {
      if (last.schemes[i]) {
        const std::string& name = before.tensors[i].name;
        EXPECT_TRUE(**other->FindCodes(name, *last.schemes[i]) == *codes[name])
            << name;
        ++compared;
      }
    }
    EXPECT_EQ(compared, 7);
  }
}

TEST_F(CalibratorTest, CalibratesNewPrefixesAlone_UnderExact) {
  const TempDir cache;
  const auto engine = MakeEngine(2, cache.path());
  EngineTask task =
      WithLayerSets(Task(*engine, {"gptq:group=32,calib=exact"}, kFewTexts));
  const std::vector<EngineConfiguration> all = task.configurations;
  task.configurations = {all[0]};  // none
  Run(*engine, task);
  EXPECT_EQ(sink_.calibrated, 3);
  task.configurations = {all[0], all[3]};  // L2: layers 0 and 1 as in none
  Run(*engine, task);
  EXPECT_EQ(sink_.calibrated, 0);
  task.configurations = {all[2]};  // L1: layer 2 after the first two
  Run(*engine, task);
  EXPECT_EQ(sink_.calibrated, 3);
}

TEST_F(CalibratorTest, TakesCodesFromTheCache_InTheNextTaskAndEngine) {
  const TempDir cache;
  Losses want;
  {
    const auto engine = MakeEngine(2, cache.path());
    const EngineTask task = Task(*engine, {Quantizers()[0]});
    want = Run(*engine, task);
    EXPECT_EQ(sink_.calibrated, 3);
    EXPECT_EQ(Run(*engine, task), want);
    EXPECT_EQ(sink_.calibrated, 0);
  }
  const auto engine = MakeEngine(1, cache.path());
  EngineTask task = Task(*engine, {Quantizers()[0]});
  EXPECT_EQ(Run(*engine, task), want);
  EXPECT_EQ(sink_.calibrated, 0);
  // A file that is lost is made again, and nothing after its layer.
  for (const auto& entry :
       std::filesystem::directory_iterator(cache.path() + "/codes")) {
    std::filesystem::remove(entry.path());
    break;
  }
  EXPECT_EQ(Run(*engine, task), want);
  EXPECT_GT(sink_.calibrated, 0);
}

TEST_F(CalibratorTest, LosesLessThanRoundingToNearest_OnItsOwnTexts) {
  const auto engine = MakeEngine(2, "");
  EngineTask task = Task(
      *engine, {"gptq:bits=3,group=32", "rtn:bits=3,group=32,grid=gptq",
                "awq:bits=3,group=32", "rtn:bits=3,group=32,sym=0,grid=awq"});
  task.documents.clear();  // the calibration texts themselves
  for (const EngineDocument& document : task.calibrations[0].documents) {
    task.documents.push_back(document);
  }
  const Losses losses = Run(*engine, task);
  ASSERT_EQ(losses.size() % 12, 0u);
  EXPECT_TRUE(losses[3].codes.empty());
  double kl[4] = {};  // of each quantizer, nothing protected
  for (size_t i = 0; i < losses.size(); i += 3) {
    kl[i / 3 % 4] += losses[i].second;
  }
  EXPECT_LT(kl[0], kl[1]);
  EXPECT_LT(kl[2], kl[3]);
}

TEST_F(CalibratorTest, KeepsCalibrationsApart_InOneTask) {
  const auto engine = MakeEngine(2, "");
  EngineTask task = Task(*engine, {Quantizers()[0]});
  const EngineTask fewer = Task(*engine, {Quantizers()[0]}, 15);
  const Losses first = Run(*engine, task);
  const Losses second = Run(*engine, fewer);
  EXPECT_NE(first, second);
  // The fewer texts are the first 15 of each of the other's languages.
  task.calibrations.push_back({});
  for (const int language : {1, 2}) {
    for (int text = 0; text < 15; ++text) {
      task.calibrations[1].documents.push_back({language, text});
    }
  }
  for (const EngineConfiguration& configuration : fewer.configurations) {
    task.configurations.push_back(configuration);
  }
  const Losses both = Run(*engine, task);
  EXPECT_EQ(Losses(both.begin(), both.begin() + 3),
            Losses(first.begin(), first.begin() + 3));
  EXPECT_EQ(Losses(both.begin() + 3, both.begin() + 6),
            Losses(second.begin(), second.begin() + 3));
}

TEST_F(CalibratorTest, RefusesTextsThatAreTooShortOrDidNotCome) {
  const auto engine = MakeEngine(1, "");
  EngineTask task = Task(*engine, {Quantizers()[0]}, 1);
  const absl::Status too_short = Error(*engine, task);
  EXPECT_EQ(CodeOf(too_short), "QS2116");
  EXPECT_THAT(std::string(too_short.message()), HasSubstr("96 inputs"));
  EngineTask awq = Task(*engine, {Quantizers().back()}, 1);
  EXPECT_THAT(std::string(Error(*engine, awq).message()),
              HasSubstr("AWQ needs 64"));
  task.calibrations.clear();
  EXPECT_EQ(CodeOf(Error(*engine, task)), "QS4042");
  task.configurations[0].quantizer = "gptq:group=32";
  EXPECT_EQ(CodeOf(Error(*engine, task)), "QS1003");
}

TEST_F(CalibratorTest, SaysWhatToDo_WhenTheHessianIsSingular) {
  const auto engine = MakeEngine(1, "");
  // The first layer sees no more different inputs than there are letters.
  const EngineTask task = Task(*engine, {"gptq:bits=4,group=32,damp=0"});
  const absl::Status status = Error(*engine, task);
  EXPECT_EQ(CodeOf(status), "QS5012");
  EXPECT_THAT(std::string(status.message()), HasSubstr("layers.0"));
  EXPECT_THAT(HintOf(status), HasSubstr("damp=0.1"));
}

TEST_F(CalibratorTest, RefusesTheTask_WhenMemoryIsTooSmall) {
  const auto error = [this](int64_t bytes, const char* quantizer) {
    auto engine = Engine::Create(
        {.device = "cpu", .threads = 1, .memory = {.bytes = bytes}});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return Error(**engine, WithLayerSets(Task(**engine, {quantizer}, 40)));
  };
  EXPECT_EQ(CodeOf(error(300'000, "gptq:group=32")), "QS5006");
  // A state more takes more than that, of which the bytes below are short.
  constexpr int64_t kEnough = 6'000'000;
  QSWEEP_EXPECT_OK(error(kEnough, "gptq:group=32,calib=qpath"));
  const absl::Status exact = error(kEnough, "gptq:group=32,calib=exact");
  EXPECT_EQ(CodeOf(exact), "QS5006");
  EXPECT_THAT(std::string(exact.message()), HasSubstr("Calibration takes"));
}

TEST_F(CalibratorTest, SaysTheLeastMemoryThatWorks) {
  const auto error = [this](int64_t bytes) {
    auto engine = Engine::Create(
        {.device = "cpu", .threads = 2, .memory = {.bytes = bytes}});
    EXPECT_TRUE(engine.ok()) << engine.status();
    EngineTask task = Task(**engine, {"awq:bits=4,group=-1"}, 200);
    task.configurations.resize(1);
    task.documents.resize(1);
    return Error(**engine, task);
  };
  const absl::Status status = error(300'000);
  EXPECT_EQ(CodeOf(status), "QS5006");
  const std::string text(status.message());
  const std::string before = "The least that works is ";
  ASSERT_THAT(text, HasSubstr("Calibration takes"));
  ASSERT_THAT(text, HasSubstr(before));
  const int64_t least =
      std::stoll(text.substr(text.find(before) + before.size()));
  QSWEEP_EXPECT_OK(error(least));
  EXPECT_THAT(std::string(error(least - 1).message()),
              HasSubstr("Calibration takes"));
}

TEST_F(CalibratorTest, DoesNothingMore_WhenItIsStoppedWhileItCalibrates) {
  // The first word of a layer: gptq says it behind the layer's texts, which are
  // few, awq with each look at them.
  for (const auto& [quantizer, stored] :
       std::vector<std::pair<std::string, int>>{{"gptq:bits=4,group=32", 14},
                                                {"awq:bits=4,group=-1", 7}}) {
    const TempDir cache;
    const auto engine = MakeEngine(2, cache.path());
    EngineTask task = Task(*engine, {quantizer});
    class Sink : public EngineSink {
     public:
      void OnProgress(const EngineProgress& progress) override {
        after += stop.stop_requested() ? 1 : 0;
        if (progress.text == "calibrating: layer 2 of 3") {
          stop.request_stop();
        }
      }
      std::stop_source stop;
      int after = 0;
    } sink;
    EXPECT_EQ(engine->Run(task, sink, sink.stop.get_token()).status().code(),
              absl::StatusCode::kCancelled);
    EXPECT_TRUE(sink.stop.stop_requested());
    EXPECT_EQ(sink.after, 0);
    const auto codes = std::distance(
        std::filesystem::directory_iterator(cache.path() + "/codes"), {});
    EXPECT_EQ(codes, stored);
    EXPECT_EQ(Run(*engine, task).size(), 6u);
  }
}

TEST_F(CalibratorTest, NamesTheTensor_WhenItsInputsAreNotFinite) {
  TinyLlama model;
  model.edit = [](const std::string& name, std::vector<float>& values) {
    if (name == "model.layers.1.mlp.up_proj.weight" ||
        name == "model.layers.1.mlp.gate_proj.weight") {
      std::fill(values.begin(), values.end(), 3e37f);
    }
  };
  model.WriteTo(directory_);
  const auto engine = MakeEngine(1, "");
  const absl::Status status =
      Error(*engine, Task(*engine, {"awq:bits=4,group=32"}));
  EXPECT_EQ(CodeOf(status), "QS5012");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("inputs of model.layers.1.mlp.down_proj.weight"));
  EXPECT_EQ(FieldOf(status), "calibration");
}

TEST_F(CalibratorTest, OffersNoDamping_WhenAwqOverflows) {
  TinyLlama model;
  model.edit = [](const std::string& name, std::vector<float>& values) {
    if (name == "model.layers.1.self_attn.v_proj.weight") {
      std::fill(values.begin(), values.begin() + 4, 3e6f);
    }
  };
  model.WriteTo(directory_);
  const auto engine = MakeEngine(1, "");
  const absl::Status status =
      Error(*engine, Task(*engine, {"awq:bits=4,group=32,scale=fp16"}));
  EXPECT_EQ(CodeOf(status), "QS5012");
  EXPECT_EQ(FieldOf(status), "scale");
  EXPECT_EQ(HintOf(status), "Use scale=fp32.");
  EXPECT_THAT(std::string(status.message()), HasSubstr("layers.1"));
}

TEST_F(CalibratorTest, KeepsTensorsThatAreAllZero) {
  TinyLlama model;
  model.edit = [](const std::string& name, std::vector<float>& values) {
    if (name.starts_with("model.layers.1.") && name.ends_with("proj.weight")) {
      std::fill(values.begin(), values.end(), 0.0f);
    }
  };
  model.WriteTo(directory_);
  const auto engine = MakeEngine(2, "");
  EngineTask task =
      Task(*engine, {"awq:bits=4,group=32", "awq:bits=4,group=-1,sym=1"});
  task.calibrations.resize(1);
  for (EngineConfiguration& configuration : task.configurations) {
    configuration.layer_set = "L0+L2";
  }
  const Losses zero = Run(*engine, task);
  ASSERT_FALSE(zero.empty());
  for (const Loss& loss : zero) {
    EXPECT_EQ(loss.second, 0);  // KL
    EXPECT_FALSE(loss.codes.empty());
  }
}

}  // namespace
}  // namespace qsweep
