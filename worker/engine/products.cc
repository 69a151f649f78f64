#include "worker/engine/products.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/InferenceMode.h>
#include <torch/headeronly/version.h>

#include "worker/kernels/aligned_array.h"

extern "C" {
// Of MKL, as its manual has it. Weak: another libtorch may carry none.
[[gnu::weak]] void cblas_gemm_bf16bf16f32(int layout, int transpose_a,
                                          int transpose_b, int m, int n, int k,
                                          float alpha, const uint16_t* a,
                                          int lda, const uint16_t* b, int ldb,
                                          float beta, float* c, int ldc);
}

namespace qsweep {
namespace {

using kernels::kTileRows;

// Tells libtorch, once per thread, that parallelism is the engine's business.
void UseOneThread() {
  thread_local bool done = false;
  if (!done) {
    at::set_num_threads(1);
    done = true;
  }
}

// A view; const_cast because torch has no tensors of const values.
at::Tensor View(const float* data, at::IntArrayRef sizes,
                at::IntArrayRef strides) {
  return at::from_blob(const_cast<float*>(data), sizes, strides,
                       at::TensorOptions().dtype(at::kFloat));
}

// A thread's room: for a tile of rounded rows, and for weights as bfloat16.
struct RoundedRows {
  using Array = kernels::FloatBuffer;
};
struct NativeRows {
  using Array = kernels::AlignedArray<uint16_t>;
};
struct NativeWeights {
  using Array = kernels::AlignedArray<uint16_t>;
};
template <typename Use>
auto Scratch(int64_t size) {
  thread_local typename Use::Array array;
  if (array.size() < size) {
    array = typename Use::Array(size);
  }
  return array.data();
}

const char* CpuVendor() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") ? "intel"
         : __builtin_cpu_is("amd") ? "amd"
                                   : "other";
#else
  return "other";
#endif
}

// As far as MKL's branches differ.
const char* CpuLevel() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("amx-tile")     ? "amx"
         : __builtin_cpu_supports("avx512bf16") ? "avx512bf16"
         : __builtin_cpu_supports("avx512vnni") ? "avx512vnni"
         : __builtin_cpu_supports("avx512f")    ? "avx512"
         : __builtin_cpu_supports("avx2")       ? "avx2"
         : __builtin_cpu_supports("avx")        ? "avx"
                                                : "sse";
#else
  return "unknown";
#endif
}

// Weight rows that a native product takes at a time.
constexpr int64_t kNativeOutputs = 128;

// One product over some of the inputs, [begin, end), alone or added to what is
// there.
struct Inputs {
  int64_t begin = 0;
  int64_t end = 0;
  bool added = false;
};

// Whether a small product of so many equal rows has equal rows.
bool HasEqualRows(int64_t num_rows) {
  constexpr int64_t kInputs = 64;
  constexpr int64_t kOutputs = 48;
  const c10::InferenceMode no_gradients;
  kernels::FloatBuffer rows(num_rows * kInputs);
  for (int64_t i = 0; i < rows.size(); ++i) {
    rows.data()[i] = 1.0F / static_cast<float>(1 + i % kInputs);
  }
  kernels::FloatBuffer weight(kOutputs * kInputs);
  for (int64_t i = 0; i < weight.size(); ++i) {
    weight.data()[i] = 1.0F / static_cast<float>(3 + i % 101);
  }
  kernels::FloatBuffer out(num_rows * kOutputs);
  at::Tensor result = View(out.data(), {num_rows, kOutputs}, {kOutputs, 1});
  at::mm_out(result, View(rows.data(), {num_rows, kInputs}, {kInputs, 1}),
             View(weight.data(), {kInputs, kOutputs}, {1, kInputs}));
  const float* const first = out.data();
  for (int64_t r = 1; r < num_rows; ++r) {
    if (!std::equal(first, first + kOutputs, first + r * kOutputs)) {
      return false;
    }
  }
  return true;
}

// Of one product. MKL takes the last rows of 128 on another way, with other
// bits, where the CPU has no AVX-512 and the product is small; of 64 it does
// not (docs/adr/0030-half-tiles-where-the-library-asks-for-them.md). The
// start-up check proves either.
int64_t ProductRows() {
  static const int64_t rows =
      HasEqualRows(kTileRows) ? kTileRows : kTileRows / 2;
  return rows;
}

void MultiplyFloats(const float* rows, int64_t row_stride, const Matrix& weight,
                    int64_t first, int64_t count, Inputs inputs, float* out,
                    int64_t out_stride) {
  const c10::InferenceMode no_gradients;
  const int64_t size = inputs.end - inputs.begin;
  const at::Tensor right = View(weight.row(first) + inputs.begin, {size, count},
                                {1, weight.inputs()});
  const int64_t height = ProductRows();
  for (int64_t r = 0; r < kTileRows; r += height) {
    at::Tensor result =
        View(out + r * out_stride, {height, count}, {out_stride, 1});
    const at::Tensor left = View(rows + r * row_stride + inputs.begin,
                                 {height, size}, {row_stride, 1});
    if (inputs.added) {
      result.addmm_(left, right);
    } else {
      at::mm_out(result, left, right);
    }
  }
}

// The weights are rounded already: only their storage changes, some rows at a
// time.
void MultiplyNative(const uint16_t* rows, int64_t row_stride,
                    const Matrix& weight, int64_t first, int64_t count,
                    Inputs inputs, float* out, int64_t out_stride) {
  constexpr int kRowMajor = 101;
  constexpr int kPlain = 111;
  constexpr int kTransposed = 112;
  const int64_t size = inputs.end - inputs.begin;
  const kernels::RowKernels& kernels = kernels::BestRowKernels();
  uint16_t* const block =
      Scratch<NativeWeights>(kNativeOutputs * weight.inputs());
  for (int64_t done = 0; done < count; done += kNativeOutputs) {
    const int64_t outputs = std::min(kNativeOutputs, count - done);
    for (int64_t o = 0; o < outputs; ++o) {
      kernels.to_bf16(weight.row(first + done + o) + inputs.begin, size,
                      block + o * size);
    }
    cblas_gemm_bf16bf16f32(
        kRowMajor, kPlain, kTransposed, kTileRows, static_cast<int>(outputs),
        static_cast<int>(size), 1, rows + inputs.begin,
        static_cast<int>(row_stride), block, static_cast<int>(size),
        inputs.added ? 1.0F : 0.0F, out + done, static_cast<int>(out_stride));
  }
}

// Calls multiply once, or for one part of the inputs after the other. A library
// sums over blocks of the inputs, from the first or by halves, and goes on from
// what is there: parts with the bounds and order of its blocks would give the
// usual sum to the last bit. So they are cut where no block ends, and the last
// comes first.
template <typename Multiply>
void InOrder(const Matrix& weight, const Multiply& multiply) {
  const int64_t inputs = weight.inputs();
  const int64_t cut = (inputs * 2 / 5) | 1;
  if (weight.mode().order == SumOrder::kUsual || cut >= inputs) {
    multiply(Inputs{.begin = 0, .end = inputs});
  } else {
    multiply(Inputs{.begin = cut, .end = inputs});
    multiply(Inputs{.begin = 0, .end = cut, .added = true});
  }
}

}  // namespace

bool CanMultiplyNative() { return cblas_gemm_bf16bf16f32 != nullptr; }

bool HasNativeBf16() {
#if defined(__x86_64__)
  // MKL uses those of Intel's CPUs: on others it widens to fp32 itself.
  return CanMultiplyNative() && __builtin_cpu_is("intel") &&
         __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

void Matrix::RoundRows(int64_t first, int64_t count) {
  if (mode_.compute == Compute::kBf16) {
    kernels::BestRowKernels().round_to_bf16(row(first), count * inputs_,
                                            row(first));
  }
}

ProductShape RoundedShape(const ProductShape& shape) {
  ProductShape rounded = shape;
  rounded.row_stride = kernels::RowStride(shape.inputs);
  return rounded;
}

int64_t RoundedBytes(int64_t inputs) {
  return kTileRows * kernels::RowStride(inputs) *
         static_cast<int64_t>(sizeof(float));
}

void MultiplyTile(const float* rows, int64_t row_stride, const Matrix& weight,
                  int64_t first, int64_t count, float* out,
                  int64_t out_stride) {
  UseOneThread();
  if (weight.mode().compute == Compute::kFp32) {
    InOrder(weight, [&](Inputs inputs) {
      MultiplyFloats(rows, row_stride, weight, first, count, inputs, out,
                     out_stride);
    });
    return;
  }
  const kernels::RowKernels& kernels = kernels::BestRowKernels();
  const int64_t size = weight.inputs();
  const int64_t stride = kernels::RowStride(size);
  if (weight.mode().native) {
    uint16_t* const rounded = Scratch<NativeRows>(kTileRows * stride);
    for (int64_t r = 0; r < kTileRows; ++r) {
      kernels.to_bf16(rows + r * row_stride, size, rounded + r * stride);
    }
    InOrder(weight, [&](Inputs inputs) {
      MultiplyNative(rounded, stride, weight, first, count, inputs, out,
                     out_stride);
    });
    return;
  }
  float* const rounded = Scratch<RoundedRows>(kTileRows * stride);
  for (int64_t r = 0; r < kTileRows; ++r) {
    kernels.round_to_bf16(rows + r * row_stride, size, rounded + r * stride);
  }
  InOrder(weight, [&](Inputs inputs) {
    MultiplyFloats(rounded, stride, weight, first, count, inputs, out,
                   out_stride);
  });
}

void AddGram(const float* rows, int64_t num_rows, int64_t row_stride,
             int64_t columns, int64_t first, int64_t count, float* sum) {
  UseOneThread();
  const c10::InferenceMode no_gradients;
  const int64_t width = columns - first;
  at::Tensor result = View(sum + first, {count, width}, {columns, 1});
  result.addmm_(View(rows + first, {count, num_rows}, {1, row_stride}),
                View(rows + first, {num_rows, width}, {row_stride, 1}));
}

void AttendDocument(const AttentionHeads& document) {
  UseOneThread();
  const c10::InferenceMode no_gradients;
  const int64_t head_dim = document.head_dim;
  const auto heads_of = [&](const float* data, int64_t heads) {
    return View(data, {1, heads, document.rows, head_dim},
                {heads * head_dim, head_dim, document.stride, 1});
  };
  const at::Tensor context = at::scaled_dot_product_attention(
      heads_of(document.queries, document.heads),
      heads_of(document.keys, document.kv_heads),
      heads_of(document.values, document.kv_heads), std::nullopt,
      /*dropout_p=*/0.0, /*is_causal=*/true, /*scale=*/std::nullopt,
      /*enable_gqa=*/document.heads != document.kv_heads);
  heads_of(document.queries, document.heads).copy_(context);
}

std::string ProductsVersion() {
  std::string version =
      absl::StrCat("torch ", TORCH_VERSION, " ",
                   absl::AsciiStrToLower(at::get_cpu_capability()), " ",
                   CpuVendor(), "-", CpuLevel());
  for (const char* name : {"MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"}) {
    // Read before any thread could change the environment.
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
    if (value != nullptr && *value != '\0') {
      absl::StrAppend(&version, " ", name, "=", value);
    }
  }
  return version;
}

}  // namespace qsweep
