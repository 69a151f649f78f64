#ifndef QSWEEP_WORKER_ENGINE_CODE_CACHE_H_
#define QSWEEP_WORKER_ENGINE_CODE_CACHE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "common/base/mutex.h"
#include "common/job/configuration.h"
#include "common/job/model_description.h"
#include "common/job/quantizer.h"
#include "worker/kernels/coded_tensor.h"

namespace qsweep {

class MappedFile;

// What calibrated methods made of tensors, by what it follows from: a file each
// in a directory, which several engines may share. Files are written under
// another name first and checked when they are read: what is there is whole.
// What a task has asked for or stored stays readable until MakeRoom, though
// another engine may remove the file: the first 32,768 are mapped. Find and
// DigestOf from any thread while nothing is stored; the rest from one.
class CodeCache {
 public:
  // directory: made when it is first needed; "": codes stay in memory. engine:
  // its fingerprint, since other products may give other codes. limit_bytes: of
  // all files, looked at by MakeRoom.
  CodeCache(std::string directory, std::string engine, int64_t limit_bytes);

  // SHA-256 of engine, model, tokenizer, tensor and scheme, which has the
  // calibration's texts.
  Digest Key(const ModelDescription& model, absl::string_view tensor,
             const Scheme& scheme) const;

  // Whether there is a file with the header and the size of codes; what it
  // holds is not looked at. It counts as used.
  bool Has(const Digest& key) const;
  // NOT_FOUND: there is none, or its file was damaged and is removed.
  absl::StatusOr<std::shared_ptr<const kernels::CodedTensor>> Find(
      const Digest& key) const;
  // FAILED_PRECONDITION QS7002: the file cannot be written.
  absl::Status Store(const Digest& key, kernels::CodedTensor coded);

  // SHA-256 of the calibrated tensors' names and of the codes that Find found
  // last for each, since MakeRoom. Each must have been found. Empty: none is
  // calibrated.
  Digest DigestOf(const ModelDescription& model,
                  const Configuration& configuration) const;

  // Removes the files that were not used for longest until the rest fits the
  // limit; codes in memory all at once. For between two tasks.
  void MakeRoom();

 private:
  struct Codes {
    std::shared_ptr<const kernels::CodedTensor> tensor;
    Digest digest;
  };

  std::string PathOf(const Digest& key) const;
  absl::StatusOr<Codes> Read(const Digest& key) const;
  // The file of a key, mapped; from then on it is held.
  absl::StatusOr<std::shared_ptr<const MappedFile>> Hold(
      const Digest& key) const;
  // Holds a file until MakeRoom, unless too many are held.
  void Keep(const Digest& key, std::shared_ptr<const MappedFile> file) const;

  const std::string directory_;
  const std::string engine_;
  const int64_t limit_bytes_;
  std::map<Digest, Codes> memory_;  // where there is no directory
  mutable Mutex mutex_;
  mutable std::map<Digest, Digest> found_ ABSL_GUARDED_BY(mutex_);
  mutable std::map<Digest, std::shared_ptr<const MappedFile>> held_
      ABSL_GUARDED_BY(mutex_);
};

// The bytes of a file: numbers in little-endian order, codes of up to 4 bits
// two a byte, the SHA-256 of all before it. Format:
// docs/reference/file-formats.md.
std::string SerializeCodes(const kernels::CodedTensor& coded);
// DATA_LOSS: not such bytes.
absl::StatusOr<kernels::CodedTensor> ParseCodes(absl::string_view bytes);

}  // namespace qsweep

#endif  // QSWEEP_WORKER_ENGINE_CODE_CACHE_H_
