#include "worker/engine/code_cache.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/model/mapped_file.h"

namespace qsweep {
namespace {

using kernels::CodedTensor;
namespace fs = std::filesystem;

constexpr absl::string_view kMagic = "qsweep-codes 1\n";
constexpr size_t kHeadBytes = kMagic.size() + 5 * sizeof(int64_t);
constexpr absl::string_view kExtension = ".codes";
constexpr size_t kMostHeld = 32'768;  // Linux maps 65,530 files a process
constexpr int64_t kMostColumns = int64_t{1} << 24;
static_assert(std::endian::native == std::endian::little);

template <typename T>
void Append(const std::vector<T>& values, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(values.data()),
               values.size() * sizeof(T));
}

// Takes `count` values off the front of bytes; false: there are fewer.
template <typename T>
bool Take(absl::string_view& bytes, size_t count, std::vector<T>& values) {
  if (bytes.size() / sizeof(T) < count) {
    return false;
  }
  values.resize(count);
  std::copy_n(bytes.data(), count * sizeof(T),
              reinterpret_cast<char*>(values.data()));
  bytes.remove_prefix(count * sizeof(T));
  return true;
}

bool Packs(const CodedTensor& coded) { return coded.bits <= 4; }

size_t NumCodes(const CodedTensor& coded) {
  return static_cast<size_t>(coded.rows * coded.columns);
}

// Of bytes that ParseCodes takes.
Digest DigestAtEnd(absl::string_view bytes) {
  return *Digest::FromBytes(
      bytes.substr(bytes.size() - static_cast<size_t>(Digest::kSize)));
}

// The header's numbers: rows, columns, bits, groups, whether columns have
// scales, for which there is room then.
bool TakeShape(absl::string_view& bytes, CodedTensor& coded) {
  std::vector<int64_t> shape;
  if (!Take(bytes, 5, shape)) {
    return false;
  }
  coded.rows = shape[0];
  coded.columns = shape[1];
  coded.bits = static_cast<int>(shape[2]);
  coded.groups = shape[3];
  const bool scaled = shape[4] == 1;
  if (scaled && coded.columns > 0 && coded.columns < kMostColumns) {
    coded.column_scales.resize(static_cast<size_t>(coded.columns));
  }
  return (scaled || shape[4] == 0) && coded.rows > 0 &&
         coded.rows < kMostColumns && coded.columns > 0 &&
         coded.columns < kMostColumns && shape[2] >= 2 && shape[2] <= 8 &&
         coded.groups > 0 && coded.groups <= coded.columns;
}

// Bytes of the codes themselves.
size_t StoredCodes(const CodedTensor& coded) {
  return Packs(coded) ? (NumCodes(coded) + 1) / 2 : NumCodes(coded);
}

// The size of a file that begins like this; 0: none of codes does.
int64_t SizeOfFile(absl::string_view head) {
  CodedTensor coded;
  if (!absl::StartsWith(head, kMagic)) {
    return 0;
  }
  absl::string_view rest = head.substr(kMagic.size());
  if (!TakeShape(rest, coded)) {
    return 0;
  }
  const auto columns = static_cast<size_t>(coded.columns);
  const auto groups = static_cast<size_t>(coded.rows * coded.groups);
  return static_cast<int64_t>(
      kHeadBytes + columns * sizeof(int32_t) +
      (coded.column_scales.size() + groups) * sizeof(float) + groups +
      StoredCodes(coded) + static_cast<size_t>(Digest::kSize));
}

absl::string_view BytesOf(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()),
          file.bytes().size()};
}

// What the file is needed for from now on.
void MarkUsed(const std::string& path) {
  std::error_code ignored;  // then it only looks older than it is
  fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
}

}  // namespace

std::string SerializeCodes(const CodedTensor& coded) {
  std::string bytes(kMagic);
  Append(
      std::vector<int64_t>{coded.rows, coded.columns, coded.bits, coded.groups,
                           coded.column_scales.empty() ? 0 : 1},
      bytes);
  Append(coded.group_of_column, bytes);
  Append(coded.column_scales, bytes);
  Append(coded.scales, bytes);
  Append(coded.zeros, bytes);
  if (Packs(coded)) {
    for (size_t i = 0; i < coded.codes.size(); i += 2) {
      const int high = i + 1 < coded.codes.size() ? coded.codes[i + 1] : 0;
      bytes.push_back(static_cast<char>(coded.codes[i] | high << 4));
    }
  } else {
    Append(coded.codes, bytes);
  }
  return bytes + Digest::Of(bytes).bytes();
}

absl::StatusOr<CodedTensor> ParseCodes(absl::string_view bytes) {
  const absl::Status damaged =
      absl::DataLossError("a file of codes is damaged");
  if (bytes.size() < kMagic.size() + Digest::kSize ||
      !absl::StartsWith(bytes, kMagic)) {
    return damaged;
  }
  const absl::string_view body =
      bytes.substr(0, bytes.size() - static_cast<size_t>(Digest::kSize));
  if (Digest::Of(body).bytes() != bytes.substr(body.size())) {
    return damaged;
  }
  absl::string_view rest = body.substr(kMagic.size());
  CodedTensor coded;
  if (!TakeShape(rest, coded)) {
    return damaged;
  }
  const auto groups = static_cast<size_t>(coded.rows * coded.groups);
  const size_t codes = NumCodes(coded);
  if (!Take(rest, static_cast<size_t>(coded.columns), coded.group_of_column) ||
      !Take(rest, coded.column_scales.size(), coded.column_scales) ||
      !Take(rest, groups, coded.scales) || !Take(rest, groups, coded.zeros) ||
      !Take(rest, StoredCodes(coded), coded.codes) || !rest.empty()) {
    return damaged;
  }
  if (Packs(coded)) {
    const std::vector<uint8_t> packed = std::exchange(coded.codes, {});
    coded.codes.resize(codes);
    for (size_t i = 0; i < codes; ++i) {
      const int pair = packed[i / 2];
      coded.codes[i] = static_cast<uint8_t>(i % 2 == 0 ? pair & 15 : pair >> 4);
    }
  }
  for (const int32_t group : coded.group_of_column) {
    if (group < 0 || group >= coded.groups) {
      return damaged;
    }
  }
  return coded;
}

CodeCache::CodeCache(std::string directory, std::string engine,
                     int64_t limit_bytes)
    : directory_(std::move(directory)),
      engine_(std::move(engine)),
      limit_bytes_(limit_bytes) {}

Digest CodeCache::Key(const ModelDescription& model, absl::string_view tensor,
                      const Scheme& scheme) const {
  return Digest::Of(absl::StrCat(
      "qsweep-codes 1\nengine=", engine_, "\nmodel=", model.digest.hex(),
      "\ntok=", model.tokenizer_digest.hex(), "\ntensor=", tensor, "\n",
      scheme.CanonicalText(), "\n"));
}

std::string CodeCache::PathOf(const Digest& key) const {
  return absl::StrCat(directory_, "/", key.hex(), kExtension);
}

bool CodeCache::Has(const Digest& key) const {
  if (directory_.empty()) {
    return memory_.contains(key);
  }
  const auto file = Hold(key);
  if (!file.ok()) {
    return false;
  }
  const absl::string_view bytes = BytesOf(**file);
  if (bytes.size() < kHeadBytes ||
      static_cast<int64_t>(bytes.size()) != SizeOfFile(bytes)) {
    MutexLock lock(mutex_);
    held_.erase(key);
    return false;
  }
  MarkUsed(PathOf(key));
  return true;
}

absl::StatusOr<std::shared_ptr<const MappedFile>> CodeCache::Hold(
    const Digest& key) const {
  {
    MutexLock lock(mutex_);
    if (const auto held = held_.find(key); held != held_.end()) {
      return held->second;
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file,
                          MappedFile::Open(PathOf(key)));
  Keep(key, file);
  return file;
}

void CodeCache::Keep(const Digest& key,
                     std::shared_ptr<const MappedFile> file) const {
  MutexLock lock(mutex_);
  if (held_.size() < kMostHeld || held_.contains(key)) {
    held_.insert_or_assign(key, std::move(file));
  }
}

absl::StatusOr<CodeCache::Codes> CodeCache::Read(const Digest& key) const {
  if (directory_.empty()) {
    const auto found = memory_.find(key);
    if (found == memory_.end()) {
      return absl::NotFoundError("there are no such codes");
    }
    return found->second;
  }
  const std::string path = PathOf(key);
  const absl::Status none =
      absl::NotFoundError(absl::StrCat("no codes in ", path));
  const auto file = Hold(key);
  if (!file.ok()) {
    return none;
  }
  const absl::string_view bytes = BytesOf(**file);
  absl::StatusOr<CodedTensor> coded = ParseCodes(bytes);
  if (!coded.ok()) {
    std::error_code ignored;
    fs::remove(path, ignored);  // the next task makes them again
    MutexLock lock(mutex_);
    held_.erase(key);
    return none;
  }
  MarkUsed(path);
  return Codes{.tensor = std::make_shared<const CodedTensor>(*std::move(coded)),
               .digest = DigestAtEnd(bytes)};
}

absl::StatusOr<std::shared_ptr<const CodedTensor>> CodeCache::Find(
    const Digest& key) const {
  QSWEEP_ASSIGN_OR_RETURN(Codes codes, Read(key));
  MutexLock lock(mutex_);
  found_[key] = codes.digest;
  return std::move(codes.tensor);
}

Digest CodeCache::DigestOf(const ModelDescription& model,
                           const Configuration& configuration) const {
  MutexLock lock(mutex_);
  std::string lines;
  for (size_t t = 0; t < configuration.schemes.size(); ++t) {
    const std::optional<Scheme>& scheme = configuration.schemes[t];
    if (scheme && scheme->calibrated()) {
      const std::string& tensor = model.tensors[t].name;
      const auto found = found_.find(Key(model, tensor, *scheme));
      QSWEEP_CHECK(found != found_.end());
      absl::StrAppend(&lines, tensor, " ", found->second.hex(), "\n");
    }
  }
  return lines.empty() ? Digest()
                       : Digest::Of(absl::StrCat(
                             "qsweep-configuration-codes 1\n", lines));
}

absl::Status CodeCache::Store(const Digest& key, CodedTensor coded) {
  const std::string bytes = SerializeCodes(coded);
  if (directory_.empty()) {
    memory_[key] = {
        .tensor = std::make_shared<const CodedTensor>(std::move(coded)),
        .digest = DigestAtEnd(bytes)};
    return absl::OkStatus();
  }
  std::error_code error;
  fs::create_directories(directory_, error);
  const std::string path = PathOf(key);
  // Another engine may be writing the same file.
  const std::string part = absl::StrCat(path, ".", getpid(), ".part");
  std::ofstream file(part, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  auto written = MappedFile::Open(part);
  if (file && written.ok()) {
    fs::rename(part, path, error);
  }
  if (!file || !written.ok() || error) {
    fs::remove(part, error);
    return MakeError(kCannotWrite,
                     absl::StrCat("The codes of a tensor cannot be written to ",
                                  directory_, "."),
                     "", "Make room there, or set XDG_CACHE_HOME.");
  }
  Keep(key, *std::move(written));
  return absl::OkStatus();
}

void CodeCache::MakeRoom() {
  {
    MutexLock lock(mutex_);
    found_.clear();
    held_.clear();
  }
  int64_t in_memory = 0;
  for (const auto& [key, codes] : memory_) {
    in_memory += static_cast<int64_t>(codes.tensor->codes.size());
  }
  if (in_memory > limit_bytes_) {
    memory_.clear();
  }
  struct File {
    fs::file_time_type used;
    fs::path path;
    int64_t size = 0;
  };
  std::vector<File> files;
  int64_t total = 0;
  std::error_code error;  // what cannot be looked at, another engine removed
  for (const auto& entry : fs::directory_iterator(directory_, error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StrContains(name, kExtension)) {
      const auto size = static_cast<int64_t>(entry.file_size(error));
      files.push_back({.used = entry.last_write_time(error),
                       .path = entry.path(),
                       .size = error ? 0 : size});
      total += files.back().size;
    }
  }
  std::ranges::sort(files, {}, &File::used);
  for (const File& file : files) {
    if (total <= limit_bytes_) {
      break;
    }
    fs::remove(file.path, error);
    total -= file.size;
  }
}

}  // namespace qsweep
