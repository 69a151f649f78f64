#include "worker/model/gptq_config.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "simdjson.h"
#include "worker/model/config_fields.h"
#include "worker/tokenizer/json_fields.h"

namespace qsweep {

namespace dom = simdjson::dom;

namespace {

absl::Status Unsupported(const std::string& file, absl::string_view what) {
  return MakeError(kUnsupportedTensorType, what, file,
                   "Supported: GPTQ weights in the formats gptq and gptq_v2, "
                   "2, 3, 4 or 8 bits in 32-bit words.");
}

// bits, group_size and sym, each as in `otherwise` where it is left out.
absl::StatusOr<GptqModule> ReadModule(const ConfigFields& fields,
                                      const GptqModule& otherwise) {
  GptqModule module;
  QSWEEP_ASSIGN_OR_RETURN(module.bits, fields.Int("bits", otherwise.bits));
  if (module.bits != 2 && module.bits != 3 && module.bits != 4 &&
      module.bits != 8) {
    return Unsupported(fields.file(), absl::StrCat("weights packed in ",
                                                   module.bits, " bits"));
  }
  QSWEEP_ASSIGN_OR_RETURN(module.symmetric,
                          fields.Bool("sym", otherwise.symmetric));
  module.group_size = otherwise.group_size;
  if (const std::optional<dom::element> group = fields.Find("group_size")) {
    int64_t size = 0;
    if (group->get(size) != simdjson::SUCCESS || size < -1 || size == 0 ||
        size > std::numeric_limits<int32_t>::max()) {
      return BadConfig(fields.file(),
                       "group_size is neither -1 nor an integer from 1 to "
                       "2147483647");
    }
    module.group_size = std::max<int64_t>(size, 0);
  }
  return module;
}

// What decides how the words are to be read. Whether the file says v1.
absl::StatusOr<bool> ReadFormat(const ConfigFields& fields) {
  QSWEEP_ASSIGN_OR_RETURN(const std::string older,
                          fields.Text("quant_method", "gptq"));
  QSWEEP_ASSIGN_OR_RETURN(const std::string method,
                          fields.Text("method", older));
  for (const std::string& name : {older, method}) {
    if (name != "gptq") {
      return Unsupported(fields.file(),
                         absl::StrCat("weights packed by '", name, "'"));
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::string checkpoint_format,
                          fields.Text("checkpoint_format", ""));
  QSWEEP_ASSIGN_OR_RETURN(std::string format,
                          fields.Text("format", checkpoint_format));
  if (!checkpoint_format.empty() && format != checkpoint_format) {
    return BadConfig(fields.file(),
                     absl::StrCat("checkpoint_format is '", checkpoint_format,
                                  "', format is '", format, "'"));
  }
  QSWEEP_ASSIGN_OR_RETURN(const bool marlin,
                          fields.Bool("is_marlin_format", false));
  format = marlin ? "marlin" : format.empty() ? "gptq" : format;
  if (format != "gptq" && format != "gptq_v2") {
    return Unsupported(fields.file(),
                       absl::StrCat("the checkpoint format '", format, "'"));
  }
  QSWEEP_ASSIGN_OR_RETURN(const std::string words,
                          fields.Text("pack_dtype", "int32"));
  if (words != "int32") {
    return Unsupported(fields.file(),
                       absl::StrCat("weights packed in words of ", words));
  }
  return format == "gptq";
}

// [["self_attn.q_proj", ..], ["mlp.up_proj"]], or one list.
absl::StatusOr<std::vector<std::string>> ReadOnly(const ConfigFields& fields) {
  constexpr char kKey[] = "modules_in_block_to_quantize";
  std::vector<std::string> names;
  const std::optional<dom::element> list = fields.Find(kKey);
  if (!list) {
    return names;
  }
  const absl::Status wrong = BadConfig(
      fields.file(), absl::StrCat(kKey, " is not a list of lists of names"));
  dom::array blocks;
  if (list->get(blocks) != simdjson::SUCCESS) {
    return wrong;
  }
  for (const dom::element block : blocks) {
    dom::array modules;
    if (const auto name = JsonText(block)) {
      names.push_back(*name);
    } else if (block.get(modules) != simdjson::SUCCESS) {
      return wrong;
    } else {
      for (const dom::element module : modules) {
        const auto inner = JsonText(module);
        if (!inner) {
          return wrong;
        }
        names.push_back(*inner);
      }
    }
  }
  return names;
}

}  // namespace

// Fills the members, which nothing changes later.
class GptqConfigReader {
 public:
  static absl::StatusOr<GptqConfig> Read(const ConfigFields& fields) {
    GptqConfig config;
    config.file_ = fields.file();
    // First: of another method the rest means something else.
    QSWEEP_ASSIGN_OR_RETURN(config.zeros_minus_one_, ReadFormat(fields));
    for (const char* key : {"bits", "group_size"}) {
      if (!fields.Find(key)) {
        return BadConfig(fields.file(), absl::StrCat("no ", key));
      }
    }
    QSWEEP_ASSIGN_OR_RETURN(config.common_, ReadModule(fields, GptqModule()));
    QSWEEP_ASSIGN_OR_RETURN(config.packs_head_, fields.Bool("lm_head", false));
    QSWEEP_ASSIGN_OR_RETURN(config.only_, ReadOnly(fields));
    QSWEEP_ASSIGN_OR_RETURN(const std::optional<ConfigFields> dynamic,
                            fields.Object("dynamic"));
    if (dynamic) {
      for (const dom::key_value_pair entry : dynamic->object()) {
        QSWEEP_ASSIGN_OR_RETURN(
            GptqConfig::Override override,
            ReadOverride(std::string(entry.key), entry.value, config));
        config.overrides_.push_back(std::move(override));
      }
    }
    return config;
  }

 private:
  static absl::StatusOr<GptqConfig::Override> ReadOverride(
      std::string pattern, dom::element value, const GptqConfig& config) {
    GptqConfig::Override override{.pattern = std::move(pattern)};
    absl::string_view text = override.pattern;
    const bool skip = absl::ConsumePrefix(&text, "-:");
    if (!skip) {
      absl::ConsumePrefix(&text, "+:");
      dom::object object;
      if (value.get(object) != simdjson::SUCCESS) {
        return BadConfig(
            config.file_,
            absl::StrCat("dynamic: '", override.pattern, "' is not an object"));
      }
      QSWEEP_ASSIGN_OR_RETURN(
          override.module,
          ReadModule(ConfigFields(object, config.file_), config.common_));
    }
    absl::StatusOr<std::shared_ptr<const Regex>> regex = Regex::Compile(text);
    if (!regex.ok()) {
      return MakeError(kUnsupportedTensorType,
                       absl::StrCat("dynamic: the pattern '", override.pattern,
                                    "': ", regex.status().message()),
                       config.file_, "Write the pattern another way.");
    }
    override.regex = *std::move(regex);
    return override;
  }
};

absl::StatusOr<GptqConfig> GptqConfig::ReadQuantizeConfig(
    absl::string_view json, const std::string& file) {
  dom::parser parser;
  QSWEEP_ASSIGN_OR_RETURN(const dom::object object,
                          ParseConfigObject(json, file, parser));
  return GptqConfigReader::Read(ConfigFields(object, file));
}

absl::StatusOr<std::optional<GptqConfig>> GptqConfig::ReadConfigJson(
    absl::string_view json, const std::string& file) {
  dom::parser parser;
  QSWEEP_ASSIGN_OR_RETURN(const dom::object object,
                          ParseConfigObject(json, file, parser));
  QSWEEP_ASSIGN_OR_RETURN(
      const std::optional<ConfigFields> fields,
      ConfigFields(object, file).Object("quantization_config"));
  if (!fields) {
    return std::optional<GptqConfig>();
  }
  QSWEEP_ASSIGN_OR_RETURN(GptqConfig config, GptqConfigReader::Read(*fields));
  return std::optional<GptqConfig>(std::move(config));
}

absl::StatusOr<std::optional<GptqModule>> GptqConfig::Find(
    absl::string_view module, bool head) const {
  if (head && !packs_head_) {
    return std::optional<GptqModule>();
  }
  for (const Override& override : overrides_) {
    const absl::StatusOr<bool> fits = override.regex->MatchesStartOf(module);
    if (!fits.ok()) {
      return MakeError(kUnsupportedTensorType,
                       absl::StrCat("dynamic: the pattern '", override.pattern,
                                    "': ", fits.status().message()),
                       file_, "Write the pattern another way.");
    }
    if (*fits) {
      return override.module;
    }
  }
  const bool named =
      std::any_of(only_.begin(), only_.end(), [&](const std::string& end) {
        return absl::EndsWith(module, absl::StrCat(".", end));
      });
  if (!head && !only_.empty() && !named) {
    return std::optional<GptqModule>();
  }
  return std::optional<GptqModule>(common_);
}

bool GptqConfig::SameAs(const GptqConfig& other) const {
  return common_ == other.common_ &&
         zeros_minus_one_ == other.zeros_minus_one_ &&
         packs_head_ == other.packs_head_ && only_ == other.only_ &&
         std::equal(overrides_.begin(), overrides_.end(),
                    other.overrides_.begin(), other.overrides_.end(),
                    [](const Override& a, const Override& b) {
                      return a.pattern == b.pattern && a.module == b.module;
                    });
}

}  // namespace qsweep
