#include "tests/e2e/sweeps.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/job/model_description_proto.h"
#include "tests/support/model_descriptions.h"
#include "tests/support/tiny_llama.h"
#include "worker/model/checkpoint.h"

namespace qsweep::testing {
namespace {

constexpr char kFakeEngine[] = QSWEEP_BINARY_DIR "/tests/fake_qengine";
constexpr char kRealEngine[] = QSWEEP_BINARY_DIR "/bin/qengine";

// Words of random letters; seeded, so that every run reads the same.
std::string Words(int count, Random& random) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    for (uint64_t letters = 2 + random.Below(6); letters > 0; --letters) {
      text.push_back(static_cast<char>('a' + random.Below(26)));
    }
    text.push_back(i + 1 < count ? ' ' : '.');
  }
  return text;
}

std::map<std::string, std::vector<std::string>> Texts(int units, int words) {
  std::map<std::string, std::vector<std::string>> texts;
  Random random(7);
  for (const char* language : {"deu", "eng", "fra"}) {
    for (int unit = 0; unit < units; ++unit) {
      texts[language].push_back(Words(words, random));
    }
  }
  return texts;
}

void UseFakeEngine(Sweep& sweep, int units) {
  constexpr int kLayers = 8;
  const ModelDescription model =
      LlamaDescription("fake", {.layers = kLayers, .hidden = 64});
  sweep.model = ToProto(model);
  sweep.spec.mutable_models(0)->set_path(
      sweep.model_dir->Write("model", "the fake engine only looks for it"));
  sweep.cluster.engine = kFakeEngine;
  sweep.cluster.worker_environment = {{"QSWEEP_FAKE_DELAY_MS", "300"}};
  sweep.cluster.task_seconds = 1e-3;  // so small that each document is a task
  sweep.texts = Texts(units, 40);
  sweep.num_measurements = static_cast<size_t>((kLayers + 2) * 3 * units);
}

void UseRealEngine(Sweep& sweep, int units) {
  TinyLlama llama;
  llama.layers = 6;
  llama.context_length = 2048;
  llama.WriteTo(*sweep.model_dir);
  const std::string path = sweep.model_dir->path();
  const auto checkpoint = Checkpoint::Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto model = (*checkpoint)->Describe("");
  ASSERT_TRUE(model.ok()) << model.status();
  sweep.model = ToProto(*model);
  sweep.spec.mutable_models(0)->set_path(path);
  sweep.cluster.engine = kRealEngine;
  sweep.cluster.task_seconds = 8e-3;  // each document is a task
  sweep.texts = Texts(units, 160);
  sweep.num_measurements = static_cast<size_t>((llama.layers + 2) * 3 * units);
}

}  // namespace

Sweep MakeSweep(SweepKind kind, int units) {
  Sweep sweep;
  sweep.model_dir = std::make_shared<TempDir>();
  sweep.spec.set_kind(v1::JOB_KIND_LAYER_SWEEP);
  sweep.spec.set_name("sweep");
  sweep.spec.add_models();
  sweep.spec.add_quantizers("rtn:bits=4,group=32");
  sweep.spec.set_corpus("corpus");
  sweep.spec.set_reference("eng");
  if (kind == SweepKind::kFakeEngine) {
    UseFakeEngine(sweep, units);
  } else {
    UseRealEngine(sweep, units);
  }
  return sweep;
}

std::string SubmitSweep(LocalCluster& cluster, const Sweep& sweep) {
  cluster.AddCorpus("corpus", sweep.texts);
  return cluster.Submit(sweep.spec, sweep.model);
}

}  // namespace qsweep::testing
