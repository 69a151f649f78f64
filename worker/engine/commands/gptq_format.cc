#include "worker/engine/commands/gptq_format.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/base/version.h"
#include "worker/model/gptq_packing.h"

namespace qsweep {
namespace {

using Json = nlohmann::ordered_json;

absl::Status NotInFormat(absl::string_view what, absl::string_view field,
                         absl::string_view hint) {
  return MakeError(kBadValue, what, field, hint);
}

absl::Status CheckScheme(const Scheme& scheme) {
  if (scheme.method != Method::kRtn && scheme.method != Method::kGptq) {
    return NotInFormat(
        "this quantizer has no integer codes that a GPTQ checkpoint could hold",
        "--quantizer", "Use rtn or gptq, or leave --format out.");
  }
  if (scheme.replicate != 0) {
    return NotInFormat(
        "readers of GPTQ checkpoints have no room for the group "
        "that a replicate adds",
        "--quantizer", "Leave replicate out.");
  }
  if (scheme.kept_millionths != 0) {
    return NotInFormat(
        "a GPTQ checkpoint has no room for single weights that keep their "
        "values",
        "--protect",
        absl::StrCat("Leave ", KeptShareText(scheme.kept_millionths), " out."));
  }
  if (scheme.arithmetic != Arithmetic::kFp32) {
    return NotInFormat("readers of GPTQ checkpoints do not multiply in fp16",
                       "--quantizer", "Leave arith=fp16 out.");
  }
  if (scheme.scale != ScaleStorage::kFp16) {
    return NotInFormat(
        "a GPTQ checkpoint holds its scales in fp16, this quantizer in fp32",
        "--quantizer", "Add scale=fp16, which rounds them before the codes.");
  }
  return absl::OkStatus();
}

absl::Status CheckTensor(const TensorDescription& tensor,
                         const Scheme& scheme) {
  if (tensor.layer < 0 || tensor.bias || !IsLinear(tensor.component)) {
    return NotInFormat(
        absl::StrCat("the quantizer changes ", tensor.name,
                     "; a GPTQ checkpoint packs linear layers of blocks only"),
        "--quantizer", "Use scope=linear.");
  }
  if (scheme.bits != 2 && scheme.bits != 3 && scheme.bits != 4 &&
      scheme.bits != 8) {
    return MakeError(kUnsupportedBits,
                     absl::StrCat(scheme.bits, " bits in a GPTQ checkpoint"),
                     "bits", "Use 2, 3, 4 or 8.");
  }
  if (!CanPackGptq(tensor.shape[0], tensor.shape[1], scheme.bits)) {
    return MakeError(
        kUnsupportedBits,
        absl::StrCat(tensor.name, ", ", tensor.shape[0], " x ", tensor.shape[1],
                     ", does not fill 32-bit words at ", scheme.bits, " bits"),
        "bits", "Use other bits, or leave --format out.");
  }
  return absl::OkStatus();
}

// What is written for a module: bits, or that it is kept.
using Treatment = std::optional<int>;

// "model.layers.0.self_attn.q_proj" as a regular expression.
std::string Quoted(absl::string_view module) {
  return absl::StrReplaceAll(module, {{".", "\\."}});
}

void AddOverride(const std::string& pattern, const Treatment& treatment,
                 Json& dynamic) {
  if (treatment) {
    dynamic[absl::StrCat("+:", pattern)] = Json{{"bits", *treatment}};
  } else {
    dynamic[absl::StrCat("-:", pattern)] = Json::object();
  }
}

// Modules of a layer that are treated otherwise than most: by one pattern when
// all of them are, and alike.
void AddLayer(int layer,
              const std::vector<std::pair<std::string, Treatment>>& modules,
              const Treatment& common, Json& dynamic) {
  const Treatment& first = modules.front().second;
  const bool alike =
      std::all_of(modules.begin(), modules.end(),
                  [&](const auto& module) { return module.second == first; });
  if (alike) {
    if (first != common) {
      AddOverride(absl::StrCat("^model\\.layers\\.", layer, "\\."), first,
                  dynamic);
    }
    return;
  }
  for (const auto& [name, treatment] : modules) {
    if (treatment != common) {
      AddOverride(absl::StrCat("^", Quoted(name), "$"), treatment, dynamic);
    }
  }
}

}  // namespace

absl::Status CheckGptqFormat(const ModelDescription& model,
                             const Configuration& configuration) {
  if (configuration.baseline()) {
    return NotInFormat(
        "there is nothing to pack: no tensor is quantized", "--quantizer",
        "Give a quantizer, protect less, or leave --format out.");
  }
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    if (const std::optional<Scheme>& scheme = configuration.schemes[i]) {
      QSWEEP_RETURN_IF_ERROR(CheckScheme(*scheme));
      QSWEEP_RETURN_IF_ERROR(CheckTensor(model.tensors[i], *scheme));
    }
  }
  return absl::OkStatus();
}

Json GptqConfigJson(const ModelDescription& model,
                    const Configuration& configuration) {
  std::map<int, std::vector<std::pair<std::string, Treatment>>> layers;
  const Scheme* any = nullptr;
  std::set<int> uses;  // bits
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const TensorDescription& tensor = model.tensors[i];
    if (tensor.layer < 0 || tensor.bias || !IsLinear(tensor.component)) {
      continue;
    }
    Treatment treatment;
    if (const std::optional<Scheme>& scheme = configuration.schemes[i]) {
      any = &*scheme;
      treatment = scheme->bits;
      uses.insert(scheme->bits);
    }
    layers[tensor.layer].emplace_back(absl::StripSuffix(tensor.name, ".weight"),
                                      treatment);
  }
  // All of one configuration differ in bits at most. Those of the quantizer may
  // be of no tensor, and then of no reader either.
  const int own = ParseQuantizer(configuration.quantizer_text)->scheme.bits;
  const Treatment common = uses.contains(own) ? own : *uses.begin();
  const bool grouped = any->granularity == Granularity::kGroup;
  Json json = {{"quant_method", "gptq"},
               {"bits", *common},
               {"group_size", grouped ? any->group : -1},
               {"sym", any->symmetric},
               // Whether columns of a group are apart.
               {"desc_act", any->act_order && grouped && !any->static_groups},
               {"lm_head", false},
               {"checkpoint_format", "gptq_v2"},
               {"pack_dtype", "int32"},
               {"meta", {{"quantizer", {absl::StrCat("qsweep:", kVersion)}}}}};
  Json dynamic = Json::object();
  for (const auto& [layer, modules] : layers) {
    AddLayer(layer, modules, common, dynamic);
  }
  if (!dynamic.empty()) {
    json["dynamic"] = std::move(dynamic);
  }
  return json;
}

}  // namespace qsweep
