#include "worker/model/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/base/status_macros.h"
#include "worker/model/tensor_layout.h"

namespace qsweep {
namespace {

// Far above what any model has; a header that claims more is damaged.
constexpr uint64_t kMaxTensors = 1 << 20;
constexpr uint64_t kMaxMetadata = 1 << 20;
constexpr uint64_t kMaxArray = 1 << 28;
constexpr uint64_t kMaxString = 1 << 30;  // bytes
constexpr int kMaxArrayDepth = 4;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kMaxAlignment = 1 << 24;
constexpr uint64_t kDefaultAlignment = 32;
// A string's length, a type and one byte; a name, dimensions, type, offset.
constexpr uint64_t kMinMetadataBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;

enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};
constexpr uint32_t kNumValueTypes = 13;

// Fixed size in bytes; the smallest for strings and arrays.
uint64_t MinSize(ValueType type) {
  switch (type) {
    case ValueType::kUint8:
    case ValueType::kInt8:
    case ValueType::kBool:
      return 1;
    case ValueType::kUint16:
    case ValueType::kInt16:
      return 2;
    case ValueType::kUint32:
    case ValueType::kInt32:
    case ValueType::kFloat32:
      return 4;
    case ValueType::kString:
    case ValueType::kUint64:
    case ValueType::kInt64:
    case ValueType::kFloat64:
      return 8;
    case ValueType::kArray:
      return 12;
  }
  return 1;
}

struct TensorEntry {
  StoredTensor tensor;
  uint64_t offset = 0;  // from the start of the data
  uint64_t size = 0;    // bytes
};

// Walks the header front to back; every read is checked against the end.
class Parser {
 public:
  Parser(std::span<const uint8_t> bytes, const std::string& file)
      : bytes_(bytes), file_(file) {}

  absl::StatusOr<Gguf> Parse() {
    QSWEEP_RETURN_IF_ERROR(CheckMagic());
    QSWEEP_ASSIGN_OR_RETURN(const uint64_t num_tensors,
                            ReadCount("tensors", kMaxTensors, 0));
    QSWEEP_ASSIGN_OR_RETURN(
        const uint64_t num_metadata,
        ReadCount("metadata entries", kMaxMetadata, kMinMetadataBytes));
    for (uint64_t i = 0; i < num_metadata; ++i) {
      QSWEEP_RETURN_IF_ERROR(ReadMetadataEntry());
    }
    QSWEEP_RETURN_IF_ERROR(CheckRoom("tensors", num_tensors, kMinTensorBytes));
    std::vector<TensorEntry> entries;
    std::set<std::string> names;
    for (uint64_t i = 0; i < num_tensors; ++i) {
      QSWEEP_ASSIGN_OR_RETURN(TensorEntry entry, ReadTensorEntry());
      if (!names.insert(entry.tensor.name).second) {
        return Corrupt(
            absl::StrCat("two tensors are named '", entry.tensor.name, "'"));
      }
      entries.push_back(std::move(entry));
    }
    QSWEEP_RETURN_IF_ERROR(PlaceTensors(entries));
    return std::move(result_);
  }

 private:
  absl::Status Corrupt(absl::string_view what) const {
    return MakeError(kCorruptModel, what, file_,
                     "Download or convert the file again.");
  }
  absl::Status Truncated(absl::string_view what) const {
    return MakeError(kTruncatedModel,
                     absl::StrCat("the file ends inside ", what, " (",
                                  bytes_.size(), " bytes)"),
                     file_, "Download the file again.");
  }

  uint64_t left() const { return bytes_.size() - position_; }

  template <typename T>
  absl::StatusOr<T> Read(absl::string_view what) {
    if (left() < sizeof(T)) {
      return Truncated(what);
    }
    T value = 0;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  // That `count` things of at least `min_size` bytes may still follow.
  absl::Status CheckRoom(absl::string_view what, uint64_t count,
                         uint64_t min_size) const {
    if (min_size > 0 && count > left() / min_size) {
      return Truncated(absl::StrCat("its ", count, " ", what));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> ReadCount(absl::string_view what, uint64_t max,
                                     uint64_t min_size) {
    QSWEEP_ASSIGN_OR_RETURN(const uint64_t count, Read<uint64_t>(absl::StrCat(
                                                      "its count of ", what)));
    if (count > max) {
      return Corrupt(absl::StrCat("the header claims ", count, " ", what));
    }
    QSWEEP_RETURN_IF_ERROR(CheckRoom(what, count, min_size));
    return count;
  }

  absl::StatusOr<std::string> ReadString(absl::string_view what) {
    QSWEEP_ASSIGN_OR_RETURN(
        const uint64_t size,
        ReadCount(absl::StrCat("bytes of ", what), kMaxString, 1));
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_,
                     size);
    position_ += size;
    return text;
  }

  absl::Status CheckMagic() {
    constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
    QSWEEP_ASSIGN_OR_RETURN(const uint32_t magic, Read<uint32_t>("its magic"));
    if (magic != kMagic) {
      return Corrupt("the file does not begin with 'GGUF'");
    }
    QSWEEP_ASSIGN_OR_RETURN(const uint32_t version,
                            Read<uint32_t>("its version"));
    if (version != 2 && version != 3) {
      return Corrupt(
          absl::StrCat("GGUF versions 2 and 3 (little-endian) can "
                       "be read, the file says ",
                       version));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ValueType> ReadValueType(const std::string& key) {
    QSWEEP_ASSIGN_OR_RETURN(const uint32_t type, Read<uint32_t>("a type"));
    if (type >= kNumValueTypes) {
      return Corrupt(
          absl::StrCat("metadata '", key, "' has the unknown type ", type));
    }
    return static_cast<ValueType>(type);
  }

  absl::Status ReadMetadataEntry() {
    QSWEEP_ASSIGN_OR_RETURN(std::string key, ReadString("a metadata key"));
    QSWEEP_ASSIGN_OR_RETURN(const ValueType type, ReadValueType(key));
    QSWEEP_ASSIGN_OR_RETURN(GgufValue value, ReadValue(key, type, 0));
    if (!result_.metadata.emplace(key, std::move(value)).second) {
      return Corrupt(absl::StrCat("metadata '", key, "' is given twice"));
    }
    return absl::OkStatus();
  }

  template <typename T, typename Wide>
  absl::StatusOr<Wide> ReadAs(const std::string& key) {
    QSWEEP_ASSIGN_OR_RETURN(const T value, Read<T>(key));
    return static_cast<Wide>(value);
  }

  absl::StatusOr<GgufValue> ReadValue(const std::string& key, ValueType type,
                                      int depth) {
    switch (type) {
      case ValueType::kUint8:
        return ReadAs<uint8_t, uint64_t>(key);
      case ValueType::kInt8:
        return ReadAs<int8_t, int64_t>(key);
      case ValueType::kUint16:
        return ReadAs<uint16_t, uint64_t>(key);
      case ValueType::kInt16:
        return ReadAs<int16_t, int64_t>(key);
      case ValueType::kUint32:
        return ReadAs<uint32_t, uint64_t>(key);
      case ValueType::kInt32:
        return ReadAs<int32_t, int64_t>(key);
      case ValueType::kFloat32:
        return ReadAs<float, double>(key);
      case ValueType::kBool: {
        QSWEEP_ASSIGN_OR_RETURN(const uint8_t value, Read<uint8_t>(key));
        return GgufValue(value != 0);
      }
      case ValueType::kString:
        return ReadString(key);
      case ValueType::kArray:
        return ReadArray(key, depth);
      case ValueType::kUint64:
        return ReadAs<uint64_t, uint64_t>(key);
      case ValueType::kInt64:
        return ReadAs<int64_t, int64_t>(key);
      case ValueType::kFloat64:
        return ReadAs<double, double>(key);
    }
    return Corrupt(absl::StrCat("metadata '", key, "' has an unknown type"));
  }

  absl::StatusOr<GgufValue> ReadArray(const std::string& key, int depth) {
    if (depth == kMaxArrayDepth) {
      return Corrupt(absl::StrCat("metadata '", key, "' is nested too deep"));
    }
    QSWEEP_ASSIGN_OR_RETURN(const ValueType type, ReadValueType(key));
    QSWEEP_ASSIGN_OR_RETURN(
        const uint64_t count,
        ReadCount(absl::StrCat("elements of ", key), kMaxArray, MinSize(type)));
    std::vector<std::string> strings;
    std::vector<int64_t> integers;
    std::vector<double> floats;
    for (uint64_t i = 0; i < count; ++i) {
      QSWEEP_ASSIGN_OR_RETURN(GgufValue value, ReadValue(key, type, depth + 1));
      if (auto* text = std::get_if<std::string>(&value)) {
        strings.push_back(std::move(*text));
      } else if (const auto* number = std::get_if<int64_t>(&value)) {
        integers.push_back(*number);
      } else if (const auto* natural = std::get_if<uint64_t>(&value)) {
        integers.push_back(static_cast<int64_t>(*natural));
      } else if (const auto* flag = std::get_if<bool>(&value)) {
        integers.push_back(*flag ? 1 : 0);
      } else if (const auto* real = std::get_if<double>(&value)) {
        floats.push_back(*real);
      }
    }
    switch (type) {
      case ValueType::kString:
        return GgufValue(std::move(strings));
      case ValueType::kFloat32:
      case ValueType::kFloat64:
        return GgufValue(std::move(floats));
      case ValueType::kArray:
        return GgufValue(std::monostate());
      default:
        return GgufValue(std::move(integers));
    }
  }

  absl::StatusOr<TensorEntry> ReadTensorEntry() {
    TensorEntry entry;
    StoredTensor& tensor = entry.tensor;
    QSWEEP_ASSIGN_OR_RETURN(tensor.name, ReadString("a tensor's name"));
    const std::string what = absl::StrCat("tensor '", tensor.name, "'");
    QSWEEP_ASSIGN_OR_RETURN(const uint32_t num_dimensions,
                            Read<uint32_t>(what));
    if (num_dimensions == 0 || num_dimensions > kMaxDimensions) {
      return Corrupt(
          absl::StrCat(what, " has ", num_dimensions, " dimensions"));
    }
    for (uint32_t i = 0; i < num_dimensions; ++i) {
      QSWEEP_ASSIGN_OR_RETURN(const uint64_t size, Read<uint64_t>(what));
      if (size == 0 ||
          size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return Corrupt(absl::StrCat(what, " has a dimension of ", size));
      }
      // The file stores the innermost dimension first.
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
    }
    QSWEEP_ASSIGN_OR_RETURN(const uint32_t type, Read<uint32_t>(what));
    const std::optional<TensorType> known = TensorTypeOfGguf(type);
    if (!known) {
      return MakeError(
          kUnsupportedTensorType,
          absl::StrCat(what, " is stored as ", GgufTypeName(type)), file_,
          "Use F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or "
          "Q6_K.");
    }
    tensor.type = *known;
    const std::optional<uint64_t> stored =
        StoredBytes(tensor.shape, tensor.type);
    if (!stored) {
      return Corrupt(absl::StrCat(what,
                                  " has a shape that is no whole number "
                                  "of blocks or larger than memory"));
    }
    entry.size = *stored;
    QSWEEP_ASSIGN_OR_RETURN(entry.offset, Read<uint64_t>(what));
    return entry;
  }

  absl::StatusOr<uint64_t> Alignment() const {
    const auto it = result_.metadata.find("general.alignment");
    if (it == result_.metadata.end()) {
      return kDefaultAlignment;
    }
    const uint64_t* value = std::get_if<uint64_t>(&it->second);
    if (value == nullptr || *value == 0 || *value > kMaxAlignment ||
        (*value & (*value - 1)) != 0) {
      return Corrupt("general.alignment is not a power of two");
    }
    return *value;
  }

  absl::Status PlaceTensors(std::vector<TensorEntry>& entries) {
    QSWEEP_ASSIGN_OR_RETURN(const uint64_t alignment, Alignment());
    const uint64_t start = (position_ + alignment - 1) / alignment * alignment;
    const std::span<const uint8_t> data =
        bytes_.subspan(std::min<size_t>(start, bytes_.size()));
    std::vector<TensorExtent> extents;
    for (TensorEntry& entry : entries) {
      if (entry.offset % alignment != 0) {
        return Corrupt(absl::StrCat("tensor '", entry.tensor.name, "' lies at ",
                                    entry.offset, ", no multiple of ",
                                    alignment));
      }
      extents.push_back({entry.tensor.name, entry.offset, entry.size});
    }
    QSWEEP_RETURN_IF_ERROR(CheckExtents(extents, data.size(), file_));
    for (TensorEntry& entry : entries) {
      entry.tensor.data = data.subspan(entry.offset, entry.size);
      result_.tensors.push_back(std::move(entry.tensor));
    }
    return absl::OkStatus();
  }

  const std::span<const uint8_t> bytes_;
  const std::string& file_;
  uint64_t position_ = 0;
  Gguf result_;
};

}  // namespace

absl::StatusOr<Gguf> ParseGguf(std::span<const uint8_t> bytes,
                               const std::string& file) {
  return Parser(bytes, file).Parse();
}

}  // namespace qsweep
