// Times the kernels on a CUDA device beside a copy in its memory; prints one
// JSON object. deploy/gpu_check.sh runs it.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

#include "common/base/random.h"
#include "worker/kernels/decoder_rows.h"
#include "worker/kernels/dequantize_int4.h"
#include "worker/kernels/gptq_blocks.h"
#include "worker/kernels/gptq_cuda.h"
#include "worker/kernels/head_stats.h"
#include "worker/kernels/hqq_cuda.h"
#include "worker/kernels/nf4_cuda.h"
#include "worker/kernels/rtn_cuda.h"

namespace qsweep {
namespace {

using kernels::FloatType;

// 2^27 weights: 256 MiB in fp16, several times any L2 cache.
constexpr int64_t kRows = 32768;
constexpr int64_t kCols = 4096;
constexpr int64_t kWeights = kRows * kCols;
constexpr int64_t kHeadRows = 8192;
constexpr int64_t kHeadColumns = 8192;  // a tile of the vocabulary
constexpr int kWarmUps = 3;
constexpr int kRuns = 25;

// There is nothing to time after an error.
void Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    std::cerr << what << ": " << cudaGetErrorString(error) << "\n";
    std::exit(1);
  }
}

class DeviceBuffer {
 public:
  explicit DeviceBuffer(int64_t bytes) {
    Check(cudaMalloc(&memory_, static_cast<size_t>(bytes)), "cudaMalloc");
    Check(cudaMemset(memory_, 0, static_cast<size_t>(bytes)), "cudaMemset");
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() { cudaFree(memory_); }

  template <typename T>
  T* as() const {
    return static_cast<T*>(memory_);
  }
  // Repeats `values` up to `count` of them.
  template <typename T>
  void Fill(const std::vector<T>& values, int64_t count) {
    const auto size = static_cast<int64_t>(values.size());
    for (int64_t at = 0; at < count; at += size) {
      Check(cudaMemcpy(
                as<T>() + at, values.data(),
                static_cast<size_t>(std::min(size, count - at)) * sizeof(T),
                cudaMemcpyHostToDevice),
            "cudaMemcpy");
    }
  }

 private:
  void* memory_ = nullptr;
};

// Numbers of mean 0 and deviation 0.02, about normal.
std::vector<float> SomeWeights() {
  Random random(1);
  std::vector<float> values(1 << 20);
  for (float& value : values) {
    double sum = 0;
    for (int i = 0; i < 6; ++i) {
      sum += random.Uniform() - 0.5;
    }
    value = static_cast<float>(0.02 * 1.4142135 * sum);
  }
  return values;
}

std::vector<__half> AsHalf(const std::vector<float>& values) {
  std::vector<__half> halves;
  halves.reserve(values.size());
  for (const float value : values) {
    halves.push_back(__float2half(value));
  }
  return halves;
}

// The median time of a launch, in seconds. `launch` returns a CUDA error code.
double MedianSeconds(const std::function<int()>& launch) {
  cudaEvent_t begin;
  cudaEvent_t end;
  Check(cudaEventCreate(&begin), "cudaEventCreate");
  Check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<double> seconds;
  for (int run = -kWarmUps; run < kRuns; ++run) {
    Check(cudaEventRecord(begin), "cudaEventRecord");
    Check(static_cast<cudaError_t>(launch()), "launch");
    Check(cudaEventRecord(end), "cudaEventRecord");
    Check(cudaEventSynchronize(end), "kernel");
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, begin, end),
          "cudaEventElapsedTime");
    if (run >= 0) {
      seconds.push_back(1e-3 * static_cast<double>(milliseconds));
    }
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(seconds.begin(), seconds.begin() + kRuns / 2, seconds.end());
  return seconds[kRuns / 2];
}

class Bench {
 public:
  Bench()
      : weights_(4 * kWeights), out_(4 * kWeights), scales_(4 * kWeights / 64) {
    const double seconds = MedianSeconds([&]() {
      return cudaMemcpyAsync(out_.as<void>(), weights_.as<void>(),
                             static_cast<size_t>(2 * kWeights),
                             cudaMemcpyDeviceToDevice, nullptr);
    });
    copy_bytes_a_second_ = static_cast<double>(4 * kWeights) / seconds;
  }

  // `bytes`: what the launch must read and write. operations: multiplications
  // and additions, where they are what it is about.
  void Add(const std::string& name, int64_t bytes,
           const std::function<int()>& launch, double operations = 0) {
    const double seconds = MedianSeconds(launch);
    const double rate = static_cast<double>(bytes) / seconds;
    rows_.push_back({{"kernel", name},
                     {"bytes", bytes},
                     {"seconds", seconds},
                     {"gb_per_second", rate / 1e9},
                     {"of_copy", rate / copy_bytes_a_second_}});
    if (operations > 0) {
      rows_.back()["tflop_per_second"] = operations / seconds / 1e12;
    }
  }

  void Rtn(FloatType type, int64_t bytes_a_weight,
           const std::string& type_name) {
    DeviceBuffer workspace(kernels::kRtnWorkspaceBytes);
    const kernels::RtnBuffers buffers = {.weights = weights_.as<void>(),
                                         .out = out_.as<void>(),
                                         .weight_type = type,
                                         .out_type = type,
                                         .scales = scales_.as<float>(),
                                         .workspace = workspace.as<void>()};
    const auto add = [&](const std::string& name, int64_t passes,
                         kernels::RtnShape shape) {
      Add(name + type_name, passes * bytes_a_weight * kWeights, [=]() {
        return kernels::RtnCuda(buffers, shape, {.bits = 4}, nullptr);
      });
    };
    add("rtn, group 128, ", 2, {kRows, kCols, 128});
    add("rtn, channel, ", 2, {kRows, kCols, kCols});
    add("rtn, tensor, ", 3, {1, kWeights, kWeights});
  }

  void Nf4(FloatType type, int64_t bytes_a_weight,
           const std::string& type_name) {
    DeviceBuffer workspace(kernels::kNf4WorkspaceBytes);
    const kernels::Nf4Buffers buffers = {.weights = weights_.as<void>(),
                                         .out = out_.as<void>(),
                                         .weight_type = type,
                                         .out_type = type,
                                         .absmax = scales_.as<float>(),
                                         .workspace = workspace.as<void>()};
    Add("nf4, group 64, " + type_name, 2 * bytes_a_weight * kWeights,
        [&]() { return kernels::Nf4Cuda(buffers, kWeights, {}, nullptr); });
    Add("nf4, double quantization, " + type_name, 3 * bytes_a_weight * kWeights,
        [&]() {
          return kernels::Nf4Cuda(buffers, kWeights, {.double_quant = true},
                                  nullptr);
        });
  }

  // The bytes of one reading: how often the solver goes on depends on the
  // weights.
  void Hqq(FloatType type, int64_t bytes_a_weight,
           const std::string& type_name) {
    constexpr int64_t kGroups = kWeights / 64;
    DeviceBuffer zeros(4 * kGroups);
    DeviceBuffer workspace(kernels::HqqWorkspaceBytes(kGroups));
    const kernels::HqqBuffers buffers = {.weights = weights_.as<void>(),
                                         .out = out_.as<void>(),
                                         .weight_type = type,
                                         .out_type = type,
                                         .inverse = scales_.as<float>(),
                                         .zeros = zeros.as<float>(),
                                         .workspace = workspace.as<void>()};
    Add("hqq, group 64, " + type_name, 2 * bytes_a_weight * kWeights,
        [&]() { return kernels::HqqCuda(buffers, kWeights, {}, nullptr); });
  }

  void DequantizeInt4() {
    constexpr int64_t kGroups = kWeights / 128;
    DeviceBuffer codes(kWeights / 2);
    DeviceBuffer scales(2 * kGroups);
    DeviceBuffer zeros(kGroups / 2);
    const kernels::Int4Matrix matrix = {.rows = kRows,
                                        .cols = kCols,
                                        .group_size = 128,
                                        .codes = codes.as<uint32_t>(),
                                        .scales = scales.as<void>(),
                                        .zeros = zeros.as<uint32_t>()};
    Add("dequantize int4, group 128, to fp16",
        kWeights / 2 + 2 * kGroups + kGroups / 2 + 2 * kWeights, [&]() {
          return kernels::DequantizeInt4Cuda(matrix, out_.as<void>(),
                                             FloatType::kFp16, nullptr);
        });
  }

  // One matrix of Llama-2-7B's size. The factor is the identity's: what is in
  // it changes nothing about the work. Operations: two for a column and each
  // one before it, in products and in rounding.
  void Gptq() {
    constexpr int64_t kColumns = kCols;
    constexpr int64_t kMatrixRows = kCols;
    constexpr int64_t kBlocks = kernels::BlocksOf(kColumns);
    const kernels::GptqOptions options;
    const int64_t groups = options.groups_per_row(kColumns);
    constexpr int64_t kFactor =
        kernels::UpperOffset(kBlocks) + kColumns * kernels::kBlock;
    std::vector<float> factor(kFactor, 0.0f);
    std::vector<int32_t> columns;
    for (int64_t i = 0; i < kColumns; ++i) {
      const int64_t block = i / kernels::kBlock;
      const int64_t panel = i % kernels::kBlock / kernels::kPanel;
      const int64_t in_panel = i % kernels::kPanel;
      factor[kernels::UpperOffset(block) + panel * kernels::UpperStep(block) +
             i * kernels::kPanel + in_panel] = 1;
      factor[kernels::UpperOffset(kBlocks) +
             block * kernels::kBlock * kernels::kBlock +
             panel * kernels::kInverseStep +
             i % kernels::kBlock * kernels::kPanel + in_panel] = 1;
      columns.push_back(static_cast<int32_t>(i));
    }
    DeviceBuffer on_device(4 * kFactor);
    on_device.Fill(factor, kFactor);
    DeviceBuffer order(4 * kColumns);
    order.Fill(columns, kColumns);
    DeviceBuffer dead(kColumns);
    DeviceBuffer codes(kMatrixRows * kColumns);
    DeviceBuffer zeros(kMatrixRows * groups);
    DeviceBuffer workspace(
        kernels::GptqWorkspaceBytes(kMatrixRows, kColumns, options));
    Add(
        "gptq, group 128, 4096 x 4096, fp16",
        (2 + 1) * kMatrixRows * kColumns + 4 * kFactor +
            5 * kMatrixRows * groups,
        [&]() {
          return kernels::GptqCuda({.columns = kColumns,
                                    .upper = on_device.as<float>(),
                                    .inverses = on_device.as<float>() +
                                                kernels::UpperOffset(kBlocks),
                                    .order = order.as<int32_t>(),
                                    .dead = dead.as<uint8_t>()},
                                   {.weights = weights_.as<void>(),
                                    .weight_type = FloatType::kFp16,
                                    .codes = codes.as<uint8_t>(),
                                    .scales = scales_.as<float>(),
                                    .zeros = zeros.as<uint8_t>(),
                                    .workspace = workspace.as<void>()},
                                   kMatrixRows, options, nullptr);
        },
        static_cast<double>(kMatrixRows) * kColumns * kColumns);
  }

  void Head() {
    constexpr int64_t kLogits = kHeadRows * kHeadColumns;
    DeviceBuffer gold(4 * kHeadRows);
    DeviceBuffer rescale(8 * kHeadRows);
    DeviceBuffer state(2 * kHeadRows *
                       static_cast<int64_t>(sizeof(kernels::HeadRow)));
    auto* baseline_state = state.as<kernels::HeadRow>();
    const kernels::HeadTile baseline = {.logits = weights_.as<float>(),
                                        .stride = kHeadColumns,
                                        .rows = kHeadRows,
                                        .columns = kHeadColumns};
    kernels::HeadTile configuration = baseline;
    configuration.logits = out_.as<float>();
    const std::vector<kernels::HeadRow> fresh(2 * kHeadRows);
    state.Fill(fresh, 2 * kHeadRows);
    Add("head, baseline", 4 * kLogits, [&]() {
      return kernels::HeadBaselineCuda(baseline, gold.as<int32_t>(),
                                       baseline_state, rescale.as<double>(),
                                       nullptr);
    });
    Add("head, configuration", 8 * kLogits, [&]() {
      return kernels::HeadConfigurationCuda(
          configuration, baseline, gold.as<int32_t>(), baseline_state,
          rescale.as<double>(), baseline_state + kHeadRows, nullptr);
    });
  }

  // States of kRows / 2 rows in fp32: out_ is read, weights_ written.
  void DecoderRows() {
    constexpr int64_t kStates = kRows / 2 * kCols;
    constexpr int kHeadDim = 128;
    DeviceBuffer gains(4 * kCols);
    DeviceBuffer tables(2 * 4 * kHeadDim / 2);
    DeviceBuffer positions(4 * kRows / 2);
    const auto* states = out_.as<float>();
    Add("rms norm, to fp16", (4 + 2) * kStates, [&]() {
      return kernels::RmsNormCuda(states, kRows / 2, kCols, gains.as<float>(),
                                  1e-5f, weights_.as<void>(), FloatType::kFp16,
                                  nullptr);
    });
    Add("rotary, fp32", (4 + 4) * kStates, [&]() {
      return kernels::RotateCuda(out_.as<float>(), kRows / 2, kCols,
                                 kCols / kHeadDim, kHeadDim,
                                 positions.as<int32_t>(),
                                 {.cosines = tables.as<float>(),
                                  .sines = tables.as<float>() + kHeadDim / 2},
                                 nullptr);
    });
    Add("silu, to fp16", (4 + 4 + 2) * kStates, [&]() {
      return kernels::SiluMultiplyCuda(states, states + kStates, kStates,
                                       weights_.as<void>(), FloatType::kFp16,
                                       nullptr);
    });
    Add("add, fp32", (4 + 4 + 4) * kStates, [&]() {
      return kernels::AddCuda(states, states + kStates, kStates,
                              weights_.as<float>(), nullptr);
    });
  }

  void Run() {
    const std::vector<float> values = SomeWeights();
    weights_.Fill(AsHalf(values), kWeights);
    Rtn(FloatType::kFp16, 2, "fp16");
    Nf4(FloatType::kFp16, 2, "fp16");
    Hqq(FloatType::kFp16, 2, "fp16");
    Gptq();
    DequantizeInt4();
    weights_.Fill(values, kWeights);
    Rtn(FloatType::kFp32, 4, "fp32");
    Nf4(FloatType::kFp32, 4, "fp32");
    out_.Fill(values, kWeights);
    Head();
    out_.Fill(values, kWeights);
    DecoderRows();
  }

  nlohmann::json Result() const {
    cudaDeviceProp properties;
    Check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    int driver = 0;
    Check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    return {{"device", properties.name},
            {"compute_capability", 10 * properties.major + properties.minor},
            {"cuda_of_driver", driver},
            {"copy_gb_per_second", copy_bytes_a_second_ / 1e9},
            {"kernels", rows_}};
  }

 private:
  DeviceBuffer weights_;
  DeviceBuffer out_;
  DeviceBuffer scales_;  // of any kernel: one for 64 weights
  double copy_bytes_a_second_ = 0;
  nlohmann::json rows_ = nlohmann::json::array();
};

int Main() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    std::cerr << "no CUDA device\n";
    return 3;
  }
  Bench bench;
  bench.Run();
  std::cout << bench.Result().dump() << "\n";
  return 0;
}

}  // namespace
}  // namespace qsweep

int main() { return qsweep::Main(); }
