#ifndef QSWEEP_WORKER_MODEL_SAFETENSORS_WRITER_H_
#define QSWEEP_WORKER_MODEL_SAFETENSORS_WRITER_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "worker/model/tensor_type.h"

namespace qsweep {

// Writes a safetensors file whose shapes are known before its values.
//   auto file = SafetensorsFile::Create(path, entries, {{"format", "pt"}});
//   file->Write("a", bytes);  // each entry once, in any order
//   file->Finish();
// Write may be called from several threads at once, for different entries.
class SafetensorsFile {
 public:
  struct Entry {
    std::string name;
    TensorType type = TensorType::kF32;  // not one of ggml's blocks
    std::vector<int64_t> shape;
  };

  // Makes the file, with room for everything. Tensors of wide elements come
  // first, so that all are aligned, else in the order given; names are unique.
  // FAILED_PRECONDITION QS7002: it cannot be made, or the disk is too small.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Create(
      const std::string& path, std::vector<Entry> entries,
      const std::map<std::string, std::string>& metadata);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  // bytes: little-endian, as many as the entry takes. QS7002.
  absl::Status Write(const std::string& name, std::span<const uint8_t> bytes);
  // After every entry was written; then the file is on the disk. QS7002.
  absl::Status Finish();

  int64_t size() const { return size_; }  // bytes

 private:
  struct Place {
    int64_t offset = 0;  // from the start of the file
    int64_t size = 0;
  };

  SafetensorsFile(std::string path, int descriptor);
  absl::Status WriteAt(std::span<const uint8_t> bytes, int64_t offset);

  const std::string path_;
  const int descriptor_;
  std::map<std::string, Place> places_;
  int64_t size_ = 0;
  std::atomic<size_t> num_written_ = 0;
};

}  // namespace qsweep

#endif  // QSWEEP_WORKER_MODEL_SAFETENSORS_WRITER_H_
