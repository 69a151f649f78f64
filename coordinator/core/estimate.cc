#include "coordinator/core/estimate.h"

#include <algorithm>

namespace qsweep {
namespace {

// A task says at least so many times that it gets on.
constexpr double kStepsMin = 30;

double MeasuredAtStart(const Worker& worker, const Settings& settings) {
  double gflops = 0;
  for (const v1::Device& device : worker.devices) {
    gflops = std::max(gflops, device.gflops());
  }
  return gflops > 0 ? gflops : settings.default_gflops;
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
  return state.speeds()
      .Gflops(model, operation, DeviceType(worker.devices))
      .value_or(MeasuredAtStart(worker, settings));
}

double WeightBandwidthOn(const State& state, const Worker& worker,
                         const Digest& model, const Settings& settings) {
  return state.speeds()
      .WeightBandwidth(model, DeviceType(worker.devices))
      .value_or(settings.default_weight_bandwidth);
}

Expected ExpectedOn(const State& state, const Task& task, const Worker& worker,
                    const Settings& settings) {
  const TaskGroup& group = state.group(task.group);
  const v1::TaskSpec& prototype = *group.prototype;
  double work =
      std::max(0.0, task.estimated_seconds - ReadingSeconds(prototype));
  if (prototype.estimated_gflops() > 0) {
    work *= prototype.estimated_gflops() /
            SpeedOn(state, worker, group.model_digest, group.evaluation_name,
                    settings);
  }
  const double reading =
      static_cast<double>(prototype.weight_bytes()) /
      WeightBandwidthOn(state, worker, group.model_digest, settings);
  Expected expected{.run = absl::Seconds(work + reading)};
  if (Residency(worker, group.model_digest) < 2) {
    const auto learned = state.speeds().LoadSeconds(group.model_digest,
                                                    DeviceType(worker.devices));
    expected.load = learned ? absl::Seconds(*learned) : settings.default_load;
  }
  return expected;
}

absl::Duration RunLimit(const Expected& expected, const Settings& settings) {
  return std::max(settings.run_deadline_min,
                  settings.run_deadline_factor * expected.run);
}

absl::Duration ProgressLimit(const Expected& expected,
                             const Settings& settings) {
  return std::max(settings.progress_deadline, 5 * expected.run / kStepsMin);
}

}  // namespace qsweep
