#include "worker/engine/largest_weights.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/job/layer_set.h"
#include "worker/kernels/row_kernels.h"

namespace qsweep {
namespace {

// Magnitudes are ordered as their bits are. What the upper ones leave open the
// lower ones say: of bf16, fp16 and codes times few scales mostly nothing.
constexpr uint32_t kMagnitude = 0x7fffffff;
constexpr int kLowerBits = 13;
constexpr size_t kUpper = size_t{1} << (31 - kLowerBits);
constexpr size_t kLower = size_t{1} << kLowerBits;
constexpr uint32_t kLowerMask = kLower - 1;

// How many weights have each value of some bits; per thread, then summed.
using Counts = std::vector<int64_t>;

// The value that the rank-th largest has; rank becomes its place among those.
uint32_t FindRank(const Counts& counts, int64_t& rank) {
  size_t value = counts.size();
  do {
    QSWEEP_CHECK(value > 0);
    --value;
    if (counts[value] >= rank) {
      return static_cast<uint32_t>(value);
    }
    rank -= counts[value];
  } while (true);
}

Counts Sum(std::vector<Counts> of_threads) {
  Counts sum = std::move(of_threads.front());
  for (size_t thread = 1; thread < of_threads.size(); ++thread) {
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] += of_threads[thread][i];
    }
  }
  return sum;
}

// Reads what weights layer sets choose from.
class WeightReader {
 public:
  WeightReader(const Checkpoint& checkpoint, const ModelDescription& model,
               ThreadPool& pool, std::stop_token stop,
               const LargestWeights::Progress& progress)
      : checkpoint_(checkpoint),
        pool_(pool),
        stop_(std::move(stop)),
        progress_(progress) {
    // A layer, or a tensor outside the layers, which may be as large.
    std::optional<int> layer;
    for (const TensorDescription& tensor : model.tensors) {
      if (!IsWeightNamed(tensor)) {
        continue;
      }
      if (tensor.layer < 0 || layer != tensor.layer) {
        batches_.emplace_back();
        layer = tensor.layer;
      }
      batches_.back().push_back(&tensor);
    }
  }

  int num_threads() const { return pool_.num_threads(); }

  // count(thread, weights): of each piece of a tensor, on several threads at
  // once. begin, end: shares of the whole work.
  template <typename Visit>
  absl::Status ForEach(double begin, double end, const Visit& count) const {
    for (size_t b = 0; b < batches_.size(); ++b) {
      progress_(begin + (end - begin) * static_cast<double>(b) /
                            static_cast<double>(batches_.size()));
      const std::vector<const TensorDescription*>& batch = batches_[b];
      QSWEEP_RETURN_IF_ERROR(
          pool_.ParallelFor(static_cast<int64_t>(batch.size()), stop_,
                            [&](int64_t item, int thread) {
                              return Count(*batch[static_cast<size_t>(item)],
                                           static_cast<size_t>(thread), count);
                            }));
    }
    return absl::OkStatus();
  }

 private:
  template <typename Visit>
  absl::Status Count(const TensorDescription& tensor, size_t thread,
                     const Visit& count) const {
    kernels::FloatBuffer values(tensor.num_elements());
    const std::span<float> weights(values.data(),
                                   static_cast<size_t>(values.size()));
    QSWEEP_RETURN_IF_ERROR(
        checkpoint_.ReadTensor(tensor.name, weights, StoppedBy(stop_)));
    for (size_t first = 0; first < weights.size();
         first += Checkpoint::kPieceValues) {
      if (stop_.stop_requested()) {
        return absl::CancelledError("The counting of weights was stopped.");
      }
      count(thread, weights.subspan(first, std::min(Checkpoint::kPieceValues,
                                                    weights.size() - first)));
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  ThreadPool& pool_;
  const std::stop_token stop_;
  const LargestWeights::Progress& progress_;
  std::vector<std::vector<const TensorDescription*>> batches_;
};

// A threshold that is looked for.
struct Wanted {
  int kept_millionths = 0;
  int64_t rank = 0;    // among all weights, then among those with `upper`
  uint32_t upper = 0;  // bits of the threshold
  uint32_t lower = 0;
};

// Finds `upper` of each. Whether that is all there is to find.
absl::StatusOr<bool> FindUpper(const WeightReader& reader, double end,
                               std::vector<Wanted>& wanted) {
  const auto threads = static_cast<size_t>(reader.num_threads());
  std::vector<Counts> counts(threads, Counts(kUpper));
  std::vector<uint32_t> lower(threads);  // bits that some weight has
  QSWEEP_RETURN_IF_ERROR(reader.ForEach(
      0, end, [&](size_t thread, std::span<const float> weights) {
        Counts& mine = counts[thread];
        uint32_t any = 0;
        for (const float weight : weights) {
          const uint32_t bits = std::bit_cast<uint32_t>(weight) & kMagnitude;
          any |= bits;
          ++mine[bits >> kLowerBits];
        }
        lower[thread] |= any & kLowerMask;
      }));
  const Counts sum = Sum(std::move(counts));
  for (Wanted& one : wanted) {
    one.upper = FindRank(sum, one.rank);
  }
  uint32_t any = 0;
  for (const uint32_t bits : lower) {
    any |= bits;
  }
  return any == 0;
}

absl::Status FindLower(const WeightReader& reader, double begin,
                       std::vector<Wanted>& wanted) {
  // Of each upper part that is wanted.
  std::map<uint32_t, std::vector<Counts>> counts;
  for (const Wanted& one : wanted) {
    counts.try_emplace(one.upper, static_cast<size_t>(reader.num_threads()),
                       Counts(kLower));
  }
  QSWEEP_RETURN_IF_ERROR(reader.ForEach(
      begin, 1, [&](size_t thread, std::span<const float> weights) {
        for (auto& [upper, of_threads] : counts) {
          Counts& mine = of_threads[thread];
          for (const float weight : weights) {
            const uint32_t bits = std::bit_cast<uint32_t>(weight) & kMagnitude;
            if (bits >> kLowerBits == upper) {
              ++mine[bits & kLowerMask];
            }
          }
        }
      }));
  std::map<uint32_t, Counts> sums;
  for (auto& [upper, of_threads] : counts) {
    sums[upper] = Sum(std::move(of_threads));
  }
  for (Wanted& one : wanted) {
    one.lower = FindRank(sums.at(one.upper), one.rank);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LargestWeights::Find(const Checkpoint& checkpoint,
                                  const ModelDescription& model,
                                  std::span<const Configuration> configurations,
                                  ThreadPool& pool, const std::stop_token& stop,
                                  const Progress& progress) {
  std::set<int> shares;
  for (const Configuration& configuration : configurations) {
    for (const std::optional<Scheme>& scheme : configuration.schemes) {
      if (scheme && scheme->kept_millionths != 0 &&
          !thresholds_.contains(scheme->kept_millionths)) {
        shares.insert(scheme->kept_millionths);
      }
    }
  }
  if (shares.empty()) {
    return absl::OkStatus();
  }
  std::vector<Wanted> wanted;
  for (const int share : shares) {
    wanted.push_back({.kept_millionths = share, .rank = NumKept(model, share)});
  }
  constexpr double kHalf = 0.5;
  const WeightReader reader(checkpoint, model, pool, stop, progress);
  QSWEEP_ASSIGN_OR_RETURN(const bool done, FindUpper(reader, kHalf, wanted));
  if (!done) {
    QSWEEP_RETURN_IF_ERROR(FindLower(reader, kHalf, wanted));
  }
  for (const Wanted& one : wanted) {
    thresholds_[one.kept_millionths] =
        std::bit_cast<float>(one.upper << kLowerBits | one.lower);
  }
  return absl::OkStatus();
}

int64_t LargestWeights::BytesOfThread(const ModelDescription& model) {
  int64_t largest = 0;
  for (const TensorDescription& tensor : model.tensors) {
    if (IsWeightNamed(tensor)) {
      largest = std::max(largest, tensor.num_elements());
    }
  }
  return largest * static_cast<int64_t>(sizeof(float)) +
         static_cast<int64_t>((kUpper + kLower) * sizeof(int64_t));
}

float LargestWeights::ThresholdOf(const Scheme& scheme) const {
  return thresholds_.at(scheme.kept_millionths);
}

}  // namespace qsweep
