#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/did_you_mean.h"
#include "common/job/quantizer.h"
#include "common/job/quantizer_names.h"
#include "common/job/replicate.h"

namespace qsweep {
namespace {

constexpr int kDefaultGroup = 128;
constexpr int kLargestGroup = 1 << 20;
constexpr size_t kLongestText = 2048;  // checkpoints have paths

template <typename Enum, size_t N>
absl::StatusOr<Enum> ParseName(
    const std::array<std::pair<Enum, const char*>, N>& names,
    absl::string_view key, absl::string_view text) {
  for (const auto& [value, name] : names) {
    if (text == name) {
      return value;
    }
  }
  return MakeError(kBadValue,
                   absl::StrCat(key, "=", text, " is not one of ",
                                absl::StrJoin(AllNames(names), ", ")),
                   key, DidYouMeanHint(text, AllNames(names)));
}

// The parameters of one quantizer text, each used at most once.
using Parameters = std::map<std::string, std::string>;

absl::StatusOr<Parameters> ParseParameters(absl::string_view method,
                                           absl::string_view text,
                                           std::span<const std::string> known) {
  Parameters parameters;
  if (text.empty()) {
    return parameters;
  }
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> split =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    const std::string key(absl::StripAsciiWhitespace(split.first));
    const std::string value(absl::StripAsciiWhitespace(split.second));
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return MakeError(
          kUnknownQuantizerParameter,
          absl::StrCat(method, " has no parameter \"", key, "\" (it takes ",
                       absl::StrJoin(known, ", "), ")"),
          key, DidYouMeanHint(key, known));
    }
    if (value.empty()) {
      return MakeError(kBadValue, absl::StrCat(key, " has no value"), key,
                       absl::StrCat("Write ", key, "=VALUE."));
    }
    if (!parameters.emplace(key, value).second) {
      return MakeError(kDuplicateField, absl::StrCat(key, " is given twice"),
                       key);
    }
  }
  return parameters;
}

std::optional<std::string> Find(const Parameters& parameters,
                                const std::string& key) {
  const auto found = parameters.find(key);
  if (found == parameters.end()) {
    return std::nullopt;
  }
  return found->second;
}

absl::Status ReadBits(const Parameters& parameters, Scheme& scheme) {
  if (const auto text = Find(parameters, "bits")) {
    int bits = 0;
    if (!absl::SimpleAtoi(*text, &bits) || bits < 2 || bits > 8) {
      return MakeError(
          kUnsupportedBits,
          absl::StrCat("bits=", *text, " is not supported (choose 2 to 8)"),
          "bits");
    }
    scheme.bits = bits;
  }
  return absl::OkStatus();
}

// gran and group: what shares one scale.
absl::Status ReadGranularity(const Parameters& parameters, Scheme& scheme) {
  const auto granularity_text = Find(parameters, "gran");
  if (granularity_text) {
    QSWEEP_ASSIGN_OR_RETURN(
        scheme.granularity,
        ParseName(kGranularityNames, "gran", *granularity_text));
  }
  const auto group_text = Find(parameters, "group");
  int group = kDefaultGroup;
  if (group_text && (!absl::SimpleAtoi(*group_text, &group) ||
                     (group != -1 && (group < 1 || group > kLargestGroup)))) {
    return MakeError(kBadGroup,
                     absl::StrCat("group=", *group_text,
                                  " is not a number of weights from 1 to ",
                                  kLargestGroup, ", nor -1 for a whole row"),
                     "group");
  }
  if (group == -1) {
    if (!granularity_text) {
      scheme.granularity = Granularity::kChannel;
    }
    if (scheme.granularity != Granularity::kChannel) {
      return MakeError(
          kBadGroup,
          absl::StrCat("group=-1 contradicts gran=", *granularity_text),
          "group", "Leave one of them out.");
    }
  } else if (group_text && scheme.granularity != Granularity::kGroup) {
    return MakeError(
        kBadGroup,
        absl::StrCat("group=", group, " contradicts gran=", *granularity_text),
        "group", "Leave one of them out.");
  }
  scheme.group = scheme.granularity == Granularity::kGroup ? group : 0;
  return absl::OkStatus();
}

// sym and grid: the rule that makes scale and zero.
absl::Status ReadGrid(const Parameters& parameters, Scheme& scheme) {
  if (const auto text = Find(parameters, "sym")) {
    if (*text != "0" && *text != "1") {
      return MakeError(kBadValue, absl::StrCat("sym=", *text, " is not 0 or 1"),
                       "sym");
    }
    scheme.symmetric = *text == "1";
  }
  scheme.grid = scheme.symmetric ? Grid::kAbsmax : Grid::kGptq;
  if (const auto text = Find(parameters, "grid")) {
    QSWEEP_ASSIGN_OR_RETURN(scheme.grid, ParseName(kGridNames, "grid", *text));
    if (scheme.grid == Grid::kAbsmax && !scheme.symmetric) {
      return MakeError(kBadValue, "grid=absmax is symmetric only", "grid",
                       "Use grid=gptq or grid=awq with sym=0.");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadStorage(const Parameters& parameters, Scheme& scheme) {
  if (const auto text = Find(parameters, "arith")) {
    QSWEEP_ASSIGN_OR_RETURN(scheme.arithmetic,
                            ParseName(kArithmeticNames, "arith", *text));
  }
  if (const auto text = Find(parameters, "scale")) {
    QSWEEP_ASSIGN_OR_RETURN(scheme.scale,
                            ParseName(kScaleNames, "scale", *text));
  }
  return absl::OkStatus();
}

absl::Status ReadFlag(const Parameters& parameters, const std::string& key,
                      bool& flag) {
  if (const auto text = Find(parameters, key)) {
    if (*text != "0" && *text != "1") {
      return MakeError(kBadValue,
                       absl::StrCat(key, "=", *text, " is not 0 or 1"), key);
    }
    flag = *text == "1";
  }
  return absl::OkStatus();
}

// scope and replicate: what every method takes. Once the scheme is read.
absl::Status ReadScopeAndReplicate(const Parameters& parameters,
                                   Quantizer& quantizer) {
  if (const auto scope = Find(parameters, "scope")) {
    QSWEEP_ASSIGN_OR_RETURN(quantizer.scope,
                            ParseName(kScopeNames, "scope", *scope));
  }
  if (const auto replicate = Find(parameters, "replicate")) {
    if (!absl::SimpleAtoi(*replicate, &quantizer.scheme.replicate)) {
      return MakeError(
          kBadValue,
          absl::StrCat("replicate=", *replicate, " is not a whole number"),
          "replicate");
    }
  }
  return CheckReplicate(quantizer.scheme);
}

absl::StatusOr<Quantizer> ParseRtn(absl::string_view text) {
  static const std::vector<std::string>& known = *new std::vector<std::string>{
      "bits",  "group", "gran",  "sym",      "grid",
      "arith", "scale", "scope", "replicate"};
  QSWEEP_ASSIGN_OR_RETURN(const Parameters parameters,
                          ParseParameters("rtn", text, known));
  Quantizer quantizer;
  QSWEEP_RETURN_IF_ERROR(ReadBits(parameters, quantizer.scheme));
  QSWEEP_RETURN_IF_ERROR(ReadGranularity(parameters, quantizer.scheme));
  QSWEEP_RETURN_IF_ERROR(ReadGrid(parameters, quantizer.scheme));
  QSWEEP_RETURN_IF_ERROR(ReadStorage(parameters, quantizer.scheme));
  QSWEEP_RETURN_IF_ERROR(ReadScopeAndReplicate(parameters, quantizer));
  return quantizer;
}

absl::StatusOr<Quantizer> ParseNf4(absl::string_view text) {
  static const std::vector<std::string>& known = *new std::vector<std::string>{
      "group", "double_quant", "scope", "replicate"};
  QSWEEP_ASSIGN_OR_RETURN(const Parameters parameters,
                          ParseParameters("nf4", text, known));
  Quantizer quantizer{.scheme = {.method = Method::kNf4, .group = 64}};
  if (const auto group = Find(parameters, "group")) {
    int& size = quantizer.scheme.group;
    if (!absl::SimpleAtoi(*group, &size) || size < 64 || size > 4096 ||
        !std::has_single_bit(static_cast<unsigned>(size))) {
      return MakeError(kBadGroup,
                       absl::StrCat("group=", *group, " is not a block of nf4"),
                       "group", "Use 64, 128, 256, 512, 1024, 2048 or 4096.");
    }
  }
  QSWEEP_RETURN_IF_ERROR(
      ReadFlag(parameters, "double_quant", quantizer.scheme.double_quant));
  QSWEEP_RETURN_IF_ERROR(ReadScopeAndReplicate(parameters, quantizer));
  return quantizer;
}

absl::StatusOr<Quantizer> ParseHqq(absl::string_view text) {
  static const std::vector<std::string>& known = *new std::vector<std::string>{
      "bits", "group", "axis", "round_zero", "scope", "replicate"};
  QSWEEP_ASSIGN_OR_RETURN(const Parameters parameters,
                          ParseParameters("hqq", text, known));
  Quantizer quantizer{
      .scheme = {.method = Method::kHqq, .group = 64, .symmetric = false}};
  Scheme& scheme = quantizer.scheme;
  QSWEEP_RETURN_IF_ERROR(ReadBits(parameters, scheme));
  if (const auto group = Find(parameters, "group")) {
    if (!absl::SimpleAtoi(*group, &scheme.group) || scheme.group < 8 ||
        scheme.group > kLargestGroup || scheme.group % 8 != 0) {
      return MakeError(
          kBadGroup, absl::StrCat("group=", *group, " is not a group of hqq"),
          "group",
          absl::StrCat("Use a multiple of 8 up to ", kLargestGroup, "."));
    }
  }
  if (const auto axis = Find(parameters, "axis")) {
    if (*axis != "0" && *axis != "1") {
      return MakeError(kBadValue,
                       absl::StrCat("axis=", *axis, " is not 0 or 1"), "axis");
    }
    scheme.axis = *axis == "1" ? 1 : 0;
  }
  scheme.round_zero = DefaultRoundZero(scheme.bits);
  QSWEEP_RETURN_IF_ERROR(ReadFlag(parameters, "round_zero", scheme.round_zero));
  QSWEEP_RETURN_IF_ERROR(ReadScopeAndReplicate(parameters, quantizer));
  return quantizer;
}

absl::Status ReadDamp(const Parameters& parameters, Scheme& scheme) {
  if (const auto text = Find(parameters, "damp")) {
    double damp = 0;
    if (!absl::SimpleAtod(*text, &damp) || !(damp >= 0 && damp <= 1)) {
      return MakeError(kBadValue,
                       absl::StrCat("damp=", *text, " is not in 0 to 1"),
                       "damp", "Use 0.01, or 0.1 where that is not enough.");
    }
    scheme.damp_millionths = static_cast<int>(std::lround(damp * 1e6));
  }
  return absl::OkStatus();
}

// why: for people, where the digest comes from instead.
absl::Status ReadShortDigest(const char* key, const std::string& text,
                             const char* why, uint64_t& digest) {
  if (text.size() != 16 || !absl::SimpleHexAtoi(text, &digest) ||
      ShortDigestText(digest) != text || digest == 0) {
    return MakeError(
        kBadValue,
        absl::StrCat(key, "=", text, " is not 16 hexadecimal digits"), key,
        absl::StrCat("Leave it out: ", why, "."));
  }
  return absl::OkStatus();
}

// calib and texts: where the method has its activations from.
absl::Status ReadCalibration(const Parameters& parameters, Scheme& scheme) {
  if (const auto text = Find(parameters, "calib")) {
    QSWEEP_ASSIGN_OR_RETURN(scheme.calibration, ParseCalibrationMode(*text));
  }
  if (const auto text = Find(parameters, "texts")) {
    QSWEEP_RETURN_IF_ERROR(
        ReadShortDigest("texts", *text, "it follows from the calibration texts",
                        scheme.calibration_texts));
  }
  return absl::OkStatus();
}

absl::Status CheckCalibratedScope(const char* method, Scope scope) {
  if (scope != Scope::kLinear) {
    return MakeError(
        kBadValue,
        absl::StrCat("scope=", ScopeName(scope), " has tensors that ", method,
                     " cannot calibrate"),
        "scope", "Use scope=linear.");
  }
  return absl::OkStatus();
}

absl::StatusOr<Quantizer> ParseGptq(absl::string_view text) {
  static const std::vector<std::string>& known = *new std::vector<std::string>{
      "bits", "group", "sym",   "scale", "act_order", "static_groups",
      "damp", "calib", "texts", "scope", "replicate"};
  QSWEEP_ASSIGN_OR_RETURN(const Parameters parameters,
                          ParseParameters("gptq", text, known));
  Quantizer quantizer{.scheme = {.method = Method::kGptq,
                                 .grid = Grid::kGptq,
                                 .damp_millionths = kDefaultDampMillionths,
                                 .calibration = CalibrationMode::kFp}};
  Scheme& scheme = quantizer.scheme;
  QSWEEP_RETURN_IF_ERROR(ReadBits(parameters, scheme));
  if (!IsGptqBits(scheme.bits)) {
    return MakeError(kUnsupportedBits,
                     absl::StrCat("bits=", scheme.bits,
                                  " is not supported by gptq (choose 2, 3, 4, "
                                  "8)"),
                     "bits");
  }
  QSWEEP_RETURN_IF_ERROR(ReadGranularity(parameters, scheme));
  QSWEEP_RETURN_IF_ERROR(ReadFlag(parameters, "sym", scheme.symmetric));
  QSWEEP_RETURN_IF_ERROR(ReadStorage(parameters, scheme));
  QSWEEP_RETURN_IF_ERROR(ReadFlag(parameters, "act_order", scheme.act_order));
  QSWEEP_RETURN_IF_ERROR(
      ReadFlag(parameters, "static_groups", scheme.static_groups));
  QSWEEP_RETURN_IF_ERROR(ReadDamp(parameters, scheme));
  QSWEEP_RETURN_IF_ERROR(ReadCalibration(parameters, scheme));
  QSWEEP_RETURN_IF_ERROR(ReadScopeAndReplicate(parameters, quantizer));
  QSWEEP_RETURN_IF_ERROR(CheckCalibratedScope("gptq", quantizer.scope));
  return quantizer;
}

absl::StatusOr<Quantizer> ParseAwq(absl::string_view text) {
  static const std::vector<std::string>& known = *new std::vector<std::string>{
      "bits", "group", "sym", "scale", "calib", "texts", "scope", "replicate"};
  QSWEEP_ASSIGN_OR_RETURN(const Parameters parameters,
                          ParseParameters("awq", text, known));
  Quantizer quantizer{.scheme = {.method = Method::kAwq,
                                 .symmetric = false,
                                 .grid = Grid::kAwq,
                                 .calibration = CalibrationMode::kFp}};
  Scheme& scheme = quantizer.scheme;
  QSWEEP_RETURN_IF_ERROR(ReadBits(parameters, scheme));
  QSWEEP_RETURN_IF_ERROR(ReadGranularity(parameters, scheme));
  QSWEEP_RETURN_IF_ERROR(ReadFlag(parameters, "sym", scheme.symmetric));
  QSWEEP_RETURN_IF_ERROR(ReadStorage(parameters, scheme));
  QSWEEP_RETURN_IF_ERROR(ReadCalibration(parameters, scheme));
  QSWEEP_RETURN_IF_ERROR(ReadScopeAndReplicate(parameters, quantizer));
  QSWEEP_RETURN_IF_ERROR(CheckCalibratedScope("awq", quantizer.scope));
  return quantizer;
}

absl::StatusOr<Quantizer> ParseCheckpoint(absl::string_view text) {
  static const std::vector<std::string>& known =
      *new std::vector<std::string>{"path", "digest", "bits", "id"};
  constexpr char kFollows[] = "it follows from the checkpoint at the path";
  QSWEEP_ASSIGN_OR_RETURN(const Parameters parameters,
                          ParseParameters("checkpoint", text, known));
  Quantizer quantizer{.scheme = {.method = Method::kCheckpoint,
                                 .bits = kAsStored,
                                 .granularity = Granularity::kTensor,
                                 .group = 0},
                      .scope = Scope::kP5All};
  Scheme& scheme = quantizer.scheme;
  if (const auto id = Find(parameters, "id")) {
    return MakeError(kBadValue,
                     absl::StrCat("this version cannot fetch the checkpoint ",
                                  *id, " from a hub"),
                     "id", "Download it and write path=DIR.");
  }
  quantizer.checkpoint_path = Find(parameters, "path").value_or("");
  const auto digest = Find(parameters, "digest");
  if (digest) {
    QSWEEP_RETURN_IF_ERROR(
        ReadShortDigest("digest", *digest, kFollows, scheme.checkpoint));
  } else if (quantizer.checkpoint_path.empty()) {
    return MakeError(kMissingField, "the checkpoint has no path", "path",
                     "Write checkpoint:path=DIR.");
  }
  const auto bits = Find(parameters, "bits");
  double number = 0;
  if (bits && (!absl::SimpleAtod(*bits, &number) || !(number >= 0.001) ||
               !(number * 1000 <= kMostMillibits))) {
    return MakeError(kBadValue,
                     absl::StrCat("bits=", *bits, " is not in 0.001 to 64"),
                     "bits", absl::StrCat("Leave it out: ", kFollows, "."));
  }
  if (bits.has_value() != digest.has_value()) {
    return MakeError(kBadValue,
                     "a checkpoint has both digest and bits, or none",
                     bits ? "bits" : "digest",
                     "Leave both out: they follow from the checkpoint.");
  }
  scheme.stored_millibits = static_cast<int>(std::lround(number * 1000));
  return quantizer;
}

absl::StatusOr<Quantizer> ParseUpstream(absl::string_view text) {
  static const std::vector<std::string>& known =
      *new std::vector<std::string>{"bits", "arith", "scale"};
  const std::pair<absl::string_view, absl::string_view> split =
      absl::StrSplit(text, absl::MaxSplits(',', 1));
  const absl::string_view preset = absl::StripAsciiWhitespace(split.first);
  Quantizer quantizer{.scheme = UpstreamScheme()};
  std::vector<std::string> presets = AllNames(kScopeNames);
  presets.erase(presets.begin());  // linear is ours, not a preset
  if (std::find(presets.begin(), presets.end(), preset) == presets.end()) {
    return MakeError(
        kUnknownMethod, absl::StrCat("there is no preset upstream:", preset),
        "", absl::StrCat("Choose one of ", absl::StrJoin(presets, ", "), "."));
  }
  QSWEEP_ASSIGN_OR_RETURN(quantizer.scope,
                          ParseName(kScopeNames, "scope", preset));
  QSWEEP_ASSIGN_OR_RETURN(
      const Parameters parameters,
      ParseParameters(absl::StrCat("upstream:", preset), split.second, known));
  QSWEEP_RETURN_IF_ERROR(ReadBits(parameters, quantizer.scheme));
  QSWEEP_RETURN_IF_ERROR(ReadStorage(parameters, quantizer.scheme));
  return quantizer;
}

}  // namespace

absl::StatusOr<Quantizer> ParseQuantizer(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> split =
      absl::StrSplit(absl::StripAsciiWhitespace(text), absl::MaxSplits(':', 1));
  if (text.size() > kLongestText) {
    return MakeError(kBadValue,
                     absl::StrCat("the quantizer's text is longer than ",
                                  kLongestText, " bytes"));
  }
  if (split.first == "rtn") {
    return ParseRtn(split.second);
  }
  if (split.first == "upstream") {
    return ParseUpstream(split.second);
  }
  if (split.first == "nf4") {
    return ParseNf4(split.second);
  }
  if (split.first == "hqq") {
    return ParseHqq(split.second);
  }
  if (split.first == "gptq") {
    return ParseGptq(split.second);
  }
  if (split.first == "awq") {
    return ParseAwq(split.second);
  }
  if (split.first == "checkpoint") {
    return ParseCheckpoint(split.second);
  }
  const std::vector<std::string> methods = {
      "rtn", "nf4", "hqq", "gptq", "awq", "checkpoint", "upstream"};
  return MakeError(
      kUnknownMethod,
      absl::StrCat("there is no quantizer method \"", split.first, "\""), "",
      DidYouMeanHint(split.first, methods));
}

absl::StatusOr<CalibrationMode> ParseCalibrationMode(absl::string_view text) {
  return ParseName(kCalibrationModeNames, "calib", text);
}

absl::StatusOr<Compute> ParseCompute(absl::string_view text) {
  return ParseName(kComputeNames, "compute", text);
}

}  // namespace qsweep
