#ifndef QSWEEP_WORKER_ENGINE_COMMANDS_COMMANDS_H_
#define QSWEEP_WORKER_ENGINE_COMMANDS_COMMANDS_H_

#include <functional>
#include <istream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "common/base/memory_limit.h"

namespace qsweep {

// What `qengine COMMAND` does, without the command line. Results go to `print`,
// notes for people to stderr. A returned error is printed by the caller and
// decides the exit code.

// Writes text to stdout.
using Print = std::function<void(absl::string_view text)>;

// Of --protect, where it is not given.
inline constexpr char kProtectsNothing[] = "none";

struct EngineFlags {
  std::string device = "auto";  // or "cpu", "cuda"
  int threads = 0;              // 0: AvailableHostCpus
  MemoryLimit memory;
};

// Frames on stdin and stdout until stdin ends; ends the process then, whatever
// is running. Takes over file descriptor 1.
absl::Status RunServe(const EngineFlags& flags);

struct DescribeFlags {
  std::string model;
  std::string of;  // a model that this one must be a ready checkpoint of; or ""
  bool tensors = false;          // in a table: each, not the components' sums
  std::string output = "table";  // or "json", which has all of them
};
// Errors of Checkpoint::Open and Describe; QS3013.
absl::Status RunDescribe(const DescribeFlags& flags, const Print& print);

struct TokenizeFlags {
  std::string model;
  bool special = false;  // with what the tokenizer's template adds
};
// A line of ids, separated by spaces, per line of `in`.
absl::Status RunTokenize(const TokenizeFlags& flags, std::istream& in,
                         const Print& print);

struct ScoreFlags {
  std::string model;
  std::string texts;      // file: {language: text or [texts]}
  std::string quantizer;  // "": the baseline
  std::string protect = kProtectsNothing;
  std::string calibration;  // file like texts, for calibrated quantizers
  std::string evaluation = "hf-text";
  int max_tokens = 0;
  std::string compute = "fp32";
  bool naive = false;
  std::string output = "jsonl";  // or "json"
  EngineFlags engine;
};
// A row per document. INVALID_ARGUMENT QS2110, QS2111, QS2112 after all rows
// are written: some documents could not be scored.
absl::Status RunScore(const ScoreFlags& flags, const Print& print);

struct QuantizeFlags {
  std::string model;
  std::string target;     // directory that is to be made
  std::string quantizer;  // "": the model as it is
  std::string protect = kProtectsNothing;
  std::string calibration;         // file, for calibrated quantizers
  std::string format = "float32";  // or "gptq"
  std::string output = "table";    // or "json"
  EngineFlags engine;
};
// Writes the model as a configuration has it, for transformers and others: a
// Hugging Face directory, whole or not at all, also when SIGINT or SIGTERM ends
// it. engine.memory: also of the host, for the tensors that are written
// at the same time. FAILED_PRECONDITION QS7002: it is there already, or cannot
// be written. RESOURCE_EXHAUSTED QS5006: the memory holds not one of its
// tensors. INVALID_ARGUMENT QS1004, QS1042: the
// format cannot hold such weights; what the configuration or the calibration is
// refused for. Errors of Checkpoint::Open.
absl::Status RunQuantize(const QuantizeFlags& flags, const Print& print);

// The start-up check, what it measured, and how the kernels for this CPU
// compare.
absl::Status RunSelftest(const EngineFlags& flags, const Print& print);

// Where digests of model files are remembered: $XDG_CACHE_HOME/qsweep or
// ~/.cache/qsweep; "" when there is no home.
std::string ModelCacheDir();
// Where states go that do not fit into memory: $TMPDIR, or the cache's folder,
// which is on a disk more often than /tmp is.
std::string StateDir();

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_COMMANDS_COMMANDS_H_
