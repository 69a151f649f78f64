// The small languages: layer sets, quantizers, layer ranges, evaluations. The
// input: a layer set, a quantizer, a text for the others.
#include <set>
#include <string>
#include <vector>

#include "common/job/canonical_spelling.h"
#include "common/job/configuration.h"
#include "common/job/layer_set.h"
#include "common/job/quantizer.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"
#include "tests/support/model_descriptions.h"
#include "worker/eval/evaluation.h"

namespace qsweep::fuzz {
namespace {

const std::vector<ModelDescription>& Models() {
  static const std::vector<ModelDescription> kModels = {
      testing::TinyLlamaDescription(5), testing::Gpt2Description()};
  return kModels;
}

bool SameChoices(const ResolvedLayerSet& a, const ResolvedLayerSet& b) {
  if (a.tensors.size() != b.tensors.size()) {
    return false;
  }
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    if (a.tensors[i].choice != b.tensors[i].choice ||
        a.tensors[i].bits != b.tensors[i].bits) {
      return false;
    }
  }
  return true;
}

void CheckLayerSet(const LayerSet& layer_set, const ModelDescription& model) {
  const auto same = LayerSet::Parse(layer_set.text());
  Expect(same.ok() && same->text() == layer_set.text(),
         "the one spelling of a layer set is none");
  const auto resolved = ResolveLayerSet(layer_set, model);
  if (!OkOrNamed(resolved)) {
    return;
  }
  const auto parsed = LayerSet::Parse(resolved->text);
  Expect(parsed.ok(), "a resolved layer set does not parse");
  const auto again = ResolveLayerSet(*parsed, model);
  Expect(again.ok() && SameChoices(*again, *resolved),
         "a resolved layer set parses to other choices");
}

void CheckConfiguration(const ModelDescription& model,
                        const Quantizer& quantizer, const LayerSet& layer_set) {
  const auto made =
      MakeConfiguration(model, quantizer, layer_set, Compute::kFp32);
  if (!OkOrNamed(made)) {
    return;
  }
  const auto same = ParseConfiguration(model, made->quantizer_text,
                                       made->layer_set_text, Compute::kFp32);
  Expect(same.ok() && same->digest == made->digest,
         "the texts of a configuration parse to another");
  const Spelling spelling = CanonicalSpelling(model, *made);
  const auto spelled = ParseConfiguration(model, spelling.quantizer,
                                          spelling.layer_set, Compute::kFp32);
  Expect(spelled.ok() && spelled->digest == made->digest,
         "a canonical spelling parses to another configuration");
  Expect(CanonicalSpelling(model, *spelled) == spelling,
         "a canonical spelling is not the only one");
}

void CheckRange(absl::string_view text) {
  constexpr int kLayers = 30;
  const auto layers = ParseLayerRange(text, kLayers);
  if (!OkOrNamed(layers)) {
    return;
  }
  const std::set<int> unique(layers->begin(), layers->end());
  Expect(std::vector<int>(unique.begin(), unique.end()) == *layers,
         "layers out of order, or twice");
  Expect(unique.empty() || (*unique.begin() >= 0 && *unique.rbegin() < kLayers),
         "a layer the model lacks");
  Expect(LayerSet::Parse(FormatLayers(unique)).ok(),
         "formatted layers are no layer set");
}

void CheckEvaluation(const std::string& text) {
  const auto parsed = ParseEvaluation(text);
  if (OkOrNamed(parsed)) {
    const auto again = EvaluationText(
        parsed->convention == Convention::kAligned ? "aligned" : "hf-text",
        parsed->tokenizer_digest, parsed->max_tokens);
    Expect(again.ok() && *again == text, "an evaluation has two texts");
  }
  OkOrNamed(
      EvaluationText(text, Digest::Of(text), static_cast<int>(text.size())));
}

void CheckAll(const std::string& set_text, const std::string& quantizer_text,
              const std::string& other) {
  const auto layer_set = LayerSet::Parse(set_text);
  const auto quantizer = ParseQuantizer(quantizer_text);
  if (OkOrNamed(quantizer)) {
    const auto again = ParseQuantizer(FormatQuantizer(*quantizer));
    Expect(again.ok() && *again == *quantizer,
           "the one spelling of a quantizer parses to another");
  }
  if (OkOrNamed(layer_set)) {
    for (const ModelDescription& model : Models()) {
      CheckLayerSet(*layer_set, model);
      if (quantizer.ok()) {
        CheckConfiguration(model, *quantizer, *layer_set);
      }
    }
  }
  CheckRange(other);
  CheckEvaluation(other);
  OkOrNamed(ParseCompute(other));
}

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> texts = qsweep::fuzz::Texts(data, size);
  texts.resize(3);
  qsweep::fuzz::CheckAll(texts[0], texts[1], texts[2]);
  return 0;
}
