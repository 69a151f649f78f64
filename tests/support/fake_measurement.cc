#include "tests/support/fake_measurement.h"

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/base/digest.h"

namespace qsweep::testing {
namespace {

// Uniform in [0, 1).
double Draw(absl::string_view a, absl::string_view b, const char* what) {
  const std::string bytes = Digest::Of(absl::StrCat(a, "|", b, what)).bytes();
  uint64_t bits;
  std::memcpy(&bits, bytes.data(), sizeof(bits));
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace

v1::Measurement FakeMeasurement(absl::string_view configuration_digest,
                                absl::string_view document_digest,
                                bool baseline) {
  const auto tokens =
      static_cast<uint64_t>(20 + 100 * Draw(document_digest, "", "n"));
  const double nll_fp =
      static_cast<double>(tokens) * (2 + Draw(document_digest, "", "fp"));
  const double harm =
      baseline ? 0 : Draw(configuration_digest, document_digest, "harm");
  v1::Measurement row;
  row.set_status(v1::ROW_STATUS_OK);
  row.set_nll_fp_sum(nll_fp);
  row.set_nll_sum(nll_fp * (1 + 0.1 * harm));
  row.set_unigram_nll_sum(static_cast<double>(tokens) * 7);
  row.set_tokens(tokens);
  row.set_bytes(4 * tokens + 4);
  row.set_bytes_scored(4 * tokens);
  row.set_chars(4 * tokens + 4);
  row.set_kl_sum(harm);
  row.set_top1(tokens - static_cast<uint64_t>(10 * harm));
  return row;
}

}  // namespace qsweep::testing
