#ifndef QSWEEP_WORKER_ENGINE_DEVICE_H_
#define QSWEEP_WORKER_ENGINE_DEVICE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/memory_limit.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/engine/pass.h"
#include "worker/engine/thread_pool.h"
#include "worker/kernels/coded_tensor.h"
#include "worker/kernels/gptq.h"
#include "worker/model/config.h"
#include "worker/sweep/trie.h"

namespace qsweep {

struct DeviceInfo {
  std::string name;            // "cpu", "cuda NVIDIA H200"
  std::string build;           // libraries and kind, for the fingerprint
  int compute_capability = 0;  // 75 for sm_75; 0: not a GPU
  int64_t memory_bytes = 0;    // that tasks may use
};

// Where the products and the states of a sweep are: the CPU or a GPU.
// Single-thread, as the engine.
class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceInfo& info() const = 0;
  virtual bool Computes(Compute compute) const = 0;
  // Whether passes may ask for another order of sums than the usual.
  virtual bool Reorders() const = 0;

  // Proves on small shapes that a row's bits depend on the row alone.
  // FAILED_PRECONDITION QS5005: they do not.
  virtual absl::Status CheckReproducible() = 0;

  // The same of the products of a model, once for each shape. A second or two,
  // less than the model takes to be read. FAILED_PRECONDITION QS5005; on a GPU
  // also QS5006, QS5013. CANCELLED: then it is asked again.
  virtual absl::Status CheckProductsOf(const ModelConfig& config,
                                       const std::stop_token& stop) = 0;

  // Multiplications and additions of the products per second, in 1e9.
  virtual double MeasureGflops() = 0;

  // Bytes of a state's row; states have a multiple of RowStep() rows. Whether
  // some of them may be in a file, and whether a slot whose leaves differ in
  // their final norm needs more than itself.
  virtual int64_t StateBytes(const ModelConfig& config) const = 0;
  virtual int64_t RowStep() const = 0;
  virtual bool KeepsStatesInFiles() const = 0;
  virtual bool KeepsNormedCopies() const = 0;
  // Bytes of a pass's row besides states, and of everything else that a pass
  // holds whose longest document has longest_rows.
  virtual int64_t RowBytes(const SweepPlan& plan) const = 0;
  virtual int64_t WorkingBytes(const ModelConfig& config,
                               const ModelDescription& model,
                               const SweepPlan& plan, Compute compute,
                               int64_t longest_rows) const = 0;

  virtual absl::StatusOr<std::unique_ptr<PassMachine>> StartPass(
      PassContext context) = 0;

  // GPTQ's second step for a whole matrix, to the bits of
  // kernels::QuantizeRows. weights: [coded.rows, coded.columns]; coded: of
  // kernels::StartCoded. False: the CPU has to, all of it; this device does not
  // do it, has no room, or gives other bits than this CPU. INTERNAL QS5013.
  virtual absl::StatusOr<bool> QuantizeGptq(const Scheme& scheme,
                                            const kernels::GptqFactor& factor,
                                            std::span<const float> weights,
                                            kernels::CodedTensor& coded) = 0;

  // The most memory that passes have taken on a device with its own; 0: the
  // process' memory is meant.
  virtual int64_t PeakBytes() const = 0;
};

// memory: that tasks may use. pool must outlive the device.
std::unique_ptr<Device> MakeCpuDevice(ThreadPool& pool,
                                      const MemoryLimit& memory);

// OK where this build has a device path and the machine a GPU for it. NOT_FOUND
// with the reason for people where not; INTERNAL QS5013: the GPU cannot be
// used.
absl::Status FindCuda();
// Errors: those of FindCuda; INTERNAL QS5013.
absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(
    const MemoryLimit& memory);

// which: "cpu", "cuda", or "auto": a GPU where there is one. INVALID_ARGUMENT
// QS1004: anything else; FAILED_PRECONDITION QS5014: there is no such device;
// INTERNAL QS5013: it cannot be used.
absl::StatusOr<std::unique_ptr<Device>> MakeDevice(absl::string_view which,
                                                   ThreadPool& pool,
                                                   const MemoryLimit& memory);

// All modes that it computes in.
std::vector<Compute> ComputesOf(const Device& device);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_DEVICE_H_
