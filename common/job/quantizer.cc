#include "common/job/quantizer.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "common/job/did_you_mean.h"

namespace qsweep {
namespace {

constexpr int kDefaultGroup = 128;
constexpr int kLargestGroup = 1 << 20;
constexpr size_t kLongestText = 512;

constexpr auto kMethodNames =
    std::to_array<std::pair<Method, const char*>>({{Method::kRtn, "rtn"},
                                                   {Method::kNf4, "nf4"},
                                                   {Method::kHqq, "hqq"},
                                                   {Method::kGptq, "gptq"},
                                                   {Method::kAwq, "awq"}});
constexpr auto kGranularityNames =
    std::to_array<std::pair<Granularity, const char*>>(
        {{Granularity::kTensor, "tensor"},
         {Granularity::kChannel, "channel"},
         {Granularity::kGroup, "group"}});
constexpr auto kGridNames = std::to_array<std::pair<Grid, const char*>>(
    {{Grid::kAbsmax, "absmax"}, {Grid::kGptq, "gptq"}, {Grid::kAwq, "awq"}});
constexpr auto kArithmeticNames =
    std::to_array<std::pair<Arithmetic, const char*>>(
        {{Arithmetic::kFp32, "fp32"}, {Arithmetic::kFp16, "fp16"}});
constexpr auto kScaleNames =
    std::to_array<std::pair<ScaleStorage, const char*>>(
        {{ScaleStorage::kFp32, "fp32"}, {ScaleStorage::kFp16, "fp16"}});
constexpr auto kComputeNames =
    std::to_array<std::pair<Compute, const char*>>({{Compute::kFp32, "fp32"},
                                                    {Compute::kBf16, "bf16"},
                                                    {Compute::kFp16, "fp16"}});
constexpr auto kScopeNames = std::to_array<std::pair<Scope, const char*>>(
    {{Scope::kLinear, "linear"},
     {Scope::kP5Weights, "p5-weights"},
     {Scope::kP5All, "p5-all"},
     {Scope::kP5Final, "p5-final"},
     {Scope::kGpu, "gpu"},
     {Scope::kGpu001, "gpu001"},
     {Scope::kFairnessCli, "fairness-cli"}});

template <typename Enum, size_t N>
const char* NameOf(const std::array<std::pair<Enum, const char*>, N>& names,
                   Enum value) {
  for (const auto& [known, name] : names) {
    if (known == value) {
      return name;
    }
  }
  QSWEEP_CHECK(false);
}

template <typename Enum, size_t N>
std::vector<std::string> AllNames(
    const std::array<std::pair<Enum, const char*>, N>& names) {
  std::vector<std::string> all;
  for (const auto& entry : names) {
    all.emplace_back(entry.second);
  }
  return all;
}

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
  if (const auto scope = Find(parameters, "scope")) {
    QSWEEP_ASSIGN_OR_RETURN(quantizer.scope,
                            ParseName(kScopeNames, "scope", *scope));
  }
  if (const auto replicate = Find(parameters, "replicate")) {
    // A replicate shifts the group boundaries; its digest differs already.
    if (*replicate != "0") {
      return MakeError(kBadValue,
                       absl::StrCat("replicate=", *replicate,
                                    " is not in this version, which has 0"),
                       "replicate");
    }
  }
  return quantizer;
}

Scheme UpstreamScheme() {
  return {.granularity = Granularity::kTensor, .group = 0};
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

// What differs from the defaults, as ",key=value"s.
std::string FormatStorage(const Scheme& scheme) {
  std::string text;
  if (scheme.arithmetic != Arithmetic::kFp32) {
    absl::StrAppend(&text,
                    ",arith=", NameOf(kArithmeticNames, scheme.arithmetic));
  }
  if (scheme.scale != ScaleStorage::kFp32) {
    absl::StrAppend(&text, ",scale=", NameOf(kScaleNames, scheme.scale));
  }
  return text;
}

bool IsUpstream(const Quantizer& quantizer) {
  Scheme scheme = UpstreamScheme();
  scheme.bits = quantizer.scheme.bits;
  scheme.arithmetic = quantizer.scheme.arithmetic;
  scheme.scale = quantizer.scheme.scale;
  return quantizer.scope != Scope::kLinear && quantizer.scheme == scheme &&
         quantizer.replicate == 0;
}

}  // namespace

std::string Scheme::CanonicalText() const {
  return absl::StrCat(NameOf(kMethodNames, method), ";bits=", bits,
                      ";gran=", NameOf(kGranularityNames, granularity),
                      ";group=", group, ";sym=", symmetric ? 1 : 0,
                      ";grid=", NameOf(kGridNames, grid),
                      ";arith=", NameOf(kArithmeticNames, arithmetic),
                      ";scale=", NameOf(kScaleNames, scale));
}

double Scheme::EffectiveBits(int64_t rows, int64_t columns) const {
  int64_t scales = 1;
  if (granularity == Granularity::kChannel) {
    scales = rows;
  } else if (granularity == Granularity::kGroup) {
    scales = rows * ((columns + group - 1) / group);
  }
  const int scale_bits =
      (scale == ScaleStorage::kFp16 ? 16 : 32) + (symmetric ? 0 : bits);
  return bits + static_cast<double>(scales) * scale_bits /
                    static_cast<double>(rows * columns);
}

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
  std::vector<std::string> later = AllNames(kMethodNames);
  later.emplace_back("checkpoint");
  if (std::find(later.begin(), later.end(), split.first) != later.end()) {
    return MakeError(kUnknownMethod,
                     absl::StrCat("this version has rtn and upstream presets, "
                                  "not ",
                                  split.first),
                     "", "Use rtn:bits=4,group=128 or upstream:gpu.");
  }
  const std::vector<std::string> methods = {"rtn", "upstream"};
  return MakeError(
      kUnknownMethod,
      absl::StrCat("there is no quantizer method \"", split.first, "\""), "",
      DidYouMeanHint(split.first, methods));
}

std::string FormatQuantizer(const Quantizer& quantizer) {
  const Scheme& scheme = quantizer.scheme;
  if (IsUpstream(quantizer)) {
    return absl::StrCat(
        "upstream:", ScopeName(quantizer.scope),
        scheme.bits == 4 ? "" : absl::StrCat(",bits=", scheme.bits),
        FormatStorage(scheme));
  }
  std::string text =
      absl::StrCat(NameOf(kMethodNames, scheme.method), ":bits=", scheme.bits);
  if (scheme.granularity == Granularity::kGroup) {
    absl::StrAppend(&text, ",group=", scheme.group);
  } else {
    absl::StrAppend(&text,
                    ",gran=", NameOf(kGranularityNames, scheme.granularity));
  }
  if (!scheme.symmetric) {
    absl::StrAppend(&text, ",sym=0");
  }
  if (scheme.grid != (scheme.symmetric ? Grid::kAbsmax : Grid::kGptq)) {
    absl::StrAppend(&text, ",grid=", NameOf(kGridNames, scheme.grid));
  }
  absl::StrAppend(&text, FormatStorage(scheme));
  if (quantizer.scope != Scope::kLinear) {
    absl::StrAppend(&text, ",scope=", ScopeName(quantizer.scope));
  }
  if (quantizer.replicate != 0) {
    absl::StrAppend(&text, ",replicate=", quantizer.replicate);
  }
  return text;
}

std::string ScopeName(Scope scope) { return NameOf(kScopeNames, scope); }

std::string ComputeName(Compute compute) {
  return NameOf(kComputeNames, compute);
}

absl::StatusOr<Compute> ParseCompute(absl::string_view text) {
  return ParseName(kComputeNames, "compute", text);
}

}  // namespace qsweep
