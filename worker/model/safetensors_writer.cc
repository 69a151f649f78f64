#include "worker/model/safetensors_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/model/tensor_layout.h"
#include "worker/tokenizer/json_text.h"

namespace qsweep {
namespace {

absl::Status CannotWrite(const std::string& path, int error) {
  return MakeError(
      kCannotWrite,
      absl::StrCat("cannot write the file: ", std::strerror(error)), path,
      "Give a folder on a disk with room.");
}

std::string MetadataJson(const std::map<std::string, std::string>& metadata) {
  return absl::StrCat("{",
                      absl::StrJoin(metadata, ",",
                                    [](std::string* out, const auto& entry) {
                                      absl::StrAppend(
                                          out, JsonString(entry.first), ":",
                                          JsonString(entry.second));
                                    }),
                      "}");
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::string path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {}

SafetensorsFile::~SafetensorsFile() { close(descriptor_); }

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Create(
    const std::string& path, std::vector<Entry> entries,
    const std::map<std::string, std::string>& metadata) {
  std::stable_sort(
      entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
        return InfoOf(a.type).block_bytes > InfoOf(b.type).block_bytes;
      });
  const int descriptor =
      open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    return CannotWrite(path, errno);
  }
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile(path, descriptor));
  std::string header =
      absl::StrCat("{\"__metadata__\":", MetadataJson(metadata));
  int64_t offset = 0;
  for (const Entry& entry : entries) {
    const std::optional<uint64_t> size = StoredBytes(entry.shape, entry.type);
    QSWEEP_CHECK(size.has_value() && InfoOf(entry.type).block_elements == 1);
    const int64_t end = offset + static_cast<int64_t>(*size);
    absl::StrAppend(&header, ",", JsonString(entry.name), ":{\"dtype\":\"",
                    InfoOf(entry.type).name, "\",\"shape\":[",
                    absl::StrJoin(entry.shape, ","), "],\"data_offsets\":[",
                    offset, ",", end, "]}");
    const bool is_new =
        file->places_
            .emplace(entry.name, Place{.offset = offset, .size = end - offset})
            .second;
    QSWEEP_CHECK(is_new);
    offset = end;
  }
  header.push_back('}');
  header.resize((header.size() + 7) / 8 * 8, ' ');  // aligns the data
  std::string head;
  for (int i = 0; i < 8; ++i) {
    head.push_back(static_cast<char>(uint64_t{header.size()} >> (8 * i)));
  }
  head += header;
  for (auto& [name, place] : file->places_) {
    place.offset += static_cast<int64_t>(head.size());
  }
  file->size_ = static_cast<int64_t>(head.size()) + offset;
  if (const int error = posix_fallocate(descriptor, 0, file->size_)) {
    return CannotWrite(path, error);
  }
  QSWEEP_RETURN_IF_ERROR(file->WriteAt(
      {reinterpret_cast<const uint8_t*>(head.data()), head.size()}, 0));
  return file;
}

absl::Status SafetensorsFile::WriteAt(std::span<const uint8_t> bytes,
                                      int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t written =
        pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return CannotWrite(path_, errno);
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

absl::Status SafetensorsFile::Write(const std::string& name,
                                    std::span<const uint8_t> bytes) {
  const auto place = places_.find(name);
  QSWEEP_CHECK(place != places_.end());
  QSWEEP_CHECK(static_cast<int64_t>(bytes.size()) == place->second.size);
  QSWEEP_RETURN_IF_ERROR(WriteAt(bytes, place->second.offset));
  ++num_written_;
  return absl::OkStatus();
}

absl::Status SafetensorsFile::Finish() {
  QSWEEP_CHECK(num_written_ == places_.size());
  return fsync(descriptor_) == 0 ? absl::OkStatus() : CannotWrite(path_, errno);
}

}  // namespace qsweep
