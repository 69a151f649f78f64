#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

#include "common/base/duration_text.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/did_you_mean.h"
#include "common/job/job_spec.h"
#include "common/job/job_spec_names.h"
#include "common/job/requirements.h"
#include "common/job/spec_tree.h"

namespace qsweep {
namespace {

absl::Status ValueError(const SpecNode& node, absl::string_view field,
                        absl::string_view wanted, absl::string_view hint = "") {
  return MakeError(
      kBadValue,
      absl::StrCat(field, " must be ", wanted, ", at ", node.place()), field,
      hint);
}

absl::StatusOr<std::string> ReadText(const SpecNode& node,
                                     absl::string_view field) {
  if (node.kind != SpecNode::Kind::kScalar || node.scalar.empty()) {
    return ValueError(node, field, "a text");
  }
  return node.scalar;
}

template <typename Integer>
absl::StatusOr<Integer> ReadInteger(const SpecNode& node,
                                    absl::string_view field) {
  Integer value = 0;
  if (node.kind != SpecNode::Kind::kScalar ||
      !absl::SimpleAtoi(node.scalar, &value)) {
    return ValueError(node, field,
                      std::numeric_limits<Integer>::is_signed
                          ? "a whole number"
                          : "a whole number, not negative");
  }
  return value;
}

// Reads a map whose keys are fixed.
using FieldReader = std::function<absl::Status(const SpecNode&)>;
struct Field {
  const char* name;
  FieldReader read;
};

absl::Status ReadFields(const SpecNode& node, absl::string_view path,
                        const std::vector<Field>& fields) {
  if (node.kind != SpecNode::Kind::kMap) {
    return ValueError(node, path.empty() ? "the spec" : path,
                      "fields with values");
  }
  std::vector<std::string> names;
  for (const Field& field : fields) {
    names.emplace_back(field.name);
  }
  for (const SpecNode::Entry& entry : node.entries) {
    const auto found =
        std::find_if(fields.begin(), fields.end(),
                     [&entry](const Field& f) { return entry.key == f.name; });
    if (found == fields.end()) {
      return MakeError(
          kUnknownField,
          absl::StrCat("there is no field \"", entry.key, "\"",
                       path.empty() ? "" : absl::StrCat(" in ", path), ", at ",
                       entry.place()),
          path.empty() ? entry.key : absl::StrCat(path, ".", entry.key),
          DidYouMeanHint(entry.key, names));
    }
    QSWEEP_RETURN_IF_ERROR(found->read(entry.value));
  }
  return absl::OkStatus();
}

// Calls read(item, "field[i]") for each item.
absl::Status ReadList(
    const SpecNode& node, absl::string_view field,
    const std::function<absl::Status(const SpecNode&, const std::string&)>&
        read) {
  if (node.kind != SpecNode::Kind::kSequence) {
    return ValueError(node, field, "a list",
                      absl::StrCat("Write ", field, ": [...]."));
  }
  for (size_t i = 0; i < node.items.size(); ++i) {
    QSWEEP_RETURN_IF_ERROR(
        read(node.items[i], absl::StrCat(field, "[", i, "]")));
  }
  return absl::OkStatus();
}

// A reader of one text into `target`.
FieldReader Text(std::string* target, std::string field) {
  return [target, field](const SpecNode& node) -> absl::Status {
    QSWEEP_ASSIGN_OR_RETURN(*target, ReadText(node, field));
    return absl::OkStatus();
  };
}

absl::Status ReadModel(const SpecNode& node, const std::string& field,
                       v1::JobSpec& spec) {
  v1::ModelReference& model = *spec.add_models();
  if (node.kind == SpecNode::Kind::kScalar && !node.scalar.empty()) {
    model = ParseModelReference(node.scalar);
    return absl::OkStatus();
  }
  return ReadFields(
      node, field,
      {{"id", Text(model.mutable_id(), field + ".id")},
       {"revision", Text(model.mutable_revision(), field + ".revision")},
       {"path", Text(model.mutable_path(), field + ".path")}});
}

// "each", or a list of layer sets: {protect: [L0, L0+L27]} is two lines.
absl::Status ReadProtect(const SpecNode& node, const std::string& field,
                         v1::JobSpec& spec) {
  if (node.kind != SpecNode::Kind::kSequence) {
    QSWEEP_ASSIGN_OR_RETURN(const std::string pattern, ReadText(node, field));
    spec.add_layer_sets()->set_protect(pattern);
    return absl::OkStatus();
  }
  return ReadList(
      node, field,
      [&spec](const SpecNode& item, const std::string& at) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(const std::string text, ReadText(item, at));
        spec.add_layer_sets()->set_literal(text);
        return absl::OkStatus();
      });
}

absl::Status ReadLayerSet(const SpecNode& node, const std::string& field,
                          v1::JobSpec& spec) {
  if (node.kind == SpecNode::Kind::kScalar && !node.scalar.empty()) {
    spec.add_layer_sets()->set_literal(node.scalar);
    return absl::OkStatus();
  }
  if (node.kind != SpecNode::Kind::kMap || node.entries.size() != 1) {
    return ValueError(node, field,
                      "a layer set, {protect: ...} or {quantize: each}");
  }
  return ReadFields(node, field,
                    {{"protect",
                      [&](const SpecNode& value) {
                        return ReadProtect(value, field + ".protect", spec);
                      }},
                     {"quantize", [&](const SpecNode& value) -> absl::Status {
                        QSWEEP_ASSIGN_OR_RETURN(
                            const std::string pattern,
                            ReadText(value, field + ".quantize"));
                        spec.add_layer_sets()->set_quantize(pattern);
                        return absl::OkStatus();
                      }}});
}

absl::Status ReadEval(const SpecNode& node, const std::string& field,
                      v1::JobSpec& spec) {
  v1::EvaluationRequest& eval = *spec.add_evals();
  if (node.kind == SpecNode::Kind::kScalar && !node.scalar.empty()) {
    eval.set_eval(node.scalar);
    return absl::OkStatus();
  }
  QSWEEP_RETURN_IF_ERROR(
      ReadFields(node, field,
                 {{"eval", Text(eval.mutable_eval(), field + ".eval")},
                  {"samples",
                   [&](const SpecNode& value) -> absl::Status {
                     QSWEEP_ASSIGN_OR_RETURN(
                         const uint32_t samples,
                         ReadInteger<uint32_t>(value, field + ".samples"));
                     eval.set_samples(samples);
                     return absl::OkStatus();
                   }},
                  {"maxTokens", [&](const SpecNode& value) -> absl::Status {
                     QSWEEP_ASSIGN_OR_RETURN(
                         const uint32_t tokens,
                         ReadInteger<uint32_t>(value, field + ".maxTokens"));
                     eval.set_max_tokens(tokens);
                     return absl::OkStatus();
                   }}}));
  return absl::OkStatus();
}

template <typename Enum, size_t N>
absl::Status ReadName(const SpecNode& node, absl::string_view field,
                      const std::array<EnumName<Enum>, N>& names,
                      Enum& target) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string text, ReadText(node, field));
  const std::optional<Enum> value = FindValue(names, text);
  if (!value) {
    const std::vector<std::string> known = NamesOf(names);
    return ValueError(node, field,
                      absl::StrCat("one of ", absl::StrJoin(known, ", "),
                                   ", not \"", text, "\""),
                      DidYouMeanHint(text, known));
  }
  target = *value;
  return absl::OkStatus();
}

// "gpu=T4,vram>=14GiB", or {gpu: T4, vram: 14GiB}; gpu may be a list.
absl::Status ReadRequire(const SpecNode& node, v1::Requirements& require) {
  if (node.kind == SpecNode::Kind::kScalar) {
    QSWEEP_ASSIGN_OR_RETURN(require, ParseRequirements(node.scalar));
    return absl::OkStatus();
  }
  if (node.kind != SpecNode::Kind::kMap || node.entries.empty()) {
    return ValueError(node, "policy.require",
                      "like \"gpu=T4,vram>=14GiB\" or {gpu: T4, vram: 14GiB}");
  }
  for (const SpecNode::Entry& entry : node.entries) {
    const bool list = entry.value.kind == SpecNode::Kind::kSequence;
    for (const SpecNode& item :
         list ? entry.value.items : std::vector<SpecNode>{entry.value}) {
      QSWEEP_RETURN_IF_ERROR(SetRequirement(entry.key, item.scalar, require));
    }
  }
  return CheckRequirements(require);
}

absl::Status ReadPolicy(const SpecNode& node, v1::JobSpec& spec) {
  v1::JobPolicy& policy = *spec.mutable_policy();
  return ReadFields(
      node, "policy",
      {{"priority",
        [&](const SpecNode& value) -> absl::Status {
          QSWEEP_ASSIGN_OR_RETURN(
              const int32_t priority,
              ReadInteger<int32_t>(value, "policy.priority"));
          policy.set_priority(priority);
          return absl::OkStatus();
        }},
       {"maxRetries",
        [&](const SpecNode& value) -> absl::Status {
          QSWEEP_ASSIGN_OR_RETURN(
              const uint32_t retries,
              ReadInteger<uint32_t>(value, "policy.maxRetries"));
          policy.set_max_retries(retries);
          return absl::OkStatus();
        }},
       {"maxFails",
        [&](const SpecNode& value) -> absl::Status {
          QSWEEP_ASSIGN_OR_RETURN(
              const uint32_t fails,
              ReadInteger<uint32_t>(value, "policy.maxFails"));
          policy.set_max_fails(fails);
          return absl::OkStatus();
        }},
       {"reuse",
        [&](const SpecNode& value) -> absl::Status {
          v1::Reuse reuse = v1::REUSE_AUTO;
          QSWEEP_RETURN_IF_ERROR(
              ReadName(value, "policy.reuse", kReuseNames, reuse));
          policy.set_reuse(reuse);
          return absl::OkStatus();
        }},
       {"require",
        [&](const SpecNode& value) {
          return ReadRequire(value, *policy.mutable_require());
        }},
       {"queueTimeout",
        [&](const SpecNode& value) -> absl::Status {
          const std::optional<absl::Duration> timeout =
              ParseDurationText(value.scalar);
          if (!timeout || *timeout < absl::Milliseconds(1)) {
            return ValueError(value, "policy.queueTimeout",
                              "at least 1ms, like 30m or 12h");
          }
          policy.set_queue_timeout_ms(
              static_cast<uint64_t>(absl::ToInt64Milliseconds(*timeout)));
          return absl::OkStatus();
        }},
       {"compute", [&](const SpecNode& value) -> absl::Status {
          v1::Compute compute = v1::COMPUTE_FP32;
          QSWEEP_RETURN_IF_ERROR(
              ReadName(value, "policy.compute", kProtoComputeNames, compute));
          spec.set_compute(compute);
          return absl::OkStatus();
        }}});
}

// {corpus: NAME, languages: [...], samples: N, seeds: [...], mode: fp}, or a
// corpus alone.
absl::Status ReadCalibration(const SpecNode& node, v1::JobSpec& spec) {
  v1::CalibrationRequest& calibration = *spec.mutable_calibration();
  if (node.kind == SpecNode::Kind::kScalar) {
    return Text(calibration.mutable_corpus(), "calibration")(node);
  }
  const std::string seeds = "calibration.seeds";
  return ReadFields(
      node, "calibration",
      {{"corpus", Text(calibration.mutable_corpus(), "calibration.corpus")},
       {"languages",
        [&](const SpecNode& value) {
          return ReadList(
              value, "calibration.languages",
              [&](const SpecNode& item, const std::string& at) -> absl::Status {
                QSWEEP_ASSIGN_OR_RETURN(*calibration.add_languages(),
                                        ReadText(item, at));
                return absl::OkStatus();
              });
        }},
       {"samples",
        [&](const SpecNode& value) -> absl::Status {
          QSWEEP_ASSIGN_OR_RETURN(
              const uint32_t samples,
              ReadInteger<uint32_t>(value, "calibration.samples"));
          calibration.set_samples(samples);
          return absl::OkStatus();
        }},
       {"seeds",
        [&](const SpecNode& value) {
          return ReadList(
              value, seeds,
              [&](const SpecNode& item, const std::string& at) -> absl::Status {
                QSWEEP_ASSIGN_OR_RETURN(const uint64_t seed,
                                        ReadInteger<uint64_t>(item, at));
                calibration.add_seeds(seed);
                return absl::OkStatus();
              });
        }},
       {"mode", Text(calibration.mutable_mode(), "calibration.mode")}});
}

absl::Status ReadLabels(const SpecNode& node, v1::JobSpec& spec) {
  if (node.kind != SpecNode::Kind::kMap) {
    return ValueError(node, "labels", "names with values");
  }
  for (const SpecNode::Entry& entry : node.entries) {
    QSWEEP_ASSIGN_OR_RETURN(
        (*spec.mutable_labels())[entry.key],
        ReadText(entry.value, absl::StrCat("labels.", entry.key)));
  }
  return absl::OkStatus();
}

// "all", "0-7", 3, or [0, 3, 5-9].
absl::Status ReadLayers(const SpecNode& node, v1::JobSpec& spec) {
  if (node.kind != SpecNode::Kind::kSequence) {
    QSWEEP_ASSIGN_OR_RETURN(*spec.mutable_layers(), ReadText(node, "layers"));
    return absl::OkStatus();
  }
  std::vector<std::string> parts;
  QSWEEP_RETURN_IF_ERROR(ReadList(
      node, "layers",
      [&parts](const SpecNode& item, const std::string& at) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(const std::string part, ReadText(item, at));
        parts.push_back(part);
        return absl::OkStatus();
      }));
  spec.set_layers(absl::StrJoin(parts, ","));
  return absl::OkStatus();
}

absl::Status ReadLanguages(const SpecNode& node, v1::JobSpec& spec) {
  if (node.kind == SpecNode::Kind::kScalar && node.scalar == "all") {
    return absl::OkStatus();
  }
  return ReadList(
      node, "languages",
      [&spec](const SpecNode& item, const std::string& at) -> absl::Status {
        QSWEEP_ASSIGN_OR_RETURN(*spec.add_languages(), ReadText(item, at));
        return absl::OkStatus();
      });
}

absl::Status ReadApiVersion(const SpecNode& node) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string version,
                          ReadText(node, "apiVersion"));
  if (version != kSpecVersion) {
    return ValueError(node, "apiVersion",
                      absl::StrCat("\"", kSpecVersion, "\" for this version"));
  }
  return absl::OkStatus();
}

// A reader of list items through read(item, "field[i]", spec).
FieldReader List(const char* field,
                 absl::Status (*read)(const SpecNode&, const std::string&,
                                      v1::JobSpec&),
                 v1::JobSpec& spec) {
  return [field, read, &spec](const SpecNode& node) {
    return ReadList(node, field,
                    [read, &spec](const SpecNode& item, const std::string& at) {
                      return read(item, at, spec);
                    });
  };
}

absl::Status ReadQuantizer(const SpecNode& node, const std::string& field,
                           v1::JobSpec& spec) {
  QSWEEP_ASSIGN_OR_RETURN(*spec.add_quantizers(), ReadText(node, field));
  return absl::OkStatus();
}

absl::StatusOr<v1::JobSpec> ReadSpec(const SpecNode& root) {
  v1::JobSpec spec;
  v1::JobKind kind = v1::JOB_KIND_UNSPECIFIED;
  QSWEEP_RETURN_IF_ERROR(ReadFields(
      root, "",
      {{"apiVersion", ReadApiVersion},
       {"kind",
        [&](const SpecNode& n) {
          return ReadName(n, "kind", kKindNames, kind);
        }},
       {"name", Text(spec.mutable_name(), "name")},
       {"labels", [&](const SpecNode& n) { return ReadLabels(n, spec); }},
       {"model",
        [&](const SpecNode& n) { return ReadModel(n, "model", spec); }},
       {"models", List("models", ReadModel, spec)},
       {"quantizers", List("quantizers", ReadQuantizer, spec)},
       {"replicates",
        [&](const SpecNode& n) -> absl::Status {
          QSWEEP_ASSIGN_OR_RETURN(const uint32_t replicates,
                                  ReadInteger<uint32_t>(n, "replicates"));
          if (replicates == 0) {
            return ValueError(n, "replicates", "at least 1");
          }
          spec.set_replicates(replicates);
          return absl::OkStatus();
        }},
       {"layerSets", List("layerSets", ReadLayerSet, spec)},
       {"layers", [&](const SpecNode& n) { return ReadLayers(n, spec); }},
       {"corpus", Text(spec.mutable_corpus(), "corpus")},
       {"languages", [&](const SpecNode& n) { return ReadLanguages(n, spec); }},
       {"reference", Text(spec.mutable_reference(), "reference")},
       {"evals", List("evals", ReadEval, spec)},
       {"calibration",
        [&](const SpecNode& n) { return ReadCalibration(n, spec); }},
       {"policy", [&](const SpecNode& n) { return ReadPolicy(n, spec); }},
       {"seed", [&](const SpecNode& n) -> absl::Status {
          QSWEEP_ASSIGN_OR_RETURN(const uint64_t seed,
                                  ReadInteger<uint64_t>(n, "seed"));
          spec.set_seed(seed);
          return absl::OkStatus();
        }}}));
  spec.set_kind(kind);
  for (const char* required : {"apiVersion", "kind"}) {
    if (root.Find(required) == nullptr) {
      return MakeError(
          kMissingField, absl::StrCat("the spec has no ", required), required,
          required == absl::string_view("kind")
              ? absl::StrCat("Write kind: ",
                             absl::StrJoin(NamesOf(kKindNames), " or "), ".")
              : absl::StrCat("Write apiVersion: ", kSpecVersion, "."));
    }
  }
  if (root.Find("model") != nullptr && root.Find("models") != nullptr) {
    return MakeError(kDuplicateField, "model and models are both given",
                     "models", "Leave one of them out.");
  }
  return spec;
}

}  // namespace

absl::StatusOr<v1::JobSpec> ParseJobSpec(
    absl::string_view text, std::span<const std::string> overrides) {
  QSWEEP_ASSIGN_OR_RETURN(SpecNode root, ParseSpecTree(text));
  for (const std::string& override_text : overrides) {
    QSWEEP_RETURN_IF_ERROR(ApplyOverride(root, override_text));
  }
  QSWEEP_ASSIGN_OR_RETURN(v1::JobSpec spec, ReadSpec(root));
  FillJobSpecDefaults(spec);
  return spec;
}

}  // namespace qsweep
