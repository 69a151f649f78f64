#ifndef QSWEEP_COMMON_BASE_IDS_H_
#define QSWEEP_COMMON_BASE_IDS_H_

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qsweep {

// An integer that only equals its own kind. Mixed-up int64s would compile.
template <typename Tag>
class IntegerId {
 public:
  constexpr IntegerId() = default;
  constexpr explicit IntegerId(int64_t value) : value_(value) {}
  constexpr int64_t value() const { return value_; }
  constexpr bool valid() const { return value_ > 0; }  // 0: none
  constexpr IntegerId Next() const { return IntegerId(value_ + 1); }

  auto operator<=>(const IntegerId&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const IntegerId& id) {
    return H::combine(std::move(h), id.value_);
  }

 private:
  int64_t value_ = 0;
};

using TaskId = IntegerId<struct TaskIdTag>;
using JobNumber = IntegerId<struct JobNumberTag>;
using Epoch = IntegerId<struct EpochTag>;  // grants of a task so far
using EventSeq = IntegerId<struct EventSeqTag>;
using TokenId = IntegerId<struct TokenIdTag>;

// 128 random bits. Tag keeps a job's from a worker's.
template <typename Tag>
class UuidId {
 public:
  static constexpr int kSize = 16;  // bytes

  UuidId() = default;
  // INVALID_ARGUMENT: not 16 bytes.
  static absl::StatusOr<UuidId> FromBytes(absl::string_view bytes);
  // "7f3a91c2-....": 32 hex digits, dashes optional. INVALID_ARGUMENT.
  static absl::StatusOr<UuidId> FromText(absl::string_view text);

  std::string bytes() const;
  std::string text() const;  // with dashes, lower case
  bool empty() const { return *this == UuidId(); }

  auto operator<=>(const UuidId&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const UuidId& id) {
    return H::combine(std::move(h), id.bytes_);
  }

 private:
  std::array<uint8_t, kSize> bytes_ = {};
};

using JobUuid = UuidId<struct JobUuidTag>;
using WorkerUuid =
    UuidId<struct WorkerUuidTag>;         // kept in the worker's directory
using BootId = UuidId<struct BootIdTag>;  // new at each start of a worker
using SessionId = UuidId<struct SessionIdTag>;  // new at each attach

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_IDS_H_
