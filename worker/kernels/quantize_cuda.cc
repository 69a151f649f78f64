#include "worker/kernels/quantize_cuda.h"

#include <cstddef>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/kernels/hqq_cuda.h"
#include "worker/kernels/nf4_cuda.h"
#include "worker/kernels/rtn_cuda.h"
#include "worker/kernels/scheme_options.h"

namespace qsweep::kernels {
namespace {

constexpr int64_t kAlignment = 256;

// Pieces of the workspace, one after the other.
struct Pieces {
  int64_t Take(int64_t bytes) {
    const int64_t at = end;
    end += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return at;
  }
  int64_t end = 0;
};

int Rtn(const Scheme& scheme, int64_t rows, int64_t cols,
        const QuantizeBuffers& buffers, Stream stream) {
  return RtnCuda({.weights = buffers.weights,
                  .out = buffers.out,
                  .weight_type = buffers.weight_type,
                  .out_type = buffers.out_type,
                  .workspace = buffers.workspace},
                 RtnShapeOf(scheme, rows, cols), RtnOptionsOf(scheme), stream);
}

int Nf4(const Scheme& scheme, int64_t count, const QuantizeBuffers& buffers,
        Stream stream) {
  const Nf4Options options = Nf4OptionsOf(scheme);
  Pieces pieces;
  char* const base = static_cast<char*>(buffers.workspace);
  char* const absmax = base + pieces.Take(options.groups(count) *
                                          static_cast<int64_t>(sizeof(float)));
  char* const workspace = base + pieces.Take(kNf4WorkspaceBytes);
  return Nf4Cuda({.weights = buffers.weights,
                  .out = buffers.out,
                  .weight_type = buffers.weight_type,
                  .out_type = buffers.out_type,
                  .absmax = reinterpret_cast<float*>(absmax),
                  .workspace = workspace},
                 count, options, stream);
}

int Hqq(const Scheme& scheme, int64_t count, const QuantizeBuffers& buffers,
        Stream stream) {
  const HqqOptions options = HqqOptionsOf(scheme);
  const int64_t groups = options.groups(count);
  const int64_t numbers = groups * static_cast<int64_t>(sizeof(float));
  Pieces pieces;
  char* const base = static_cast<char*>(buffers.workspace);
  char* const inverse = base + pieces.Take(numbers);
  char* const zeros = base + pieces.Take(numbers);
  char* const workspace = base + pieces.Take(HqqWorkspaceBytes(groups));
  return HqqCuda({.weights = buffers.weights,
                  .out = buffers.out,
                  .weight_type = buffers.weight_type,
                  .out_type = buffers.out_type,
                  .inverse = reinterpret_cast<float*>(inverse),
                  .zeros = reinterpret_cast<float*>(zeros),
                  .workspace = workspace},
                 count, options, stream);
}

}  // namespace

int64_t QuantizeWorkspaceBytes(const Scheme& scheme, int64_t rows,
                               int64_t cols) {
  Pieces pieces;
  switch (scheme.method) {
    case Method::kRtn:
      pieces.Take(kRtnWorkspaceBytes);
      break;
    case Method::kNf4:
      pieces.Take(Nf4OptionsOf(scheme).groups(rows * cols) *
                  static_cast<int64_t>(sizeof(float)));
      pieces.Take(kNf4WorkspaceBytes);
      break;
    case Method::kHqq: {
      const int64_t groups = HqqOptionsOf(scheme).groups(rows * cols);
      pieces.Take(groups * static_cast<int64_t>(sizeof(float)));
      pieces.Take(groups * static_cast<int64_t>(sizeof(float)));
      pieces.Take(HqqWorkspaceBytes(groups));
      break;
    }
    case Method::kGptq:
    case Method::kAwq:
    case Method::kCheckpoint:
      break;
  }
  return pieces.end;
}

absl::Status FakeQuantizeCuda(const Scheme& scheme, int64_t rows, int64_t cols,
                              const QuantizeBuffers& buffers, Stream stream) {
  QSWEEP_RETURN_IF_ERROR(CheckPlainScheme(scheme, rows, cols));
  int error = 0;
  switch (scheme.method) {
    case Method::kRtn:
      error = Rtn(scheme, rows, cols, buffers, stream);
      break;
    case Method::kNf4:
      error = Nf4(scheme, rows * cols, buffers, stream);
      break;
    case Method::kHqq:
      error = Hqq(scheme, rows * cols, buffers, stream);
      break;
    case Method::kGptq:
    case Method::kAwq:
    case Method::kCheckpoint:
      break;  // refused above
  }
  if (error != 0) {
    return MakeError(kDeviceFailed,
                     absl::StrCat("A quantizing kernel failed with CUDA error ",
                                  error, "."));
  }
  return absl::OkStatus();
}

}  // namespace qsweep::kernels
