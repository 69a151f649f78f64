#ifndef QSWEEP_COORDINATOR_CORE_SPEEDS_H_
#define QSWEEP_COORDINATOR_CORE_SPEEDS_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

#include "common/base/digest.h"

namespace qsweep {

// What one attempt that was done took.
struct SpeedSample {
  Digest model;
  std::string operation;    // TaskGroup::evaluation_name
  std::string device;       // its type: "Tesla T4", "cpu"
  double gflops = 0;        // work foreseen / seconds it computed; 0: not known
  double load_seconds = 0;  // 0: the model was there
  double weight_bandwidth = 0;  // bytes/s of weights it read; 0: not known
};

// What the newest attempts took, so that the next can be foreseen: the value
// that nine in ten keep. Value type.
class Speeds {
 public:
  void Add(const SpeedSample& sample);
  // So many values of one kind are kept, the newest.
  static constexpr int kKept = 32;
  static constexpr size_t kLeast = 3;  // attempts that say anything
  // That leave one out: of fewer the slowest alone decides.
  static constexpr size_t kMany = 10;

  // Nine in ten are faster. Nothing: fewer than `attempts` so far.
  std::optional<double> Gflops(const Digest& model, absl::string_view operation,
                               absl::string_view device,
                               size_t attempts = kLeast) const;
  // Nine in ten load faster.
  std::optional<double> LoadSeconds(const Digest& model,
                                    absl::string_view device,
                                    size_t attempts = kLeast) const;

  // Bytes of weights a second; nine in ten read faster.
  std::optional<double> WeightBandwidth(const Digest& model,
                                        absl::string_view device,
                                        size_t attempts = kLeast) const;

  // What stands for an operation where a value is none's.
  static constexpr char kLoads[] = "";
  static constexpr char kWeights[] = "weights";
  // Calls out(model, operation, device, value) for all that is kept, in an
  // order that depends on nothing else.
  template <typename Out>
  void ForEach(const Out& out) const {
    for (const auto& [key, window] : gflops_) {
      for (const double value : window.values()) {
        out(std::get<0>(key), std::get<1>(key), std::get<2>(key), value);
      }
    }
    for (const auto& [key, window] : load_seconds_) {
      for (const double value : window.values()) {
        out(key.first, std::string(kLoads), key.second, value);
      }
    }
    for (const auto& [key, window] : weight_bandwidths_) {
      for (const double value : window.values()) {
        out(key.first, std::string(kWeights), key.second, value);
      }
    }
  }

 private:
  // The newest values, and one of their deciles.
  class Window {
   public:
    void Add(double value, double share_below);
    std::optional<double> value(size_t attempts) const;
    std::vector<double> values() const;  // oldest first

   private:
    std::vector<double> values_;
    size_t next_ = 0;
    double decile_ = 0;
  };
  using Key = std::tuple<Digest, std::string, std::string>;

  std::map<Key, Window> gflops_;
  std::map<std::pair<Digest, std::string>, Window> load_seconds_;
  std::map<std::pair<Digest, std::string>, Window> weight_bandwidths_;
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_CORE_SPEEDS_H_
