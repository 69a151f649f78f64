#include "common/base/token_text.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <openssl/crypto.h>

#include "common/base/error_codes.h"
#include "common/base/random.h"

namespace qsweep {
namespace {

constexpr char kPrefix[] = "qsw-";
constexpr char kJoinPrefix[] = "qsw-join-";

bool IsLowerHex(absl::string_view text) {
  return std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

// One spelling for each number: no sign, no leading zero.
std::optional<TokenId> ParseId(absl::string_view text) {
  int64_t value = 0;
  if (text.empty() || text[0] < '1' || text[0] > '9' ||
      !absl::SimpleAtoi(text, &value) || absl::StrCat(value) != text) {
    return std::nullopt;
  }
  return TokenId(value);
}

absl::Status Malformed(absl::string_view what, absl::string_view form) {
  return MakeError(kMalformedToken, absl::StrCat("this is no ", what), "token",
                   absl::StrCat("paste it whole, as it was printed: ", form));
}

}  // namespace

Secret Secret::Make() { return Secret(SecureRandomBytes(kSize)); }

absl::StatusOr<Secret> Secret::FromHex(absl::string_view hex) {
  if (hex.size() != 2 * kSize || !IsLowerHex(hex)) {
    return absl::InvalidArgumentError("a secret is 64 lower-case hex digits");
  }
  return Secret(absl::HexStringToBytes(hex));
}

std::string Secret::hex() const { return absl::BytesToHexString(bytes_); }

std::string FormatToken(const AccessTokenText& token) {
  return absl::StrCat(kPrefix, token.id.value(), "-", token.secret.hex());
}

std::string FormatToken(const JoinTokenText& token) {
  return absl::StrCat(kJoinPrefix, token.ca.hex(), "-", token.id.value(), "-",
                      token.secret.hex());
}

absl::StatusOr<AccessTokenText> ParseAccessToken(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  if (absl::ConsumePrefix(&text, kPrefix)) {
    const std::vector<absl::string_view> parts = absl::StrSplit(text, '-');
    if (parts.size() == 2) {
      const std::optional<TokenId> id = ParseId(parts[0]);
      auto secret = Secret::FromHex(parts[1]);
      if (id && secret.ok()) {
        return AccessTokenText{.id = *id, .secret = *std::move(secret)};
      }
    }
  }
  return Malformed("access token", "qsw-NUMBER-SECRET");
}

absl::StatusOr<JoinTokenText> ParseJoinToken(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  if (absl::ConsumePrefix(&text, kJoinPrefix)) {
    const std::vector<absl::string_view> parts = absl::StrSplit(text, '-');
    if (parts.size() == 3 && IsLowerHex(parts[0])) {
      const auto ca = Digest::FromHex(parts[0]);
      const std::optional<TokenId> id = ParseId(parts[1]);
      auto secret = Secret::FromHex(parts[2]);
      if (ca.ok() && id && secret.ok()) {
        return JoinTokenText{
            .ca = *ca, .id = *id, .secret = *std::move(secret)};
      }
    }
  }
  return Malformed("join token", "qsw-join-DIGEST-NUMBER-SECRET");
}

bool EqualInConstantTime(absl::string_view a, absl::string_view b) {
  return a.size() == b.size() &&
         CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace qsweep
