#include "worker/engine/products.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

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
// Of MKL, as its manual has them. Weak: another libtorch may carry none.
[[gnu::weak]] size_t cblas_sgemm_pack_get_size(int which, int m, int n, int k);
[[gnu::weak]] void cblas_sgemm_pack(int layout, int which, int transpose, int m,
                                    int n, int k, float alpha,
                                    const float* source, int ld, float* packed);
[[gnu::weak]] void cblas_sgemm_compute(int layout, int transpose_a,
                                       int transpose_b, int m, int n, int k,
                                       const float* a, int lda, const float* b,
                                       int ldb, float beta, float* c, int ldc);
[[gnu::weak]] void cblas_gemm_bf16bf16f32(int layout, int transpose_a,
                                          int transpose_b, int m, int n, int k,
                                          float alpha, const uint16_t* a,
                                          int lda, const uint16_t* b, int ldb,
                                          float beta, float* c, int ldc);
}

namespace qsweep {
namespace {

using kernels::kTileRows;

// Of CBLAS.
constexpr int kRowMajor = 101;
constexpr int kPlain = 111;
constexpr int kTransposed = 112;
constexpr int kPacked = 151;
constexpr int kWeights = 162;  // the second matrix of a product

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

template <typename Array>
auto Grow(Array& array, int64_t size) {
  if (array.size() < size) {
    array = Array(size);
  }
  return array.data();
}

// A thread's room for a tile of rounded rows.
template <typename T>
T* RoundedRows(int64_t size) {
  thread_local kernels::AlignedArray<T> array;
  return Grow(array, size);
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

// A product of some rows with some outputs of a matrix.
template <typename T>
struct Product {
  const T* rows = nullptr;
  int64_t row_stride = 0;
  const T* weights = nullptr;  // [outputs, inputs], or as Pack left them
  int64_t inputs = 0;
  int64_t outputs = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Fewer weights, or outputs, are laid out in many times their room.
constexpr int64_t kLeastPacked = 32768;
constexpr int64_t kLeastPackedOutputs = 16;

bool CanPack(int64_t inputs, int64_t outputs) {
  return cblas_sgemm_pack != nullptr && inputs * outputs >= kLeastPacked &&
         outputs >= kLeastPackedOutputs;
}

// Floats that Pack may need, for products of `height` rows.
int64_t PackedSize(int64_t height, int64_t inputs, int64_t outputs) {
  const size_t bytes = cblas_sgemm_pack_get_size(
      kWeights, static_cast<int>(height), static_cast<int>(outputs),
      static_cast<int>(inputs));
  return static_cast<int64_t>((bytes + sizeof(float) - 1) / sizeof(float));
}

void Pack(int64_t height, const float* weights, int64_t inputs, int64_t outputs,
          float* packed) {
  UseOneThread();
  cblas_sgemm_pack(kRowMajor, kWeights, kTransposed, static_cast<int>(height),
                   static_cast<int>(outputs), static_cast<int>(inputs), 1.0F,
                   weights, static_cast<int>(inputs), packed);
}

void MultiplyPacked(int64_t height, const Product<float>& product) {
  cblas_sgemm_compute(kRowMajor, kPlain, kPacked, static_cast<int>(height),
                      static_cast<int>(product.outputs),
                      static_cast<int>(product.inputs), product.rows,
                      static_cast<int>(product.row_stride), product.weights,
                      static_cast<int>(product.inputs), 0.0F, product.out,
                      static_cast<int>(product.out_stride));
}

void MultiplyFloats(int64_t height, const Product<float>& product,
                    Inputs inputs) {
  const c10::InferenceMode no_gradients;
  const int64_t size = inputs.end - inputs.begin;
  const at::Tensor left = View(product.rows + inputs.begin, {height, size},
                               {product.row_stride, 1});
  const at::Tensor right = View(product.weights + inputs.begin,
                                {size, product.outputs}, {1, product.inputs});
  at::Tensor result =
      View(product.out, {height, product.outputs}, {product.out_stride, 1});
  if (inputs.added) {
    result.addmm_(left, right);
  } else {
    at::mm_out(result, left, right);
  }
}

// All kTileRows of a tile.
void MultiplyNative(const Product<uint16_t>& product, Inputs inputs) {
  for (int64_t done = 0; done < product.outputs; done += kNativeOutputs) {
    cblas_gemm_bf16bf16f32(
        kRowMajor, kPlain, kTransposed, kTileRows,
        static_cast<int>(std::min(kNativeOutputs, product.outputs - done)),
        static_cast<int>(inputs.end - inputs.begin), 1,
        product.rows + inputs.begin, static_cast<int>(product.row_stride),
        product.weights + done * product.inputs + inputs.begin,
        static_cast<int>(product.inputs), inputs.added ? 1.0F : 0.0F,
        product.out + done, static_cast<int>(product.out_stride));
  }
}

// Whether a small product of `height` equal rows has equal rows.
bool HasEqualRows(int64_t height) {
  constexpr int64_t kInputs = 64;
  constexpr int64_t kOutputs = 48;
  UseOneThread();
  kernels::FloatBuffer rows(height * kInputs);
  for (int64_t i = 0; i < rows.size(); ++i) {
    rows.data()[i] = 1.0F / static_cast<float>(1 + i % kInputs);
  }
  kernels::FloatBuffer weights(kOutputs * kInputs);
  for (int64_t i = 0; i < weights.size(); ++i) {
    weights.data()[i] = 1.0F / static_cast<float>(3 + i % 101);
  }
  kernels::FloatBuffer out(height * kOutputs);
  MultiplyFloats(height,
                 {.rows = rows.data(),
                  .row_stride = kInputs,
                  .weights = weights.data(),
                  .inputs = kInputs,
                  .outputs = kOutputs,
                  .out = out.data(),
                  .out_stride = kOutputs},
                 {.begin = 0, .end = kInputs});
  const float* const first = out.data();
  for (int64_t r = 1; r < height; ++r) {
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

// Where the inputs of a product are cut in two, or 0. A library sums over
// blocks of the inputs, from the first or by halves, and goes on from what is
// there: parts with the bounds and order of its blocks would give the usual sum
// to the last bit. So they are cut where no block ends, and the last comes
// first.
int64_t CutOf(int64_t inputs, const ProductMode& mode) {
  const int64_t cut = (inputs * 2 / 5) | 1;
  return mode.order == SumOrder::kUsual || cut >= inputs ? 0 : cut;
}

size_t NumPanels(int64_t outputs) {
  return static_cast<size_t>((outputs + kPanelOutputs - 1) / kPanelOutputs);
}

// Calls multiply once, or for one part of the inputs after the other.
template <typename Function>
void InOrder(int64_t inputs, const ProductMode& mode,
             const Function& multiply) {
  const int64_t cut = CutOf(inputs, mode);
  multiply(Inputs{.begin = cut, .end = inputs});
  if (cut > 0) {
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

void Panel::Prepare(const float* rows, int64_t inputs, int64_t outputs,
                    const ProductMode& mode) {
  inputs_ = inputs;
  outputs_ = outputs;
  mode_ = mode;
  rows_ = rows;
  packed_ = false;
  if (mode.compute == Compute::kBf16 && mode.native) {
    kernels::BestRowKernels().to_bf16(rows, outputs * inputs,
                                      Grow(halves_, outputs * inputs));
  } else if (CanPack(inputs, outputs) && CutOf(inputs, mode) == 0) {
    const int64_t height = ProductRows();
    Pack(height, rows, inputs, outputs,
         Grow(packed_rows_, PackedSize(height, inputs, outputs)));
    packed_ = true;
  }
}

// The library asks for more room than it writes to: for the weights, of outputs
// in groups of 48 or 64, and a little around them.
int64_t Panel::Bytes(int64_t inputs, int64_t outputs) {
  constexpr int64_t kTogether = 64;
  constexpr int64_t kAround = 8 << 10;
  return CanPack(inputs, outputs)
             ? kernels::RoundUp(outputs, kTogether) * inputs *
                       static_cast<int64_t>(sizeof(float)) +
                   kAround
             : 0;
}

Matrix::Matrix(int64_t outputs, int64_t inputs, const ProductMode& mode)
    : outputs_(outputs),
      inputs_(inputs),
      mode_(mode),
      values_(outputs * inputs),
      panels_(NumPanels(outputs)) {}

Matrix::Matrix(int64_t outputs, int64_t inputs, kernels::FloatBuffer values,
               const ProductMode& mode)
    : outputs_(outputs),
      inputs_(inputs),
      mode_(mode),
      values_(std::move(values)),
      panels_(NumPanels(outputs)) {
  RoundRows(0, outputs);
}

void Matrix::RoundRows(int64_t first, int64_t count) {
  if (mode_.compute == Compute::kBf16) {
    kernels::BestRowKernels().round_to_bf16(row(first), count * inputs_,
                                            row(first));
  }
}

void Matrix::PreparePanel(size_t index) {
  const int64_t first = static_cast<int64_t>(index) * kPanelOutputs;
  panels_[index].Prepare(row(first), inputs_,
                         std::min(kPanelOutputs, outputs_ - first), mode_);
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

void MultiplyTile(const float* rows, int64_t row_stride, const Panel& weight,
                  float* out, int64_t out_stride) {
  UseOneThread();
  const kernels::RowKernels& kernels = kernels::BestRowKernels();
  const int64_t stride = kernels::RowStride(weight.inputs_);
  if (weight.mode_.compute == Compute::kBf16 && weight.mode_.native) {
    auto* const rounded = RoundedRows<uint16_t>(kTileRows * stride);
    for (int64_t r = 0; r < kTileRows; ++r) {
      kernels.to_bf16(rows + r * row_stride, weight.inputs_,
                      rounded + r * stride);
    }
    InOrder(weight.inputs_, weight.mode_, [&](Inputs inputs) {
      MultiplyNative({.rows = rounded,
                      .row_stride = stride,
                      .weights = weight.halves_.data(),
                      .inputs = weight.inputs_,
                      .outputs = weight.outputs_,
                      .out = out,
                      .out_stride = out_stride},
                     inputs);
    });
    return;
  }
  if (weight.mode_.compute == Compute::kBf16) {
    auto* const rounded = RoundedRows<float>(kTileRows * stride);
    for (int64_t r = 0; r < kTileRows; ++r) {
      kernels.round_to_bf16(rows + r * row_stride, weight.inputs_,
                            rounded + r * stride);
    }
    rows = rounded;
    row_stride = stride;
  }
  const int64_t height = ProductRows();
  for (int64_t r = 0; r < kTileRows; r += height) {
    const Product<float> product = {
        .rows = rows + r * row_stride,
        .row_stride = row_stride,
        .weights = weight.packed_ ? weight.packed_rows_.data() : weight.rows_,
        .inputs = weight.inputs_,
        .outputs = weight.outputs_,
        .out = out + r * out_stride,
        .out_stride = out_stride};
    if (weight.packed_) {
      MultiplyPacked(height, product);
    } else {
      InOrder(weight.inputs_, weight.mode_,
              [&](Inputs inputs) { MultiplyFloats(height, product, inputs); });
    }
  }
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
