#include "coordinator/core/estimate.h"

#include <algorithm>
#include <optional>
#include <string>

namespace qsweep {
namespace {

// A task says at least so many times that it gets on.
constexpr double kStepsMin = 30;
constexpr absl::Duration kRunLimitMax = absl::Hours(24 * 7);

// What attempts took is what workers said: it is believed so many times over
// or under what is assumed without it, by how many there were.
constexpr double kBeliefInMany = 1e4;
constexpr double kBeliefInFew = 10;

// Of attempts: the speed that nine in ten reach. A low one they took the time
// for: how tasks are cut may go by it sooner than who gets any.
struct Learned {
  std::optional<double> speed;
  bool many = false;

  double belief() const { return many ? kBeliefInMany : kBeliefInFew; }
  // At least assumed / most_below.
  double Or(double assumed, double most_below) const {
    return speed ? std::clamp(*speed, assumed / most_below, assumed * belief())
                 : assumed;
  }
};

double MeasuredAtStart(const Worker& worker, const Settings& settings) {
  double gflops = 0;
  for (const v1::Device& device : worker.devices) {
    gflops = std::max(gflops, device.gflops());
  }
  return gflops > 0 ? gflops : settings.default_gflops;
}

Learned SpeedLearned(const State& state, const Worker& worker,
                     const Digest& model, absl::string_view operation) {
  const std::string device = DeviceType(worker.devices);
  const Speeds& speeds = state.speeds();
  return {
      .speed = speeds.Gflops(model, operation, device),
      .many =
          speeds.Gflops(model, operation, device, Speeds::kMany).has_value()};
}

Learned BandwidthLearned(const State& state, const Worker& worker,
                         const Digest& model) {
  const std::string device = DeviceType(worker.devices);
  const Speeds& speeds = state.speeds();
  return {
      .speed = speeds.WeightBandwidth(model, device),
      .many = speeds.WeightBandwidth(model, device, Speeds::kMany).has_value()};
}

// Of few attempts as long as a load may last without a sign of life.
absl::Duration ExpectedLoad(const State& state, const Worker& worker,
                            const Digest& model, const Settings& settings) {
  const std::string device = DeviceType(worker.devices);
  const Speeds& speeds = state.speeds();
  const auto learned = speeds.LoadSeconds(model, device);
  if (!learned) {
    return settings.default_load;
  }
  const bool many =
      speeds.LoadSeconds(model, device, Speeds::kMany).has_value();
  return std::min(
      absl::Seconds(*learned),
      many ? kBeliefInMany * settings.default_load : settings.fetch_deadline);
}

}  // namespace

int Residency(const Worker& worker, const Digest& model) {
  if (worker.state == nullptr) {
    return 0;
  }
  const std::string bytes = model.bytes();
  int level = 0;
  for (const v1::ResidentModel& resident : worker.state->models()) {
    if (resident.digest() == bytes) {
      level = std::max(
          level, resident.level() == v1::ResidentModel::LEVEL_MEMORY ? 2 : 1);
    }
  }
  return level;
}

double SpeedOn(const State& state, const Worker& worker, const Digest& model,
               absl::string_view operation, const Settings& settings) {
  return SpeedLearned(state, worker, model, operation)
      .Or(MeasuredAtStart(worker, settings), kBeliefInMany);
}

double WeightBandwidthOn(const State& state, const Worker& worker,
                         const Digest& model, const Settings& settings) {
  const Learned learned = BandwidthLearned(state, worker, model);
  return learned.Or(settings.default_weight_bandwidth, learned.belief());
}

Expected ExpectedOn(const State& state, const Task& task, const Worker& worker,
                    const Settings& settings) {
  const TaskGroup& group = state.group(task.group);
  const v1::TaskSpec& prototype = *group.prototype;
  const Digest& model = group.model_digest;
  double work =
      std::max(0.0, task.estimated_seconds - ReadingSeconds(prototype));
  if (prototype.estimated_gflops() > 0) {
    const Learned learned =
        SpeedLearned(state, worker, model, group.evaluation_name);
    work *= prototype.estimated_gflops() /
            learned.Or(MeasuredAtStart(worker, settings), learned.belief());
  }
  const double reading = static_cast<double>(prototype.weight_bytes()) /
                         WeightBandwidthOn(state, worker, model, settings);
  Expected expected{.run = absl::Seconds(work + reading)};
  if (Residency(worker, model) < 2) {
    expected.load = ExpectedLoad(state, worker, model, settings);
  }
  return expected;
}

absl::Duration RunLimit(const Expected& expected, const Settings& settings) {
  return std::clamp(settings.run_deadline_factor * expected.run,
                    settings.run_deadline_min,
                    std::max(kRunLimitMax, settings.run_deadline_min));
}

absl::Duration ProgressLimit(const Expected& expected,
                             const Settings& settings) {
  return std::clamp(
      5 * expected.run / kStepsMin, settings.progress_deadline,
      std::max(settings.fetch_deadline, settings.progress_deadline));
}

}  // namespace qsweep
