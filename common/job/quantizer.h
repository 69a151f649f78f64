#ifndef QSWEEP_COMMON_JOB_QUANTIZER_H_
#define QSWEEP_COMMON_JOB_QUANTIZER_H_

#include <compare>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"

namespace qsweep {

// Plain structs, free of proto: the engine's torch files include this header.

// kCheckpoint: values are those of another, ready checkpoint of the model.
enum class Method { kRtn, kNf4, kHqq, kGptq, kAwq, kCheckpoint };
enum class Granularity { kTensor, kChannel, kGroup };  // what shares one scale
enum class Grid { kAbsmax, kGptq, kAwq };              // scale and zero rules
enum class Arithmetic {
  kFp32,
  kFp16
};  // of absmax, division, rounding, product
enum class ScaleStorage { kFp32, kFp16 };
// Where a calibrated method looks at the inputs of the layers. kFp: in the
// model that is not quantized. kQpath: in the model whose layers before are
// quantized, all of them. Either way one copy of a layer serves every layer
// set. kExact: in the model whose layers before are as the configuration has
// them; configurations share a layer's copy where all before it is equal.
enum class CalibrationMode { kNone, kFp, kQpath, kExact };
enum class Compute { kFp32, kBf16, kFp16 };  // of the matrix products

// Which tensors a quantizer may touch. kLinear, the default: block linears
// only. The others are the earlier work's presets, by substring tests on
// Hugging Face parameter names.
enum class Scope {
  kLinear,
  kP5Weights,
  kP5All,
  kP5Final,
  kGpu,
  kGpu001,
  kFairnessCli
};

// Scheme::bits of kCheckpoint: as its file has them.
inline constexpr int kAsStored = 16;
inline constexpr int kMostMillibits = 64'000;

// How one tensor is quantized. Value type; equality is equality of the
// arithmetic.
struct Scheme {
  Method method = Method::kRtn;
  int bits = 4;  // 2..8; kCheckpoint: kAsStored
  Granularity granularity = Granularity::kGroup;
  int group =
      128;  // consecutive input elements that share a scale; 0 unless kGroup
  bool symmetric = true;
  Grid grid = Grid::kAbsmax;
  Arithmetic arithmetic = Arithmetic::kFp32;
  ScaleStorage scale = ScaleStorage::kFp32;
  // nf4: the groups' scales are quantized to 8 bits, too.
  bool double_quant = false;
  // hqq: 1: a group is consecutive elements of the flattened tensor; 0: a
  // column of the tensor reshaped to [group, elements/group].
  int axis = 1;
  bool round_zero = false;  // hqq: the solver starts from an integer zero point
  // gptq: columns by falling activation instead of in their order.
  bool act_order = false;
  // gptq: scales and zeros of all groups from the weights before any changes.
  bool static_groups = false;
  // gptq: share of the Hessian's mean diagonal that is added to it, in
  // millionths.
  int damp_millionths = 0;
  CalibrationMode calibration = CalibrationMode::kNone;
  // The first 8 bytes of the CalibrationDigest of the texts; 0: not chosen yet.
  uint64_t calibration_texts = 0;
  // Which draw of rounding noise: 0 has its groups begin with the row, others
  // shift them (replicate.h).
  int replicate = 0;
  // kCheckpoint: ShortDigest of the checkpoint's model digest; 0: nobody has
  // looked at it yet. And what its linear layers take, in thousandths of bits a
  // weight: follows from the digest, so it is not part of CanonicalText.
  uint64_t checkpoint = 0;
  int stored_millibits = 0;
  // The next two are 0 in quantizers, and follow from a configuration once the
  // scheme is of one of its tensors. kExact: ShortDigest of all before the
  // tensor's layer.
  uint64_t calibration_path = 0;
  // The tensor's weights that are among so many of the model's largest keep
  // their stored values; what is rounded does not depend on it.
  int kept_millionths = 0;

  bool calibrated() const { return calibration != CalibrationMode::kNone; }
  // As quantizers have it: without what follows from a configuration.
  Scheme InQuantizer() const;
  auto operator<=>(const Scheme&) const = default;
  // Every value written out, fixed order:
  // "rtn;bits=4;gran=group;group=64;sym=1;grid=absmax; arith=fp32;scale=fp32"
  // (one line); nf4 and hqq: "nf4;bits=4;group=64;double_quant=0",
  // "hqq;bits=4;group=64;axis=1;round_zero=1"; gptq:
  // "gptq;bits=4;gran=group;group=128;sym=1;scale=fp32;act_order=0;
  // static_groups=0;damp=0.01;calib=fp;texts=0123456789abcdef" (one line), awq
  // what it has of these; calib=exact with ";path=0123456789abcdef" at the end;
  // "checkpoint;digest=0123456789abcdef".
  // All with ";top5%" at the end where weights are kept.
  // Part of the configuration digest, which has the replicate in a line of its
  // own.
  std::string CanonicalText() const;
  // Stored bits per weight of a [rows, columns] tensor: the codes, and for each
  // scale its 16 or 32 bits, with a zero point of `bits` more when not
  // symmetric. nf4: fp32 scales, or with double_quant 8 bits each and an fp32
  // for 256 of them; hqq: scale and zero in fp16. A shifted group boundary adds
  // a group. As if no weights were kept. kCheckpoint: stored_millibits, of
  // linear layers. For the bytes overhead.
  double EffectiveBits(int64_t rows, int64_t columns) const;
};

// A scheme and the tensors it may touch.
struct Quantizer {
  Scheme scheme;
  Scope scope = Scope::kLinear;
  // kCheckpoint: where it lies; empty where only its digest is known.
  std::string checkpoint_path;

  auto operator<=>(const Quantizer&) const = default;
};

// Parses "rtn:bits=4,group=64,sym=1,scope=linear", "upstream:gpu",
// "upstream:gpu,bits=8".
// rtn takes bits (2-8), group (-1: gran=channel), gran (tensor, channel,
// group), sym (0, 1), grid (absmax, gptq, awq), arith and scale (fp32, fp16),
// scope, replicate (from 0; default 0). Defaults: bits=4, group=128, sym=1,
// grid absmax for sym=1 and gptq for sym=0, fp32, scope=linear. nf4 takes group
// (64, 128, .. 4096; default 64), double_quant (0, 1; default 0), scope,
// replicate. hqq takes bits (4), group (64), axis (0, 1; default 1), round_zero
// (0, 1; default 1 at 4 bits), scope, replicate. gptq takes bits (2, 3, 4, 8),
// group (-1: a row), sym, scale, act_order (0, 1; default 0), static_groups (0,
// 1; default 0), damp (0 to 1; default 0.01), calib (fp, qpath, exact),
// texts (16 hexadecimal digits; none: not chosen yet), scope=linear, replicate
// (0). awq takes bits, group (-1: a row), sym (default 0), scale, calib, texts,
// scope=linear, replicate (0). Which replicates there are: replicate.h.
// checkpoint takes path (a model, as --model does; no comma in it), digest (16
// hexadecimal digits) and bits, the last two set by WithCheckpoint
// (checkpoint_quantizer.h); its scope is everything.
// upstream is per tensor, symmetric, absmax over the preset's scope; bits,
// arith and scale may be given. INVALID_ARGUMENT: QS1020 unknown method or
// preset; QS1021 unknown parameter; QS1005 one given twice; QS1042 bits; QS1043
// group; QS1003 a checkpoint without path and digest; QS1004 any other value.
// The error's field is the parameter.
absl::StatusOr<Quantizer> ParseQuantizer(absl::string_view text);

// The one spelling of a quantizer, which parses back to it: presets by name,
// else bits and what shares a scale, then what differs from the defaults:
// "rtn:bits=4,group=64", "rtn:bits=4,gran=channel,sym=0",
// "upstream:gpu,bits=8".
std::string FormatQuantizer(const Quantizer& quantizer);

// Stands among the methods of an engine that has Scheme::kept_millionths.
inline constexpr char kKeepsLargest[] = "top";
// What layer sets say of Scheme::kept_millionths: 2500 is "top0.25%".
std::string KeptShareText(int millionths);

// What schemes have of a digest: its first 8 bytes, never 0.
uint64_t ShortDigest(const Digest& digest);
std::string ShortDigestText(uint64_t digest);  // "0123456789abcdef"

// What identifies calibration texts: SHA-256 of "qsweep-calibration 1\n" and a
// line with the digest of each document, in their order.
Digest CalibrationDigest(std::span<const Digest> documents);
// ShortDigest of it.
uint64_t CalibrationTexts(std::span<const Digest> documents);

// "fp", "qpath", "exact". QS1004.
absl::StatusOr<CalibrationMode> ParseCalibrationMode(absl::string_view text);

std::string ScopeName(Scope scope);
std::string ComputeName(Compute compute);                      // "fp32"
absl::StatusOr<Compute> ParseCompute(absl::string_view text);  // QS1004

}  // namespace qsweep

#endif  // QSWEEP_COMMON_JOB_QUANTIZER_H_
