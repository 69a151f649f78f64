// Texts of quantizers and layer sets, and the keys that follow from what they
// mean: one meaning, one key, however it is written; another meaning, another
// key.
#include <algorithm>
#include <cstdint>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

#include "common/job/canonical_spelling.h"
#include "common/job/configuration.h"
#include "common/job/layer_set.h"
#include "common/job/layer_set_components.h"
#include "common/job/quantizer.h"
#include "common/job/replicate.h"
#include "coordinator/core/plan.h"
#include "rapidcheck/gtest.h"
#include "tests/properties/sweep_cases.h"
#include "tests/support/model_descriptions.h"

namespace qsweep::testing {
namespace {

// "key=value" with a value out of those; sometimes with spaces, or not at all.
class QuantizerWriter {
 public:
  explicit QuantizerWriter(std::string method) : method_(std::move(method)) {}

  void Maybe(const std::string& key, const std::vector<std::string>& values) {
    if (*rc::gen::inRange(0, 3) > 0) {
      const std::string value = *rc::gen::elementOf(values);
      parts_.push_back(*rc::gen::element(absl::StrCat(key, "=", value),
                                         absl::StrCat(" ", key, " = ", value)));
    }
  }

  // The parameters in any order, after `separator` when there are any.
  std::string Text(const std::string& separator = ":") {
    for (size_t i = 0; i + 1 < parts_.size(); ++i) {
      std::swap(parts_[i], parts_[*rc::gen::inRange(i, parts_.size())]);
    }
    return absl::StrCat(method_, parts_.empty() ? "" : separator,
                        absl::StrJoin(parts_, ","));
  }

 private:
  std::string method_;
  std::vector<std::string> parts_;
};

const std::vector<std::string> kBits = {"2", "3", "4", "5", "6", "7", "8"};
const std::vector<std::string> kFlag = {"0", "1"};
const std::vector<std::string> kPrecision = {"fp16", "fp32"};
const std::vector<std::string> kScopes = {"linear",      "p5-weights", "p5-all",
                                          "p5-final",    "gpu",        "gpu001",
                                          "fairness-cli"};
const std::vector<std::string> kReplicates = {"0", "1", "2", "3", "7"};

void WriteCalibration(QuantizerWriter& writer) {
  writer.Maybe("scale", kPrecision);
  writer.Maybe("calib", {"fp", "qpath", "exact"});
  writer.Maybe("texts", {"0123456789abcdef", "00000000000000ff"});
  writer.Maybe("scope", {"linear"});
}

// A text of a quantizer, most of them valid.
rc::Gen<std::string> AnyQuantizerText() {
  return rc::gen::exec([] {
    const std::string method = *rc::gen::element<std::string>(
        "rtn", "nf4", "hqq", "gptq", "awq", "upstream", "checkpoint");
    if (method == "upstream") {
      std::vector<std::string> presets = kScopes;
      presets.erase(presets.begin());
      QuantizerWriter writer(
          absl::StrCat("upstream:", *rc::gen::elementOf(presets)));
      writer.Maybe("bits", kBits);
      writer.Maybe("arith", kPrecision);
      writer.Maybe("scale", kPrecision);
      return writer.Text(",");
    }
    QuantizerWriter writer(method);
    if (method == "checkpoint") {
      writer.Maybe("path", {"/m", "/a b/c", "x=y"});
      writer.Maybe("digest", {"0123456789abcdef", "00000000000000ff"});
      writer.Maybe("bits", {"4", "4.156", "16.0", "0.001"});
      return writer.Text();
    }
    if (method != "nf4") {
      writer.Maybe("bits", kBits);
    }
    if (method == "rtn") {
      if (*rc::gen::arbitrary<bool>()) {
        writer.Maybe("group", {"-1", "1", "3", "64", "128", "1048576"});
      } else {
        writer.Maybe("gran", {"tensor", "channel", "group"});
      }
      writer.Maybe("sym", kFlag);
      writer.Maybe("grid", {"absmax", "gptq", "awq"});
      writer.Maybe("arith", kPrecision);
      writer.Maybe("scale", kPrecision);
    } else if (method == "nf4") {
      writer.Maybe("group", {"64", "128", "4096"});
      writer.Maybe("double_quant", kFlag);
    } else if (method == "hqq") {
      writer.Maybe("group", {"8", "64", "72"});
      writer.Maybe("axis", kFlag);
      writer.Maybe("round_zero", kFlag);
    } else if (method == "gptq") {
      writer.Maybe("group", {"-1", "4", "128"});
      writer.Maybe("sym", kFlag);
      writer.Maybe("act_order", kFlag);
      writer.Maybe("static_groups", kFlag);
      writer.Maybe("damp", {"0", "0.01", "1", "1e-6", "0.123456", "0.999999",
                            "0.0100004", "2e-5"});
      WriteCalibration(writer);
    } else {
      writer.Maybe("group", {"-1", "4", "128"});
      writer.Maybe("sym", kFlag);
      WriteCalibration(writer);
    }
    if (method != "gptq" && method != "awq") {
      writer.Maybe("scope", kScopes);
      writer.Maybe("replicate", kReplicates);
    }
    return writer.Text();
  });
}

RC_GTEST_PROP(FormatQuantizer, ParsesBackToTheSame, ()) {
  const std::string text = *AnyQuantizerText();
  const auto quantizer = ParseQuantizer(text);
  RC_PRE(quantizer.ok());
  RC_TAG(text.substr(0, text.find(':')));
  const std::string formatted = FormatQuantizer(*quantizer);
  RC_LOG() << formatted << "\n";
  const auto again = ParseQuantizer(formatted);
  RC_ASSERT(again.status() == absl::OkStatus());
  RC_ASSERT(*again == *quantizer);
  RC_ASSERT(FormatQuantizer(*again) == formatted);
}

// Items of every kind, on a model with num_layers.
rc::Gen<std::string> AnyLayerSetText(int num_layers) {
  return rc::gen::exec([num_layers] {
    const int num_items = *rc::gen::weightedElement<int>(
        {{1, 0}, {3, 1}, {5, 2}, {4, 3}, {2, 5}});
    if (num_items == 0) {
      return *rc::gen::element<std::string>("none", "all", " none ");
    }
    std::vector<std::string> items;
    for (int i = 0; i < num_items; ++i) {
      std::string layers = (*AnyLayers(num_layers)).text;
      layers = layers.substr(0, layers.find('+'));
      const bool whole = layers != "none" && layers != "all";
      std::string item;
      const std::string component =
          *rc::gen::elementOf(SelectorComponentNames());
      switch (*rc::gen::inRange(0, 3)) {
        case 0:
          item = whole ? layers : "L0";
          break;
        case 1:
          item = component;
          break;
        default:
          item = whole && FindSelectorComponent(component)->in_blocks
                     ? absl::StrCat(component, "@", layers)
                     : component;
      }
      item += *rc::gen::weightedElement<std::string>(
          {{5, ""}, {1, ":fp"}, {2, ":int8"}, {2, ":int2"}, {1, ":int4"}});
      items.push_back(*rc::gen::element(item, absl::StrCat(" ", item, " ")));
    }
    if (*rc::gen::weightedElement<bool>({{3, false}, {1, true}})) {
      items.insert(items.begin() + *rc::gen::inRange(0, num_items + 1),
                   *rc::gen::element<std::string>("top5%", "top05.0%", "top1%",
                                                  "top0.0001%", "top99.5%"));
    }
    return absl::StrJoin(items, "+");
  });
}

RC_GTEST_PROP(LayerSet, ParsesBackToTheSame, ()) {
  const std::string text = *AnyLayerSetText(*rc::gen::inRange(1, 13));
  const auto set = LayerSet::Parse(text);
  RC_ASSERT(set.status() == absl::OkStatus());
  const auto again = LayerSet::Parse(set->text());
  RC_ASSERT(again.status() == absl::OkStatus());
  RC_ASSERT(again->text() == set->text());
  RC_ASSERT(again->all() == set->all());
  RC_ASSERT(again->kept_millionths() == set->kept_millionths());
  RC_ASSERT(again->items().size() == set->items().size());
  for (size_t i = 0; i < set->items().size(); ++i) {
    const LayerSet::Item& a = set->items()[i];
    const LayerSet::Item& b = again->items()[i];
    RC_ASSERT(a.component == b.component);
    RC_ASSERT(a.bits == b.bits);
    RC_ASSERT(a.layers.kind == b.layers.kind);
    RC_ASSERT(a.layers.first == b.layers.first);
    RC_ASSERT(a.layers.last == b.layers.last);
    RC_ASSERT(a.layers.percent == b.layers.percent);
  }
}

// Of different families: tied and not, with biases and without.
rc::Gen<ModelDescription> AnyModel() {
  return rc::gen::exec([] {
    switch (*rc::gen::inRange(0, 4)) {
      case 0:
        return Gpt2Description();
      case 1:
        return Opt125mDescription();
      default: {
        LlamaShape shape;
        shape.layers = *rc::gen::inRange(1, 6);
        shape.tied = *rc::gen::arbitrary<bool>();
        return LlamaDescription("tiny", shape);
      }
    }
  });
}

bool SameChoices(const ResolvedLayerSet& a, const ResolvedLayerSet& b) {
  return a.kept_millionths == b.kept_millionths &&
         std::ranges::equal(a.tensors, b.tensors,
                            [](const auto& x, const auto& y) {
                              return x.choice == y.choice && x.bits == y.bits;
                            });
}

RC_GTEST_PROP(ResolveLayerSet, IsWrittenAsWhatItChooses, ()) {
  const ModelDescription model = *rc::gen::noShrink(AnyModel());
  const std::string text = *AnyLayerSetText(model.layers);
  RC_LOG() << model.name << ", " << model.layers << " layers\n";
  const auto resolved = ResolveLayerSet(*LayerSet::Parse(text), model);
  RC_PRE(resolved.ok());  // not a component that the model lacks
  RC_LOG() << resolved->text << "\n";
  const auto parsed = LayerSet::Parse(resolved->text);
  RC_ASSERT(parsed.status() == absl::OkStatus());
  RC_ASSERT(parsed->text() == resolved->text);
  const auto again = ResolveLayerSet(*parsed, model);
  RC_ASSERT(again.status() == absl::OkStatus());
  RC_ASSERT(SameChoices(*again, *resolved));
  RC_ASSERT(again->layers == resolved->layers);
}

RC_GTEST_PROP(ResolveLayerSet, ProtectsWhatTheTextSays, ()) {
  const int num_layers = *rc::gen::inRange(1, 9);
  const ModelDescription model = TinyLlamaDescription(num_layers);
  const WrittenLayers written = *AnyLayers(num_layers);
  const auto resolved = ResolveLayerSet(*LayerSet::Parse(written.text), model);
  RC_ASSERT(resolved.status() == absl::OkStatus());
  RC_ASSERT(resolved->layers == written.layers);
}

// A quantizer, a layer set and a compute mode that the model takes.
struct Recipe {
  std::string quantizer;
  std::string layer_set;
  Compute compute = Compute::kFp32;
};

void showValue(const Recipe& recipe, std::ostream& out) {
  out << recipe.quantizer << " with " << recipe.layer_set << " in "
      << ComputeName(recipe.compute);
}

// Few quantizers and short sets, so that two recipes often mean the same.
rc::Gen<Recipe> AnyRecipe(int num_layers) {
  return rc::gen::exec([num_layers] {
    Recipe recipe;
    recipe.quantizer = *rc::gen::element<std::string>(
        "rtn:group=4", "rtn:bits=8,group=4", "rtn:bits=2,group=4",
        "rtn:group=4,replicate=1", "rtn:group=4,scope=p5-all",
        "hqq:bits=8,group=8", "upstream:gpu", "upstream:p5-all",
        "checkpoint:path=/a,digest=0123456789abcdef,bits=4.5",
        "checkpoint:path=/b,digest=0123456789abcdef,bits=4.5",
        "gptq:group=4,texts=0123456789abcdef",
        "gptq:group=4,texts=0123456789abcdef,calib=exact");
    recipe.layer_set = *AnyLayerSetText(num_layers);
    recipe.compute = *rc::gen::weightedElement<Compute>(
        {{4, Compute::kFp32}, {1, Compute::kBf16}});
    return recipe;
  });
}

absl::StatusOr<Configuration> Made(const ModelDescription& model,
                                   const Recipe& recipe) {
  return ParseConfiguration(model, recipe.quantizer, recipe.layer_set,
                            recipe.compute);
}

RC_GTEST_PROP(MakeConfiguration, HasOneDigestForOneTreatment, ()) {
  const int num_layers = *rc::gen::inRange(1, 4);
  const ModelDescription model = TinyLlamaDescription(num_layers);
  const auto a = Made(model, *AnyRecipe(num_layers));
  const auto b = Made(model, *AnyRecipe(num_layers));
  RC_PRE(a.ok() && b.ok());
  const bool same = a->schemes == b->schemes && a->compute == b->compute;
  RC_CLASSIFY(same, "same");
  RC_ASSERT((a->digest == b->digest) == same);
  if (same) {
    RC_ASSERT(CanonicalSpelling(model, *a) == CanonicalSpelling(model, *b));
  }
  if (same && a->quantizer_text == b->quantizer_text) {
    RC_ASSERT(a->unprotected == b->unprotected);
    RC_ASSERT(a->single_layer == b->single_layer);
  }
}

// The texts that a configuration keeps make it again.
RC_GTEST_PROP(MakeConfiguration, IsMadeAgainFromItsTexts, ()) {
  const int num_layers = *rc::gen::inRange(1, 4);
  const ModelDescription model = TinyLlamaDescription(num_layers);
  const auto made = Made(model, *AnyRecipe(num_layers));
  RC_PRE(made.ok());
  for (const Spelling& texts :
       {Spelling{made->quantizer_text, made->layer_set_text},
        CanonicalSpelling(model, *made)}) {
    RC_LOG() << texts.quantizer << " with " << texts.layer_set << "\n";
    const auto again = ParseConfiguration(model, texts.quantizer,
                                          texts.layer_set, made->compute);
    RC_ASSERT(again.status() == absl::OkStatus());
    RC_ASSERT(again->digest == made->digest);
  }
}

// What a task measures, as its key takes it.
struct TaskWork {
  std::string evaluation;
  std::set<Digest> configurations;
  std::set<Digest> documents;
  std::string own;

  Digest key() const {
    return TaskContentKey(evaluation, configurations, documents, own);
  }
  bool operator==(const TaskWork&) const = default;
};

void showValue(const TaskWork& work, std::ostream& out) {
  const auto hex = [](std::string* to, const Digest& digest) {
    to->append(digest.hex().substr(0, 8));
  };
  out << work.evaluation << " {" << absl::StrJoin(work.configurations, " ", hex)
      << "} {" << absl::StrJoin(work.documents, " ", hex) << "} "
      << work.own.size();
}

// Digests from a small pool, shared by configurations and documents: one may
// not stand for the other.
rc::Gen<TaskWork> AnyTaskWork() {
  return rc::gen::exec([] {
    const auto digests =
        rc::gen::map(AnySubset(4), [](const std::set<int>& of) {
          std::set<Digest> set;
          for (const int number : of) {
            set.insert(Digest::Of(absl::StrCat(number)));
          }
          return set;
        });
    return TaskWork{
        .evaluation = *rc::gen::element<std::string>(
            "aligned@1;tok=00", "aligned@1;tok=00;max_tokens=2"),
        .configurations = *digests,
        .documents = *digests,
        .own = *rc::gen::element(std::string(), std::string(16, 'j'),
                                 Digest::Of("0").bytes())};
  });
}

RC_GTEST_PROP(TaskContentKey, ChangesWithEveryMember, ()) {
  const TaskWork a = *AnyTaskWork();
  const TaskWork b = *AnyTaskWork();
  RC_ASSERT((a.key() == b.key()) == (a == b));
  TaskWork c = a;
  switch (*rc::gen::inRange(0, 4)) {
    case 0:
      c.evaluation += ";max_tokens=9";
      break;
    case 1:
      if (!c.configurations.erase(Digest::Of("1"))) {
        c.configurations.insert(Digest::Of("1"));
      }
      break;
    case 2:
      if (!c.documents.erase(Digest::Of("1"))) {
        c.documents.insert(Digest::Of("1"));
      }
      break;
    default:
      c.own += "x";
  }
  RC_ASSERT(c.key() != a.key());
}

}  // namespace
}  // namespace qsweep::testing
