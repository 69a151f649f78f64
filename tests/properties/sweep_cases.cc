#include "tests/properties/sweep_cases.h"

#include <algorithm>
#include <bit>
#include <map>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/check.h"
#include "common/base/digest.h"
#include "common/job/corpus.h"
#include "common/job/job_spec.h"
#include "common/job/model_description_proto.h"
#include "tests/support/model_descriptions.h"

namespace qsweep::testing {
namespace {

// All spellings of a quantizer mean the same one. The first `kDrawable` have
// replicates; of the others the last quantizes embeddings, too, so that
// protecting every layer is not yet the baseline.
const std::vector<std::vector<std::string>>& Quantizers() {
  static const auto& quantizers = *new std::vector<std::vector<std::string>>{
      {"rtn:bits=4,group=4", "rtn:group=4", " rtn:grid=absmax , sym=1,group=4"},
      {"rtn:bits=3,group=8", "rtn:group=8,bits=3,gran=group"},
      {"nf4:group=64", "nf4", "nf4:double_quant=0,group=64"},
      {"hqq:bits=4,group=8", "hqq:group=8,round_zero=1,axis=1"},
      {"rtn:bits=4,gran=channel", "rtn:group=-1", "rtn:gran=channel,group=-1"},
      {"upstream:p5-all", "upstream:p5-all,bits=4",
       "rtn:gran=tensor,scope=p5-all"}};
  return quantizers;
}
constexpr int kDrawable = 4;
constexpr int kWithEmbeddings = 5;

constexpr const char* kLanguages[] = {"aaa", "bbb", "ccc", "eng"};

std::set<int> AllOf(int num_layers) {
  std::set<int> all;
  for (int i = 0; i < num_layers; ++i) {
    all.insert(i);
  }
  return all;
}

WrittenLayers AnyItem(int num_layers) {
  WrittenLayers item;
  const auto add = [&item](int first, int last) {
    for (int i = first; i <= last; ++i) {
      item.layers.insert(i);
    }
  };
  const int a = *rc::gen::inRange(0, num_layers);
  const int b = *rc::gen::inRange(a, num_layers);
  switch (*rc::gen::inRange(0, 7)) {
    case 0:
      item.text = absl::StrCat("L", a);
      add(a, a);
      break;
    case 1:
      item.text = absl::StrCat("L", a - num_layers);
      add(a, a);
      break;
    case 2:
      item.text = absl::StrCat("L", a, "-", b);
      add(a, b);
      break;
    case 3:
      item.text = absl::StrCat("L", a - num_layers, "-", b - num_layers);
      add(a, b);
      break;
    case 4: {
      const int percent = *rc::gen::inRange(0, 101);
      const int layer = std::min(percent * num_layers / 100, num_layers - 1);
      item.text = absl::StrCat("L", percent, "%");
      add(layer, layer);
      break;
    }
    default: {
      const int first = *rc::gen::inRange(0, 2);
      item.text = first == 0 ? "even" : "odd";
      for (int i = first; i < num_layers; i += 2) {
        item.layers.insert(i);
      }
    }
  }
  return item;
}

rc::Gen<WrittenPattern> AnyPattern(int num_layers) {
  return rc::gen::exec([num_layers] {
    WrittenPattern pattern;
    pattern.kind = *rc::gen::element(
        WrittenPattern::Kind::kEach, WrittenPattern::Kind::kText,
        WrittenPattern::Kind::kPairs, WrittenPattern::Kind::kTriples,
        WrittenPattern::Kind::kQuantizeEach);
    if (pattern.kind == WrittenPattern::Kind::kText) {
      pattern.text = *AnyLayers(num_layers);
    }
    return pattern;
  });
}

// The sets a pattern stands for.
std::set<std::set<int>> SetsOf(const WrittenPattern& pattern,
                               const std::set<int>& tried, int num_layers) {
  using Kind = WrittenPattern::Kind;
  if (pattern.kind == Kind::kText) {
    return {pattern.text.all ? AllOf(num_layers) : pattern.text.layers};
  }
  std::set<std::set<int>> sets;
  for (unsigned mask = 0; mask < 1u << num_layers; ++mask) {
    std::set<int> set;
    for (int i = 0; i < num_layers; ++i) {
      if ((mask >> i & 1) != 0) {
        set.insert(i);
      }
    }
    const bool inside = std::ranges::includes(tried, set);
    const int size = std::popcount(mask);
    if (pattern.kind == Kind::kQuantizeEach) {
      for (const int layer : tried) {
        std::set<int> rest = AllOf(num_layers);
        rest.erase(layer);
        if (set == rest) {
          sets.insert(set);
        }
      }
    } else if (inside && size == 1 + static_cast<int>(pattern.kind)) {
      sets.insert(set);
    }
  }
  return sets;
}

void ToProto(const WrittenPattern& pattern, v1::LayerSetPattern& proto) {
  switch (pattern.kind) {
    case WrittenPattern::Kind::kEach:
      proto.set_protect("each");
      break;
    case WrittenPattern::Kind::kPairs:
      proto.set_protect("pairs");
      break;
    case WrittenPattern::Kind::kTriples:
      proto.set_protect("triples");
      break;
    case WrittenPattern::Kind::kQuantizeEach:
      proto.set_quantize("each");
      break;
    case WrittenPattern::Kind::kText:
      proto.set_literal(pattern.text.text);
      break;
  }
}

// Within a generator.
template <typename T>
void Shuffle(std::vector<T>& values) {
  for (size_t i = 0; i + 1 < values.size(); ++i) {
    std::swap(values[i], values[*rc::gen::inRange(i, values.size())]);
  }
}

std::string SpellingOf(const WrittenQuantizer& quantizer) {
  const auto& spellings = Quantizers()[static_cast<size_t>(quantizer.method)];
  return spellings[static_cast<size_t>(quantizer.spelling) % spellings.size()];
}

}  // namespace

rc::Gen<std::set<int>> AnySubset(int n) {
  return rc::gen::map(rc::gen::inRange(0, 1 << n), [n](int mask) {
    std::set<int> subset;
    for (int i = 0; i < n; ++i) {
      if ((mask >> i & 1) != 0) {
        subset.insert(i);
      }
    }
    return subset;
  });
}

rc::Gen<WrittenLayers> AnyLayers(int num_layers) {
  return rc::gen::exec([num_layers] {
    WrittenLayers written;
    const int num_items = *rc::gen::weightedElement<int>(
        {{1, -1}, {2, 0}, {6, 1}, {4, 2}, {2, 3}});
    if (num_items < 0) {
      written = {.text = "all", .all = true, .layers = AllOf(num_layers)};
      return written;
    }
    std::vector<std::string> texts;
    for (int i = 0; i < num_items; ++i) {
      const WrittenLayers item = AnyItem(num_layers);
      texts.push_back(item.text);
      written.layers.insert(item.layers.begin(), item.layers.end());
    }
    written.text = texts.empty() ? "none" : absl::StrJoin(texts, "+");
    return written;
  });
}

int64_t SweepCase::num_configurations() const {
  const std::set<int> all = AllOf(num_layers);
  std::set<std::set<int>> sets;
  if (kind == v1::JOB_KIND_LAYER_SWEEP) {
    sets.insert(std::set<int>());
  }
  std::vector<WrittenPattern> written = patterns;
  if (written.empty()) {
    written.emplace_back();  // {protect: each}
  }
  for (const WrittenPattern& pattern : written) {
    if (pattern.kind == WrittenPattern::Kind::kText && pattern.text.all) {
      continue;  // the baseline
    }
    sets.merge(SetsOf(pattern, tried.empty() ? all : tried, num_layers));
  }
  std::set<int> methods;
  for (const WrittenQuantizer& quantizer : quantizers) {
    methods.insert(quantizer.method);
  }
  int64_t count = 1;  // the baseline
  for (const int method : methods) {
    const bool full_is_baseline =
        method != kWithEmbeddings && sets.contains(all);
    count += replicates *
             static_cast<int64_t>(sets.size() - (full_is_baseline ? 1 : 0));
  }
  return count;
}

std::set<int> SweepCase::chosen() const {
  std::set<int> chosen(languages.begin(), languages.end());
  if (chosen.empty()) {
    for (size_t i = 0; i < ids.size(); ++i) {
      chosen.insert(static_cast<int>(i));
    }
  }
  if (reference >= 0) {
    chosen.insert(reference);
  }
  return chosen;
}

int64_t SweepCase::num_documents(const WrittenEvaluation& eval) const {
  const std::set<int> read = chosen();
  std::map<int, size_t> seen;
  for (const int language : read) {
    for (const int id : ids[static_cast<size_t>(language)]) {
      ++seen[id];
    }
  }
  const int64_t common = std::ranges::count_if(
      seen, [&read](const auto& entry) { return entry.second == read.size(); });
  const int64_t units =
      eval.samples == 0 ? common : std::min<int64_t>(common, eval.samples);
  return units * static_cast<int64_t>(read.size());
}

v1::JobSpec SweepCase::Spec() const {
  v1::JobSpec spec;
  spec.set_kind(kind);
  for (int m = 0; m < num_models; ++m) {
    spec.add_models()->set_path(absl::StrCat("/models/", m));
  }
  for (const WrittenPattern& pattern : patterns) {
    ToProto(pattern, *spec.add_layer_sets());
  }
  if (!tried.empty()) {
    spec.set_layers(absl::StrJoin(tried, ","));
  }
  for (const WrittenQuantizer& quantizer : quantizers) {
    spec.add_quantizers(SpellingOf(quantizer));
  }
  spec.set_replicates(static_cast<uint32_t>(replicates));
  spec.set_corpus("texts");
  for (const int language : languages) {
    spec.add_languages(kLanguages[language]);
  }
  if (reference >= 0) {
    spec.set_reference(kLanguages[reference]);
  }
  for (const WrittenEvaluation& eval : evals) {
    v1::EvaluationRequest& to = *spec.add_evals();
    to.set_eval(eval.eval);
    to.set_samples(eval.samples);
    to.set_max_tokens(eval.max_tokens);
  }
  FillJobSpecDefaults(spec);
  return spec;
}

std::vector<ModelDescription> SweepCase::Models() const {
  std::vector<ModelDescription> models;
  for (int m = 0; m < num_models; ++m) {
    models.push_back(LlamaDescription(absl::StrCat("tiny-", num_layers, "-", m),
                                      {.layers = num_layers}));
  }
  return models;
}

v1::Corpus SweepCase::Corpus() const {
  std::vector<LanguageText> texts;
  for (size_t i = 0; i < ids.size(); ++i) {
    LanguageText& language = texts.emplace_back();
    language.corpus.set_language(kLanguages[i]);
    for (const int id : ids[i]) {
      v1::Document& document = *language.corpus.add_documents();
      document.set_id(absl::StrCat(id));
      document.set_text(absl::StrCat(kLanguages[i], " text ", id));
    }
  }
  auto corpus = MakeCorpus("texts", std::move(texts), {});
  QSWEEP_CHECK(corpus.ok());
  return std::move(corpus->corpus);
}

v1::SubmitJobRequest SweepCase::Request(const std::string& uuid) const {
  v1::SubmitJobRequest request;
  request.set_job_uuid(Digest::Of("job " + uuid).bytes().substr(0, 16));
  request.set_owner("ann");
  *request.mutable_spec() = Spec();
  for (const ModelDescription& model : Models()) {
    *request.add_models() = qsweep::ToProto(model);
  }
  return request;
}

rc::Gen<SweepCase> AnySweep() {
  return rc::gen::exec([] {
    SweepCase sweep;
    sweep.kind =
        *rc::gen::element(v1::JOB_KIND_LAYER_SWEEP, v1::JOB_KIND_CONFIGS,
                          v1::JOB_KIND_CROSS_MODEL);
    const bool cross = sweep.kind == v1::JOB_KIND_CROSS_MODEL;
    sweep.num_models = cross ? *rc::gen::inRange(1, 3) : 1;
    sweep.num_layers = *rc::gen::inRange(1, 6);
    if (*rc::gen::inRange(0, 3) == 0) {
      sweep.tried = *AnySubset(sweep.num_layers);
    }
    const int fewest = sweep.kind == v1::JOB_KIND_LAYER_SWEEP ? 0 : 1;
    sweep.patterns = *rc::gen::mapcat(rc::gen::inRange(fewest, 4), [&](int n) {
      return rc::gen::container<std::vector<WrittenPattern>>(
          static_cast<size_t>(n), AnyPattern(sweep.num_layers));
    });
    sweep.replicates = *rc::gen::weightedElement<int>({{3, 1}, {1, 2}, {1, 3}});
    const int num_quantizers = *rc::gen::inRange(1, 4);
    for (int i = 0; i < num_quantizers; ++i) {
      const int last = sweep.replicates > 1
                           ? kDrawable
                           : static_cast<int>(Quantizers().size());
      sweep.quantizers.push_back({.method = *rc::gen::inRange(0, last),
                                  .spelling = *rc::gen::inRange(0, 3)});
    }
    const int num_languages = *rc::gen::inRange(1, 5);
    const int num_common = *rc::gen::inRange(1, 4);
    for (int i = 0; i < num_languages; ++i) {
      std::set<int> ids = *AnySubset(3);
      for (int id = 0; id < num_common; ++id) {
        ids.insert(3 + id);
      }
      sweep.ids.push_back(std::move(ids));
    }
    const std::set<int> asked_for = *AnySubset(num_languages);
    sweep.languages.assign(asked_for.begin(), asked_for.end());
    Shuffle(sweep.languages);
    sweep.reference = *rc::gen::inRange(-1, num_languages);
    sweep.evals.push_back(
        {.eval = *rc::gen::element<std::string>("aligned", "hf-text"),
         .samples = *rc::gen::inRange<uint32_t>(0, 6),
         .max_tokens = 0});
    if (*rc::gen::inRange(0, 3) == 0) {
      sweep.evals.push_back({.eval = sweep.evals.front().eval,
                             .samples = *rc::gen::inRange<uint32_t>(0, 3),
                             .max_tokens = 64});
    }
    return sweep;
  });
}

rc::Gen<SweepCase> Rewritten(const SweepCase& sweep) {
  return rc::gen::exec([sweep] {
    SweepCase other = sweep;
    Shuffle(other.patterns);
    Shuffle(other.quantizers);
    Shuffle(other.languages);
    for (WrittenQuantizer& quantizer : other.quantizers) {
      quantizer.spelling = *rc::gen::inRange(0, 3);
    }
    return other;
  });
}

void showValue(const SweepCase& sweep, std::ostream& out) {
  out << sweep.num_layers << " layers, " << sweep.num_models << " models\n"
      << FormatJobSpecYaml(sweep.Spec()) << "corpus:";
  for (const std::set<int>& ids : sweep.ids) {
    out << " {" << absl::StrJoin(ids, ",") << "}";
  }
}

void showValue(const WrittenLayers& layers, std::ostream& out) {
  out << "\"" << layers.text << "\" = {" << absl::StrJoin(layers.layers, ",")
      << "}";
}

}  // namespace qsweep::testing
