#ifndef QSWEEP_COMMON_BASE_DIGEST_H_
#define QSWEEP_COMMON_BASE_DIGEST_H_

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/stopped.h"

namespace qsweep {

// A SHA-256. Immutable value; the all-zero digest means "none".
class Digest {
 public:
  static constexpr int kSize = 32;  // bytes

  Digest() = default;
  // INVALID_ARGUMENT: not 32 bytes.
  static absl::StatusOr<Digest> FromBytes(absl::string_view bytes);
  // INVALID_ARGUMENT: not 64 hex digits.
  static absl::StatusOr<Digest> FromHex(absl::string_view hex);
  // SHA-256 of data.
  static Digest Of(absl::string_view data);

  // 32 raw bytes, for proto and SQL.
  std::string bytes() const;
  // 64 lower-case hex digits, for people.
  std::string hex() const;
  bool empty() const { return *this == Digest(); }

  auto operator<=>(const Digest&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const Digest& digest) {
    return H::combine(std::move(h), digest.bytes_);
  }

 private:
  friend class DigestBuilder;
  std::array<uint8_t, kSize> bytes_ = {};
};

// SHA-256 of data that comes in pieces. Single-thread.
//   DigestBuilder builder;
//   builder.Update(piece);
//   Digest digest = builder.Finish();  // once
class DigestBuilder {
 public:
  DigestBuilder();
  ~DigestBuilder();
  void Update(absl::string_view data);
  Digest Finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// SHA-256 of a file's bytes. `stopped` is asked before each MiB. NOT_FOUND,
// UNAVAILABLE (read error), CANCELLED.
absl::StatusOr<Digest> DigestOfFile(const std::string& path,
                                    const Stopped& stopped = {});

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_DIGEST_H_
