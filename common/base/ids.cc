#include "common/base/ids.h"

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace qsweep {

template <typename Tag>
absl::StatusOr<UuidId<Tag>> UuidId<Tag>::FromBytes(absl::string_view bytes) {
  if (bytes.size() != kSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("a UUID has 16 bytes, not ", bytes.size()));
  }
  UuidId id;
  std::memcpy(id.bytes_.data(), bytes.data(), kSize);
  return id;
}

template <typename Tag>
absl::StatusOr<UuidId<Tag>> UuidId<Tag>::FromText(absl::string_view text) {
  const std::string hex = absl::StrReplaceAll(text, {{"-", ""}});
  for (const char c : hex) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) {
      return absl::InvalidArgumentError(absl::StrCat("not a UUID: ", text));
    }
  }
  if (hex.size() != 2 * kSize) {
    return absl::InvalidArgumentError(absl::StrCat("not a UUID: ", text));
  }
  return FromBytes(absl::HexStringToBytes(hex));
}

template <typename Tag>
std::string UuidId<Tag>::bytes() const {
  return std::string(bytes_.begin(), bytes_.end());
}

template <typename Tag>
std::string UuidId<Tag>::text() const {
  const std::string hex = absl::BytesToHexString(bytes());
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-",
                      hex.substr(12, 4), "-", hex.substr(16, 4), "-",
                      hex.substr(20));
}

template class UuidId<JobUuidTag>;
template class UuidId<WorkerUuidTag>;
template class UuidId<BootIdTag>;
template class UuidId<SessionIdTag>;

}  // namespace qsweep
