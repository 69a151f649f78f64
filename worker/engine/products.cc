#include "worker/engine/products.h"

#include <cstring>
#include <optional>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/core/InferenceMode.h>
#include <torch/headeronly/version.h>

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

}  // namespace

void MultiplyTile(const float* rows, int64_t row_stride, const Matrix& weight,
                  int64_t first, int64_t count, float* out,
                  int64_t out_stride) {
  UseOneThread();
  const c10::InferenceMode no_gradients;
  const int64_t inputs = weight.inputs();
  at::Tensor result = View(out, {kTileRows, count}, {out_stride, 1});
  at::mm_out(result, View(rows, {kTileRows, inputs}, {row_stride, 1}),
             View(weight.row(first), {inputs, count}, {1, inputs}));
}

void AddGram(const float* rows, int64_t num_rows, int64_t row_stride,
             int64_t columns, int64_t first, int64_t count, float* sum) {
  UseOneThread();
  const c10::InferenceMode no_gradients;
  const int64_t width = columns - first;
  at::Tensor result =
      View(sum + first * columns + first, {count, width}, {columns, 1});
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

std::string ProductsVersion() { return "torch " TORCH_VERSION; }

}  // namespace qsweep
