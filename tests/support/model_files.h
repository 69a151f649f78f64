#ifndef QSWEEP_TESTS_SUPPORT_MODEL_FILES_H_
#define QSWEEP_TESTS_SUPPORT_MODEL_FILES_H_

#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace qsweep::testing {

// Writers of tiny model files, independent of the readers under test. They
// write what they are told, right or wrong.

template <typename T>
void AppendLittleEndian(T value, std::string& out) {
  using Bits = std::conditional_t<
      sizeof(T) == 1, uint8_t,
      std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;
  const uint64_t bits = std::bit_cast<Bits>(value);
  for (size_t i = 0; i < sizeof(T); ++i) {
    out.push_back(static_cast<char>(static_cast<uint8_t>(bits >> (8 * i))));
  }
}

inline std::string FloatBytes(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) {
    AppendLittleEndian(value, bytes);
  }
  return bytes;
}

// A GGUF file piece by piece.
class GgufWriter {
 public:
  void AddString(absl::string_view key, absl::string_view value) {
    Key(key, 8);
    Text(value, metadata_);
  }
  void AddUint(absl::string_view key, uint32_t value) {
    Key(key, 4);
    AppendLittleEndian(value, metadata_);
  }
  void AddFloat(absl::string_view key, float value) {
    Key(key, 6);
    AppendLittleEndian(value, metadata_);
  }
  void AddBool(absl::string_view key, bool value) {
    Key(key, 7);
    metadata_.push_back(value ? 1 : 0);
  }
  void AddStrings(absl::string_view key,
                  const std::vector<std::string>& values) {
    Key(key, 9);
    AppendLittleEndian(uint32_t{8}, metadata_);
    AppendLittleEndian(uint64_t{values.size()}, metadata_);
    for (const std::string& value : values) {
      Text(value, metadata_);
    }
  }
  void AddInts(absl::string_view key, const std::vector<int32_t>& values) {
    Key(key, 9);
    AppendLittleEndian(uint32_t{5}, metadata_);
    AppendLittleEndian(uint64_t{values.size()}, metadata_);
    for (const int32_t value : values) {
      AppendLittleEndian(value, metadata_);
    }
  }

  struct Tensor {
    std::string name;
    std::vector<uint64_t> shape;  // outermost first
    uint32_t type = 0;            // F32
    std::string data;
    std::optional<uint64_t> offset;  // nothing: after the one before
  };
  void AddTensor(Tensor tensor) { tensors_.push_back(std::move(tensor)); }

  // What the header's counts and version say, when it lies.
  std::optional<uint64_t> num_tensors;
  std::optional<uint64_t> num_metadata;
  uint32_t version = 3;

  std::string Bytes() const {
    std::string out = "GGUF";
    AppendLittleEndian(version, out);
    AppendLittleEndian(num_tensors.value_or(tensors_.size()), out);
    AppendLittleEndian(num_metadata.value_or(num_entries_), out);
    out += metadata_;
    std::string data;
    for (const Tensor& tensor : tensors_) {
      Pad(data);
      Text(tensor.name, out);
      AppendLittleEndian(static_cast<uint32_t>(tensor.shape.size()), out);
      for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) {
        AppendLittleEndian(*it, out);
      }
      AppendLittleEndian(tensor.type, out);
      AppendLittleEndian(tensor.offset.value_or(data.size()), out);
      data += tensor.data;
    }
    Pad(out);
    return out + data;
  }

 private:
  static void Pad(std::string& out) { out.resize((out.size() + 31) / 32 * 32); }
  static void Text(absl::string_view text, std::string& out) {
    AppendLittleEndian(uint64_t{text.size()}, out);
    absl::StrAppend(&out, text);
  }
  void Key(absl::string_view key, uint32_t type) {
    Text(key, metadata_);
    AppendLittleEndian(type, metadata_);
    ++num_entries_;
  }

  std::string metadata_;
  uint64_t num_entries_ = 0;
  std::vector<Tensor> tensors_;
};

// A safetensors file: its header as given, then the data.
inline std::string SafetensorsBytes(absl::string_view header,
                                    absl::string_view data) {
  std::string out;
  AppendLittleEndian(uint64_t{header.size()}, out);
  return absl::StrCat(out, header, data);
}

// Well-formed safetensors, tensor by tensor.
class SafetensorsWriter {
 public:
  void Add(absl::string_view name, const std::vector<int64_t>& shape,
           absl::string_view dtype, absl::string_view bytes) {
    entries_.push_back(absl::StrCat("\"", name, "\":{\"dtype\":\"", dtype,
                                    "\",\"shape\":[", absl::StrJoin(shape, ","),
                                    "],\"data_offsets\":[", data_.size(), ",",
                                    data_.size() + bytes.size(), "]}"));
    absl::StrAppend(&data_, bytes);
  }
  std::string Bytes() const {
    return SafetensorsBytes(
        absl::StrCat("{\"__metadata__\":{\"format\":\"pt\"},",
                     absl::StrJoin(entries_, ","), "}"),
        data_);
  }

 private:
  std::vector<std::string> entries_;
  std::string data_;
};

}  // namespace qsweep::testing

#endif  // QSWEEP_TESTS_SUPPORT_MODEL_FILES_H_
