#include "common/job/quantizer.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/job/quantizer_names.h"
#include "common/job/replicate.h"

namespace qsweep {
namespace {

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

// rtn and its parameters that differ from the defaults.
std::string FormatRtn(const Scheme& scheme) {
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
  return text + FormatStorage(scheme);
}

// "0.01"
std::string FormatDamp(int millionths) {
  return absl::StrCat(static_cast<double>(millionths) / 1e6);
}

// gptq or awq and what differs from their defaults; the mode always
// with the texts, once they are chosen.
std::string FormatCalibrated(const Scheme& scheme) {
  const bool gptq = scheme.method == Method::kGptq;
  std::string text =
      absl::StrCat(NameOf(kMethodNames, scheme.method), ":bits=", scheme.bits);
  if (scheme.granularity == Granularity::kGroup) {
    absl::StrAppend(&text, ",group=", scheme.group);
  } else {
    absl::StrAppend(&text, ",group=-1");
  }
  if (scheme.symmetric != gptq) {
    absl::StrAppend(&text, ",sym=", scheme.symmetric ? 1 : 0);
  }
  absl::StrAppend(&text, FormatStorage(scheme),
                  scheme.act_order ? ",act_order=1" : "",
                  scheme.static_groups ? ",static_groups=1" : "");
  if (gptq && scheme.damp_millionths != kDefaultDampMillionths) {
    absl::StrAppend(&text, ",damp=", FormatDamp(scheme.damp_millionths));
  }
  const bool chosen = scheme.calibration_texts != 0;
  if (chosen || scheme.calibration != CalibrationMode::kFp) {
    absl::StrAppend(
        &text, ",calib=", NameOf(kCalibrationModeNames, scheme.calibration));
  }
  if (chosen) {
    absl::StrAppend(&text,
                    ",texts=", ShortDigestText(scheme.calibration_texts));
  }
  return text;
}

// What the codes of a calibrated tensor follow from beside its weights.
std::string CalibrationText(const Scheme& scheme) {
  return absl::StrCat(
      ";calib=", NameOf(kCalibrationModeNames, scheme.calibration),
      ";texts=", ShortDigestText(scheme.calibration_texts),
      scheme.calibration == CalibrationMode::kExact
          ? absl::StrCat(";path=",
                         absl::Hex(scheme.calibration_path, absl::kZeroPad16))
          : "");
}

std::string FormatCheckpoint(const Quantizer& quantizer) {
  const Scheme& scheme = quantizer.scheme;
  std::vector<std::string> parts;
  if (!quantizer.checkpoint_path.empty()) {
    parts.push_back(absl::StrCat("path=", quantizer.checkpoint_path));
  }
  if (scheme.checkpoint != 0) {
    parts.push_back(
        absl::StrCat("digest=", ShortDigestText(scheme.checkpoint)));
    parts.push_back(absl::StrCat("bits=", scheme.stored_millibits / 1000.0));
  }
  return absl::StrCat("checkpoint:", absl::StrJoin(parts, ","));
}

bool IsUpstream(const Quantizer& quantizer) {
  Scheme scheme = UpstreamScheme();
  scheme.bits = quantizer.scheme.bits;
  scheme.arithmetic = quantizer.scheme.arithmetic;
  scheme.scale = quantizer.scheme.scale;
  return quantizer.scope != Scope::kLinear && quantizer.scheme == scheme;
}

// How a scheme rounds, every value written out.
std::string RoundingText(const Scheme& scheme) {
  const char* const method = NameOf(kMethodNames, scheme.method);
  const std::string granularity =
      absl::StrCat(";gran=", NameOf(kGranularityNames, scheme.granularity),
                   ";group=", scheme.group);
  const int symmetric = scheme.symmetric ? 1 : 0;
  const char* const scale = NameOf(kScaleNames, scheme.scale);
  switch (scheme.method) {
    case Method::kRtn:
      return absl::StrCat(
          method, ";bits=", scheme.bits, granularity, ";sym=", symmetric,
          ";grid=", NameOf(kGridNames, scheme.grid),
          ";arith=", NameOf(kArithmeticNames, scheme.arithmetic),
          ";scale=", scale);
    case Method::kNf4:
      return absl::StrCat(method, ";bits=4;group=", scheme.group,
                          ";double_quant=", scheme.double_quant ? 1 : 0);
    case Method::kHqq:
      return absl::StrCat(method, ";bits=", scheme.bits,
                          ";group=", scheme.group, ";axis=", scheme.axis,
                          ";round_zero=", scheme.round_zero ? 1 : 0);
    case Method::kGptq:
      return absl::StrCat(method, ";bits=", scheme.bits, granularity,
                          ";sym=", symmetric, ";scale=", scale,
                          ";act_order=", scheme.act_order ? 1 : 0,
                          ";static_groups=", scheme.static_groups ? 1 : 0,
                          ";damp=", FormatDamp(scheme.damp_millionths),
                          CalibrationText(scheme));
    case Method::kCheckpoint:
      return absl::StrCat(method,
                          ";digest=", ShortDigestText(scheme.checkpoint));
    case Method::kAwq:
      break;
  }
  return absl::StrCat(method, ";bits=", scheme.bits, granularity,
                      ";sym=", symmetric, ";scale=", scale,
                      CalibrationText(scheme));
}

}  // namespace

Scheme Scheme::InQuantizer() const {
  Scheme scheme = *this;
  scheme.calibration_path = 0;
  scheme.kept_millionths = 0;
  return scheme;
}

std::string Scheme::CanonicalText() const {
  return absl::StrCat(RoundingText(*this),
                      kept_millionths == 0
                          ? ""
                          : absl::StrCat(";", KeptShareText(kept_millionths)));
}

double Scheme::EffectiveBits(int64_t rows, int64_t columns) const {
  if (method == Method::kCheckpoint) {
    return stored_millibits / 1000.0;
  }
  if (method == Method::kNf4 || method == Method::kHqq) {
    const int64_t elements = rows * columns;
    const int64_t groups = (elements + GroupOffset(*this) + group - 1) / group;
    // 32: an fp32 scale, or scale and zero in fp16.
    const int64_t extra =
        double_quant ? 8 * groups + 32 * ((groups + 255) / 256) : 32 * groups;
    return bits + static_cast<double>(extra) / static_cast<double>(elements);
  }
  int64_t scales = 1;
  if (granularity == Granularity::kChannel) {
    scales = rows;
  } else if (granularity == Granularity::kGroup) {
    scales = rows * ((columns + GroupOffset(*this) + group - 1) / group);
  }
  const int scale_bits =
      (scale == ScaleStorage::kFp16 ? 16 : 32) + (symmetric ? 0 : bits);
  return bits + static_cast<double>(scales) * scale_bits /
                    static_cast<double>(rows * columns);
}

std::string FormatQuantizer(const Quantizer& quantizer) {
  const Scheme& scheme = quantizer.scheme;
  if (IsUpstream(quantizer)) {
    return absl::StrCat(
        "upstream:", ScopeName(quantizer.scope),
        scheme.bits == 4 ? "" : absl::StrCat(",bits=", scheme.bits),
        FormatStorage(scheme));
  }
  if (scheme.method == Method::kCheckpoint) {
    return FormatCheckpoint(quantizer);
  }
  std::string text;
  if (scheme.method == Method::kNf4) {
    text = absl::StrCat("nf4:group=", scheme.group);
    if (scheme.double_quant) {
      absl::StrAppend(&text, ",double_quant=1");
    }
  } else if (scheme.method == Method::kHqq) {
    text = absl::StrCat("hqq:bits=", scheme.bits, ",group=", scheme.group);
    if (scheme.axis != 1) {
      absl::StrAppend(&text, ",axis=", scheme.axis);
    }
    if (scheme.round_zero != DefaultRoundZero(scheme.bits)) {
      absl::StrAppend(&text, ",round_zero=", scheme.round_zero ? 1 : 0);
    }
  } else if (scheme.calibrated()) {
    text = FormatCalibrated(scheme);
  } else {
    text = FormatRtn(scheme);
  }
  if (quantizer.scope != Scope::kLinear) {
    absl::StrAppend(&text, ",scope=", ScopeName(quantizer.scope));
  }
  if (scheme.replicate != 0) {
    absl::StrAppend(&text, ",replicate=", scheme.replicate);
  }
  return text;
}

std::string KeptShareText(int millionths) {
  std::string decimals =
      absl::StrCat(absl::Dec(millionths % 10'000, absl::kZeroPad4));
  decimals.erase(decimals.find_last_not_of('0') + 1);
  return absl::StrCat("top", millionths / 10'000, decimals.empty() ? "" : ".",
                      decimals, "%");
}

std::string ShortDigestText(uint64_t digest) {
  return absl::StrCat(absl::Hex(digest, absl::kZeroPad16));
}

Digest CalibrationDigest(std::span<const Digest> documents) {
  std::string text = "qsweep-calibration 1\n";
  for (const Digest& document : documents) {
    absl::StrAppend(&text, document.hex(), "\n");
  }
  return Digest::Of(text);
}

uint64_t ShortDigest(const Digest& digest) {
  uint64_t first = 0;
  const std::string bytes = digest.bytes();
  for (const char byte : bytes.substr(0, sizeof(first))) {
    first = first << 8 | static_cast<unsigned char>(byte);
  }
  return first == 0 ? 1 : first;
}

uint64_t CalibrationTexts(std::span<const Digest> documents) {
  return ShortDigest(CalibrationDigest(documents));
}

std::string ScopeName(Scope scope) { return NameOf(kScopeNames, scope); }

std::string ComputeName(Compute compute) {
  return NameOf(kComputeNames, compute);
}

}  // namespace qsweep
