#include "worker/engine/cuda_products.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <tuple>

#include "absl/strings/str_cat.h"
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"

namespace qsweep {
namespace {

using kernels::FloatType;

// The check makes several copies of what it reads.
constexpr int64_t kCheckedTogether = int64_t{8} << 20;

at::ScalarType ScalarTypeOf(FloatType type) {
  switch (type) {
    case FloatType::kFp32:
      return at::kFloat;
    case FloatType::kFp16:
      return at::kHalf;
    case FloatType::kBf16:
      return at::kBFloat16;
  }
  return at::kFloat;
}

// A view; const_cast because torch has no tensors of const values.
at::Tensor View(const void* data, at::IntArrayRef sizes,
                at::IntArrayRef strides, at::ScalarType type) {
  return at::from_blob(const_cast<void*>(data), sizes, strides,
                       at::TensorOptions().dtype(type).device(at::kCUDA, 0));
}

absl::Status Failed(const char* what, const char* why) {
  return MakeError(kDeviceFailed,
                   absl::StrCat("On the GPU, ", what, " failed: ", why));
}

// libtorch throws; the engine does not.
template <typename Call>
absl::Status Guarded(const char* what, Call call) {
  const c10::InferenceMode no_gradients;
  try {
    call();
  } catch (const c10::OutOfMemoryError&) {
    return MakeError(
        kOutOfMemory, absl::StrCat("The GPU has no room for ", what, "."),
        "--memory", "Free the GPU, or give the engine less of it.");
  } catch (const c10::Error& error) {
    return Failed(what, error.what_without_backtrace());
  } catch (const std::exception& error) {
    return Failed(what, error.what());
  }
  return absl::OkStatus();
}

}  // namespace

DeviceMatrix DeviceMatrix::Rows(int64_t first, int64_t count) const {
  return {.values =
              static_cast<const char*>(values) + first * inputs * BytesOf(type),
          .type = type,
          .outputs = count,
          .inputs = inputs};
}

int64_t BytesOf(FloatType type) { return type == FloatType::kFp32 ? 4 : 2; }

void PrepareProducts() {
  at::Context& context = at::globalContext();
  context.setAllowTF32CuBLAS(false);
  context.setAllowFP16ReductionCuBLAS(/*allow_reduced_precision=*/false);
}

absl::Status MultiplyOnDevice(const void* rows, int64_t num_rows,
                              const DeviceMatrix& weight, float* out) {
  QSWEEP_CHECK(num_rows % kDeviceTileRows == 0);
  const at::ScalarType type = ScalarTypeOf(weight.type);
  return Guarded("a product", [&] {
    const at::Tensor transposed =
        View(weight.values, {weight.inputs, weight.outputs}, {1, weight.inputs},
             type);
    for (int64_t first = 0; first < num_rows; first += kDeviceTileRows) {
      const at::Tensor tile =
          View(static_cast<const char*>(rows) +
                   first * weight.inputs * BytesOf(weight.type),
               {kDeviceTileRows, weight.inputs}, {weight.inputs, 1}, type);
      at::Tensor result =
          View(out + first * weight.outputs, {kDeviceTileRows, weight.outputs},
               {weight.outputs, 1}, at::kFloat);
      if (type == at::kFloat) {
        at::mm_out(result, tile, transposed);
      } else {
        at::mm_out(result, tile, transposed, at::kFloat);
      }
    }
  });
}

absl::Status AttendOnDevice(const DeviceHeads& document) {
  const int64_t head_dim = document.head_dim;
  const auto heads_of = [&](const float* data, int64_t heads) {
    return View(data, {document.states, heads, document.rows, head_dim},
                {document.state_stride, head_dim, document.row_stride, 1},
                at::kFloat);
  };
  // Every query head gets the keys and values of its group.
  const int64_t repeats = document.heads / document.kv_heads;
  const auto repeated = [&](const float* data) {
    const at::Tensor heads = heads_of(data, document.kv_heads);
    return repeats == 1 ? heads
                        : heads.unsqueeze(2)
                              .expand({document.states, document.kv_heads,
                                       repeats, document.rows, head_dim})
                              .reshape({document.states, document.heads,
                                        document.rows, head_dim});
  };
  return Guarded("an attention", [&] {
    // The kernel that takes a block of queries of one document and head at a
    // time, on every GPU from sm_75 on; others choose by the number of
    // documents.
    const at::Tensor context =
        std::get<0>(at::_scaled_dot_product_efficient_attention(
            heads_of(document.queries, document.heads), repeated(document.keys),
            repeated(document.values), /*attn_bias=*/std::nullopt,
            /*compute_log_sumexp=*/false, /*dropout_p=*/0.0,
            /*is_causal=*/true));
    View(
        document.context,
        {document.states, document.heads, document.rows, head_dim},
        {document.context_state_stride, head_dim, document.heads * head_dim, 1},
        ScalarTypeOf(document.context_type))
        .copy_(context);
  });
}

absl::Status ConvertOnDevice(const void* from, FloatType from_type,
                             int64_t count, void* to, FloatType to_type) {
  return Guarded("a conversion", [&] {
    View(to, {count}, {1}, ScalarTypeOf(to_type))
        .copy_(View(from, {count}, {1}, ScalarTypeOf(from_type)));
  });
}

absl::Status GatherOnDevice(const float* table, int64_t table_rows,
                            int64_t width, const int64_t* ids, int64_t count,
                            float* out) {
  return Guarded("an embedding", [&] {
    at::Tensor result = View(out, {count, width}, {width, 1}, at::kFloat);
    at::index_select_out(
        result, View(table, {table_rows, width}, {width, 1}, at::kFloat), 0,
        View(ids, {count}, {1}, at::kLong));
  });
}

absl::StatusOr<bool> AllFiniteOnDevice(const void* values, FloatType type,
                                       int64_t count) {
  bool finite = true;
  QSWEEP_RETURN_IF_ERROR(Guarded("a check", [&] {
    at::Tensor all;
    for (int64_t first = 0; first < count; first += kCheckedTogether) {
      const at::Tensor piece = View(
          static_cast<const char*>(values) + first * BytesOf(type),
          {std::min(kCheckedTogether, count - first)}, {1}, ScalarTypeOf(type));
      const at::Tensor here = at::isfinite(piece).all();
      all = all.defined() ? all.logical_and(here) : here;
    }
    finite = !all.defined() || all.item<bool>();
  }));
  return finite;
}

}  // namespace qsweep
