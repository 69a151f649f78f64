#ifndef QSWEEP_COMMON_BASE_TOKEN_TEXT_H_
#define QSWEEP_COMMON_BASE_TOKEN_TEXT_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/base/digest.h"
#include "common/base/ids.h"

namespace qsweep {

// How tokens are written down. Both begin with "qsw-", so that people and
// scanners of leaked secrets know one when they see it. Values.

// 256 random bits. The coordinator keeps their SHA-256 only.
class Secret {
 public:
  static constexpr int kSize = 32;  // bytes

  // From the system's generator.
  static Secret Make();
  // INVALID_ARGUMENT: not 64 lower-case hex digits.
  static absl::StatusOr<Secret> FromHex(absl::string_view hex);

  const std::string& bytes() const { return bytes_; }
  std::string hex() const;
  Digest digest() const { return Digest::Of(bytes_); }

 private:
  explicit Secret(std::string bytes) : bytes_(std::move(bytes)) {}
  std::string bytes_;
};

// Shown with every call: "qsw-<id>-<secret>".
struct AccessTokenText {
  TokenId id;
  Secret secret;
};

// Exchanged once for an access token: "qsw-join-<ca>-<id>-<secret>". ca: the
// SHA-256 of the coordinator's certificate authority (DER), checked before the
// secret leaves the machine.
struct JoinTokenText {
  Digest ca;
  TokenId id;
  Secret secret;
};

std::string FormatToken(const AccessTokenText& token);
std::string FormatToken(const JoinTokenText& token);

// White space around the text is ignored. INVALID_ARGUMENT QS6007 without any
// part of the text in it: it may be most of a secret.
absl::StatusOr<AccessTokenText> ParseAccessToken(absl::string_view text);
absl::StatusOr<JoinTokenText> ParseJoinToken(absl::string_view text);

// Takes as long for a wrong first byte as for a wrong last one.
bool EqualInConstantTime(absl::string_view a, absl::string_view b);

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_TOKEN_TEXT_H_
