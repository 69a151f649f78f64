#include "worker/model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "simdjson.h"
#include "worker/model/tensor_layout.h"
#include "worker/tokenizer/json_fields.h"

namespace qsweep {
namespace {

namespace dom = simdjson::dom;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kLengthBytes = 8;
constexpr size_t kMaxDimensions = 8;

absl::Status Corrupt(const std::string& file, absl::string_view what) {
  return MakeError(kCorruptModel, what, file,
                   "Download or convert the file again.");
}

struct Entry {
  StoredTensor tensor;
  TensorExtent extent;
};

absl::StatusOr<std::vector<int64_t>> ReadIntegers(const std::string& file,
                                                  const std::string& what,
                                                  dom::element json,
                                                  size_t max_count) {
  dom::array array;
  if (json.get(array) != simdjson::SUCCESS || array.size() > max_count) {
    return Corrupt(file, absl::StrCat(what, " is not a list of integers"));
  }
  std::vector<int64_t> values;
  for (const dom::element element : array) {
    int64_t value = 0;
    if (element.get(value) != simdjson::SUCCESS || value < 0) {
      return Corrupt(file, absl::StrCat(what,
                                        " has an element that is no integer "
                                        "from 0 to 2^63-1"));
    }
    values.push_back(value);
  }
  return values;
}

absl::StatusOr<Entry> ReadEntry(const std::string& file, std::string name,
                                dom::element json) {
  Entry entry;
  entry.tensor.name = std::move(name);
  const std::string what = absl::StrCat("tensor '", entry.tensor.name, "'");
  dom::element dtype;
  dom::element shape;
  dom::element offsets;
  if (json["dtype"].get(dtype) != simdjson::SUCCESS ||
      json["shape"].get(shape) != simdjson::SUCCESS ||
      json["data_offsets"].get(offsets) != simdjson::SUCCESS) {
    return Corrupt(file,
                   absl::StrCat(what, " lacks dtype, shape or data_offsets"));
  }
  const std::optional<TensorType> type =
      TensorTypeOfSafetensors(JsonText(dtype).value_or(""));
  if (!type) {
    return MakeError(kUnsupportedTensorType,
                     absl::StrCat(what, " is stored as ",
                                  JsonText(dtype).value_or("something else")),
                     file, "Use F32, F16 or BF16 weights.");
  }
  entry.tensor.type = *type;
  QSWEEP_ASSIGN_OR_RETURN(
      entry.tensor.shape,
      ReadIntegers(file, what + ": shape", shape, kMaxDimensions));
  QSWEEP_ASSIGN_OR_RETURN(
      const std::vector<int64_t> range,
      ReadIntegers(file, what + ": data_offsets", offsets, 2));
  const std::optional<uint64_t> size = StoredBytes(entry.tensor.shape, *type);
  if (range.size() != 2 || range[0] > range[1] || !size ||
      static_cast<uint64_t>(range[1] - range[0]) != *size) {
    return Corrupt(
        file, absl::StrCat(what, ": data_offsets [", absl::StrJoin(range, ", "),
                           "] do not fit shape [",
                           absl::StrJoin(entry.tensor.shape, ", "), "]"));
  }
  entry.extent = {entry.tensor.name, static_cast<uint64_t>(range[0]), *size};
  return entry;
}

absl::StatusOr<std::vector<Entry>> ReadHeader(const std::string& file,
                                              absl::string_view text) {
  dom::parser parser;
  dom::element document;
  dom::object object;
  if (parser.parse(text.data(), text.size()).get(document) !=
          simdjson::SUCCESS ||
      document.get(object) != simdjson::SUCCESS) {
    return Corrupt(file, "the header is not a JSON object");
  }
  std::vector<Entry> entries;
  for (const dom::key_value_pair field : object) {
    if (field.key == "__metadata__") {
      continue;
    }
    QSWEEP_ASSIGN_OR_RETURN(
        Entry entry, ReadEntry(file, std::string(field.key), field.value));
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.tensor.name < b.tensor.name;
  });
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].tensor.name == entries[i - 1].tensor.name) {
      return Corrupt(file, absl::StrCat("tensor '", entries[i].tensor.name,
                                        "' is given twice"));
    }
  }
  return entries;
}

}  // namespace

absl::StatusOr<std::vector<StoredTensor>> ParseSafetensors(
    std::span<const uint8_t> bytes, const std::string& file) {
  if (bytes.size() < kLengthBytes) {
    return MakeError(kTruncatedModel,
                     absl::StrCat("the file has ", bytes.size(),
                                  " bytes, too few for a header"),
                     file, "Download the file again.");
  }
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), kLengthBytes);
  if (header_size > kMaxHeaderBytes) {
    return Corrupt(file,
                   absl::StrCat("the header claims ", header_size,
                                " bytes, the format allows ", kMaxHeaderBytes));
  }
  if (header_size > bytes.size() - kLengthBytes) {
    return MakeError(
        kTruncatedModel,
        absl::StrCat("the file ends inside its header (", bytes.size(),
                     " bytes, the header takes ", header_size, ")"),
        file, "Download the file again.");
  }
  const std::span<const uint8_t> header =
      bytes.subspan(kLengthBytes, header_size);
  const std::span<const uint8_t> data =
      bytes.subspan(kLengthBytes + header_size);
  QSWEEP_ASSIGN_OR_RETURN(
      std::vector<Entry> entries,
      ReadHeader(
          file, {reinterpret_cast<const char*>(header.data()), header.size()}));
  std::vector<TensorExtent> extents;
  uint64_t covered = 0;
  for (const Entry& entry : entries) {
    extents.push_back(entry.extent);
  }
  QSWEEP_RETURN_IF_ERROR(CheckExtents(std::move(extents), data.size(), file));
  std::vector<StoredTensor> tensors;
  for (Entry& entry : entries) {
    covered += entry.extent.size;
    entry.tensor.data = data.subspan(entry.extent.offset, entry.extent.size);
    tensors.push_back(std::move(entry.tensor));
  }
  if (covered != data.size()) {
    return Corrupt(file, absl::StrCat("the tensors cover ", covered, " of ",
                                      data.size(), " data bytes"));
  }
  return tensors;
}

absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(
    absl::string_view json, const std::string& file) {
  dom::parser parser;
  dom::element document;
  dom::object weight_map;
  if (json.empty() ||
      parser.parse(json.data(), json.size()).get(document) !=
          simdjson::SUCCESS ||
      document["weight_map"].get(weight_map) != simdjson::SUCCESS) {
    return Corrupt(file, "the index has no weight_map");
  }
  std::map<std::string, std::string> files;
  for (const dom::key_value_pair field : weight_map) {
    const std::string name = JsonText(field.value).value_or("");
    if (name.empty() || name.find('/') != std::string::npos) {
      return Corrupt(file, absl::StrCat("weight_map: the file of '",
                                        std::string(field.key),
                                        "' is not a plain file name"));
    }
    if (!files.emplace(std::string(field.key), name).second) {
      return Corrupt(file, absl::StrCat("weight_map names '",
                                        std::string(field.key), "' twice"));
    }
  }
  return files;
}

}  // namespace qsweep
