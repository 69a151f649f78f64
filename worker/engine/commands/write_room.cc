#include "worker/engine/commands/write_room.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

#include "common/base/error.h"
#include "common/base/error_codes.h"
#include "common/job/layer_set.h"
#include "common/job/quantizer.h"
#include "worker/engine/block_places.h"
#include "worker/kernels/quantize.h"

namespace qsweep {
namespace {

constexpr auto kFloat = static_cast<int64_t>(sizeof(float));

int64_t BytesOf(const ModelDescription& model, const TensorDescription& tensor,
                const Scheme& scheme, bool pack) {
  const int64_t count = tensor.num_elements();
  const int64_t rows = RowsOf(tensor);
  const int64_t codes = kernels::CodedBytes(scheme, rows, count / rows);
  // Words, and the same as bytes of the file.
  const int64_t packed = pack ? 2 * (count * scheme.bits / 8) : 0;
  if (scheme.calibrated()) {
    return codes + packed;
  }
  if (pack) {  // values and codes of the quantizer, then codes alone
    return codes +
           std::max(kernels::QuantizeToCodesBytes(scheme, rows, count / rows),
                    packed);
  }
  // A bit where a weight is kept, and the weight.
  const int64_t kept =
      scheme.kept_millionths == 0
          ? 0
          : count / 8 + 8 +
                kFloat *
                    std::min(count, NumKept(model, scheme.kept_millionths));
  return kept + kernels::FakeQuantizeBytes(scheme, rows, count / rows);
}

}  // namespace

std::vector<int64_t> WriteBytes(const ModelDescription& model,
                                const Configuration& configuration, bool pack) {
  std::vector<int64_t> bytes;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const TensorDescription& tensor = model.tensors[i];
    const std::optional<Scheme>& scheme = configuration.schemes[i];
    bytes.push_back(kFloat * tensor.num_elements() +
                    (scheme ? BytesOf(model, tensor, *scheme, pack) : 0));
  }
  return bytes;
}

absl::StatusOr<WriteRoom> FindWriteRoom(std::span<const int64_t> bytes,
                                        int64_t counting_bytes, int threads,
                                        int64_t memory_bytes) {
  const int64_t least = std::max(
      counting_bytes, bytes.empty() ? 0 : *std::ranges::max_element(bytes));
  if (least > memory_bytes) {
    return MakeError(
        kOutOfMemory,
        absl::StrCat("Writing one tensor takes more than the ", memory_bytes,
                     " bytes that the engine may use. The least that works is ",
                     least, " bytes."),
        "--memory", "Give the engine more memory.");
  }
  WriteRoom room;
  if (counting_bytes > 0) {
    room.counting_threads = static_cast<int>(
        std::min<int64_t>(threads, memory_bytes / counting_bytes));
  }
  const size_t most = 2 * static_cast<size_t>(threads);
  int64_t sum = 0;
  size_t first = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > first && (i - first == most || sum + bytes[i] > memory_bytes)) {
      room.ends.push_back(i);
      first = i;
      sum = 0;
    }
    sum += bytes[i];
  }
  if (!bytes.empty()) {
    room.ends.push_back(bytes.size());
  }
  return room;
}

}  // namespace qsweep
