#ifndef QSWEEP_WORKER_ENGINE_ENGINE_H_
#define QSWEEP_WORKER_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/base/digest.h"
#include "common/base/memory_limit.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/eval/evaluation.h"

namespace qsweep {

namespace kernels {
struct CodedTensor;
}

// Plain structs, free of proto: the pipe turns frames into them and back.

struct EngineConfiguration {
  Digest digest;          // compared with the engine's own; empty: not compared
  std::string quantizer;  // quantizer text; ignored where layer_set is "all"
  std::string layer_set;  // layer-set text
};

// One language of the corpus, whole: its unigram model is fitted on all of it.
struct EngineLanguage {
  std::string language;
  std::vector<std::string> texts;  // exact UTF-8
};

struct EngineDocument {
  int language = 0;  // into EngineTask.languages
  int text = 0;      // into its texts
};

// Texts that calibrated configurations name by their digest, in its order.
struct EngineCalibration {
  std::vector<EngineDocument> documents;
};

struct EngineTask {
  std::string model_path;  // directory or .gguf file
  Digest model_digest;     // compared with the file's own; empty: not compared
  std::string evaluation;  // canonical text
  Compute compute = Compute::kFp32;
  std::vector<EngineConfiguration> configurations;
  std::vector<EngineLanguage> languages;
  std::vector<EngineDocument> documents;
  std::vector<EngineCalibration> calibrations;
  bool naive = false;  // one configuration at a time, nothing shared
  // Measure the noise of the baseline, too, where no earlier task of the model
  // and compute has.
  bool measure_noise = false;
};

// How one document scored under one configuration. Sums are zero unless ok.
struct EngineRow {
  int configuration = 0;  // into EngineTask.configurations
  int document = 0;       // into EngineTask.documents
  RowStatus status = RowStatus::kOk;
  double nll_sum = 0;          // nats
  double nll_fp_sum = 0;       // nats, the baseline's
  double unigram_nll_sum = 0;  // nats
  uint64_t tokens = 0;
  uint64_t bytes = 0;
  uint64_t bytes_scored = 0;
  uint64_t chars = 0;
  double kl_sum = 0;  // nats, KL(baseline || configuration)
  uint64_t top1 = 0;
  // Tokens whose NLL is not finite, here or under the baseline: in no sum.
  uint64_t nonfinite = 0;
  // Of the codes of the calibrated tensors, all of them: the digest of
  // docs/reference/file-formats.md. Empty: none is calibrated.
  Digest codes;
};

// How far the order of sums alone moves the baseline, over some documents.
struct EngineNoise {
  double nll_per_token = 0;  // nats, of the documents together
  uint64_t documents = 0;
  uint64_t tokens = 0;
};

struct EngineReport {
  int64_t layer_evaluations = 0;  // counted where the products run
  int64_t layer_evaluations_planned = 0;
  double load_seconds = 0;  // until the model is described and tokenized
  double run_seconds = 0;
  // Stored bytes of the layers that the run read, and how long of run_seconds
  // it waited for them: a GPU reads a layer while another is computed.
  int64_t weight_bytes = 0;
  double weight_seconds = 0;
  int64_t memory_peak_bytes = 0;         // resident, of the process
  int64_t device_memory_peak_bytes = 0;  // of a GPU, of the process so far
  // Where the task asked for it, the device can sum in another order, and a
  // document could be scored.
  std::optional<EngineNoise> noise;
};

struct EngineResult {
  std::vector<EngineRow> rows;  // document-major, each pair once
  EngineReport report;
};

// Sums over the documents of one language that are finished.
struct EnginePartial {
  int language = 0;
  int configuration = 0;
  double nll_sum = 0;
  double nll_fp_sum = 0;
  uint64_t tokens = 0;
};

struct EngineProgress {
  bool loading = false;                // reading the model; fraction is of that
  double fraction = 0;                 // 0..1
  std::string text;                    // for people: "layer 15 of 30"
  std::vector<EnginePartial> partial;  // whole, not what is new
};

// Receives progress on the thread that called Run, at every layer, and at most
// a few times a second in between.
class EngineSink {
 public:
  virtual ~EngineSink() = default;
  virtual void OnProgress(const EngineProgress& progress) = 0;
};

struct EngineOptions {
  std::string device = "auto";  // "cpu", "cuda"; auto: a GPU if there is one
  int threads = 0;              // 0: AvailableHostCpus
  MemoryLimit memory;           // of the device, for states and weights
  // For model digests, and for the codes of calibrated quantizers; "": digests
  // are computed again, codes stay in memory.
  std::string cache_dir;
  // For a file of states that do not fit into memory_bytes; "": they must fit.
  std::string state_dir;
};

struct EngineInfo {
  // Version, revision, and what chooses the bits of a product: libtorch, the
  // vector level that it uses, the CPU's vendor and level, the device.
  std::string fingerprint;
  std::string device;  // "cpu", "cuda NVIDIA H200"
  int threads = 0;
  int64_t memory_bytes = 0;
  // Of tasks' quantizers, as "rtn"; kKeepsLargest.
  std::vector<std::string> methods;
  std::vector<Compute> computes;  // of the products; fp32 among them
  double gflops = 0;  // of the products, all threads, measured at the start
  int compute_capability = 0;  // 75 for sm_75; 0: not a GPU
};

// Measures configurations of a model. Keeps the last model mapped between
// tasks. Single-thread: Run and Describe from one thread at a time; compute
// threads are its own.
class Engine {
 public:
  // Starts the threads and proves that results will be reproducible.
  // FAILED_PRECONDITION QS5005: they would not be; QS5014: there is no such
  // device. INVALID_ARGUMENT QS1004: the system does not start so many threads.
  // INTERNAL QS5013: the GPU failed.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const EngineInfo& info() const = 0;

  // What the model's files say of it; the first time, products of its shapes
  // are tried. Errors: those of Checkpoint::Open and Describe;
  // FAILED_PRECONDITION QS5005: they are not reproducible. The result lives
  // until the next call that names another model.
  virtual absl::StatusOr<const ModelDescription*> Describe(
      const std::string& model_path) = 0;

  // Runs the task. CANCELLED within a second after `stop` is requested, which
  // is looked at before each tile of a product, group of rows that a quantizer
  // takes at a time and 16 MiB of a tensor that is read. INVALID_ARGUMENT: what
  // the configurations or the evaluation are refused for, QS2116 too little
  // calibration text. FAILED_PRECONDITION QS3010: another model, tokenizer,
  // configuration or calibration than the task says; QS5012 a singular Hessian;
  // QS3013 a ready checkpoint of another model. INVALID_ARGUMENT QS1004: a
  // compute that the device lacks. INTERNAL QS5013: the GPU failed, and fails
  // from now on; end the process. RESOURCE_EXHAUSTED QS5006: one document's
  // states alone exceed the memory, or there is no room for them in state_dir.
  // DATA_LOSS: a damaged model. After an error there are no rows, and the next
  // task may run.
  virtual absl::StatusOr<EngineResult> Run(const EngineTask& task,
                                           EngineSink& sink,
                                           std::stop_token stop) = 0;

  // What a Run of this model has made of a tensor under a calibrated scheme.
  // NOT_FOUND: nothing, or it is gone.
  virtual absl::StatusOr<std::shared_ptr<const kernels::CodedTensor>> FindCodes(
      const std::string& tensor, const Scheme& scheme) = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_ENGINE_H_
