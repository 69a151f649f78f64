// Spec files and what they expand to. The input: a file, then overrides.
#include <set>
#include <span>
#include <string>
#include <vector>

#include <google/protobuf/util/message_differencer.h>

#include "common/job/corpus.h"
#include "common/job/expand.h"
#include "common/job/job_spec.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"
#include "tests/support/model_descriptions.h"

namespace qsweep::fuzz {
namespace {

using google::protobuf::util::MessageDifferencer;

v1::Corpus ThreeLanguages() {
  std::vector<LanguageText> languages;
  for (const char* code : {"eng", "fra", "swh"}) {
    LanguageText& language = languages.emplace_back();
    language.corpus.set_language(code);
    language.aliases = {std::string(code).substr(0, 2)};
    for (const char* id : {"1", "2", "3", "4"}) {
      v1::Document& document = *language.corpus.add_documents();
      document.set_id(id);
      document.set_text(std::string(code) + " " + id);
    }
  }
  return MakeCorpus("texts", std::move(languages), {})->corpus;
}

// A size the spec chooses, up to one whose triples are far above any limit.
const ModelDescription& ModelFor(const v1::JobSpec& spec) {
  static const std::vector<ModelDescription> kModels = {
      testing::TinyLlamaDescription(2), testing::Gpt2Description(),
      testing::TinyLlamaDescription(400)};
  return kModels[spec.seed() % kModels.size()];
}

void CheckExpansion(const v1::JobSpec& spec) {
  static const v1::Corpus kCorpus = ThreeLanguages();
  const std::vector<ModelDescription> models(
      static_cast<size_t>(spec.models_size()), ModelFor(spec));
  const auto expansion = ExpandJob(spec, models, kCorpus);
  if (!OkOrNamed(expansion)) {
    return;
  }
  Expect(expansion->num_configurations() <= kMostConfigurationsPerJob,
         "more configurations than a job may have");
  Expect(expansion->num_measurements() <= kMostMeasurementsPerJob,
         "more measurements than a job may have");
  for (const ExpandedModel& model : expansion->models) {
    std::set<Digest> digests;
    for (const ExpandedConfiguration& one : model.configurations) {
      Expect(digests.insert(one.configuration.digest).second,
             "a configuration twice");
    }
  }
}

void CheckSpec(absl::string_view text, std::span<const std::string> overrides) {
  const auto parsed = ParseJobSpec(text, overrides);
  if (!OkOrNamed(parsed)) {
    return;
  }
  v1::JobSpec spec = *parsed;
  FillJobSpecDefaults(spec);
  Expect(MessageDifferencer::Equals(spec, *parsed),
         "defaults were not filled, or are no fixed point");
  const absl::Status valid = ValidateJobSpec(spec);
  ExpectNamed(valid);
  if (!valid.ok()) {
    return;
  }
  const auto again = ParseJobSpec(FormatJobSpecYaml(spec));
  Expect(again.ok() && MessageDifferencer::Equals(*again, spec),
         "a valid spec is not what its text parses to");
  CheckExpansion(spec);
}

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMostOverrides = 8;
  std::vector<std::string> texts = qsweep::fuzz::Texts(data, size);
  const std::string file = texts.front();
  texts.erase(texts.begin());
  texts.resize(std::min(texts.size(), kMostOverrides));
  qsweep::fuzz::CheckSpec(file, texts);
  return 0;
}
