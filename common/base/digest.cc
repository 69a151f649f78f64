#include "common/base/digest.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include <openssl/evp.h>

#include "common/base/check.h"

namespace qsweep {

struct DigestBuilder::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~Impl() { EVP_MD_CTX_free(context); }
};

DigestBuilder::DigestBuilder() : impl_(std::make_unique<Impl>()) {
  QSWEEP_CHECK(EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr) == 1);
}

DigestBuilder::~DigestBuilder() = default;

void DigestBuilder::Update(absl::string_view data) {
  QSWEEP_CHECK(EVP_DigestUpdate(impl_->context, data.data(), data.size()) == 1);
}

Digest DigestBuilder::Finish() {
  Digest digest;
  unsigned int size = 0;
  QSWEEP_CHECK(
      EVP_DigestFinal_ex(impl_->context, digest.bytes_.data(), &size) == 1);
  QSWEEP_CHECK(size == Digest::kSize);
  return digest;
}

absl::StatusOr<Digest> Digest::FromBytes(absl::string_view bytes) {
  if (bytes.size() != kSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("a digest has 32 bytes, not ", bytes.size()));
  }
  Digest digest;
  std::memcpy(digest.bytes_.data(), bytes.data(), kSize);
  return digest;
}

absl::StatusOr<Digest> Digest::FromHex(absl::string_view hex) {
  if (hex.size() != 2 * kSize) {  // of an odd number the last would be lost
    return absl::InvalidArgumentError(
        absl::StrCat("a digest has 64 hex digits, not ", hex.size()));
  }
  for (const char c : hex) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) {
      return absl::InvalidArgumentError(
          absl::StrCat("not a hex digest: ", hex));
    }
  }
  return FromBytes(absl::HexStringToBytes(hex));
}

Digest Digest::Of(absl::string_view data) {
  DigestBuilder builder;
  builder.Update(data);
  return builder.Finish();
}

std::string Digest::bytes() const {
  return std::string(bytes_.begin(), bytes_.end());
}

std::string Digest::hex() const { return absl::BytesToHexString(bytes()); }

absl::StatusOr<Digest> DigestOfFile(const std::string& path,
                                    const Stopped& stopped) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) {
    return absl::NotFoundError(
        absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  }
  DigestBuilder builder;
  std::vector<char> buffer(1 << 20);
  while (true) {
    if (IsStopped(stopped)) {
      return absl::CancelledError(absl::StrCat("told to stop reading ", path));
    }
    const size_t size = std::fread(buffer.data(), 1, buffer.size(), file.get());
    if (size == 0) {
      break;
    }
    builder.Update(absl::string_view(buffer.data(), size));
  }
  if (std::ferror(file.get()) != 0) {
    return absl::UnavailableError(absl::StrCat("cannot read ", path));
  }
  return builder.Finish();
}

}  // namespace qsweep
