#include "coordinator/core/speeds.h"

#include <algorithm>
#include <cmath>

namespace qsweep {
namespace {

constexpr size_t kWindow = Speeds::kKept;

}  // namespace

void Speeds::Window::Add(double value, double share_below) {
  if (values_.size() < kWindow) {
    values_.push_back(value);
  } else {
    values_[next_] = value;
  }
  next_ = (next_ + 1) % kWindow;
  std::vector<double> sorted = values_;
  const auto place = static_cast<std::ptrdiff_t>(
      std::lround(share_below * static_cast<double>(sorted.size() - 1)));
  std::nth_element(sorted.begin(), sorted.begin() + place, sorted.end());
  decile_ = sorted[static_cast<size_t>(place)];
}

std::vector<double> Speeds::Window::values() const {
  std::vector<double> by_age = values_;
  if (by_age.size() == kWindow) {
    std::ranges::rotate(by_age,
                        by_age.begin() + static_cast<std::ptrdiff_t>(next_));
  }
  return by_age;
}

std::optional<double> Speeds::Window::value(size_t attempts) const {
  return values_.size() < attempts ? std::nullopt : std::optional(decile_);
}

void Speeds::Add(const SpeedSample& sample) {
  if (std::isfinite(sample.gflops) && sample.gflops > 0) {
    gflops_[Key(sample.model, sample.operation, sample.device)].Add(
        sample.gflops, 0.1);
  }
  if (std::isfinite(sample.load_seconds) && sample.load_seconds > 0) {
    load_seconds_[std::pair(sample.model, sample.device)].Add(
        sample.load_seconds, 0.9);
  }
  if (std::isfinite(sample.weight_bandwidth) && sample.weight_bandwidth > 0) {
    weight_bandwidths_[std::pair(sample.model, sample.device)].Add(
        sample.weight_bandwidth, 0.1);
  }
}

std::optional<double> Speeds::Gflops(const Digest& model,
                                     absl::string_view operation,
                                     absl::string_view device,
                                     size_t attempts) const {
  const auto found =
      gflops_.find(Key(model, std::string(operation), std::string(device)));
  return found == gflops_.end() ? std::nullopt : found->second.value(attempts);
}

std::optional<double> Speeds::LoadSeconds(const Digest& model,
                                          absl::string_view device,
                                          size_t attempts) const {
  const auto found = load_seconds_.find(std::pair(model, std::string(device)));
  return found == load_seconds_.end() ? std::nullopt
                                      : found->second.value(attempts);
}

std::optional<double> Speeds::WeightBandwidth(const Digest& model,
                                              absl::string_view device,
                                              size_t attempts) const {
  const auto found =
      weight_bandwidths_.find(std::pair(model, std::string(device)));
  return found == weight_bandwidths_.end() ? std::nullopt
                                           : found->second.value(attempts);
}

}  // namespace qsweep
