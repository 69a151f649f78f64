// Which workers a job admits.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/job/job_spec.h"
#include "common/job/quantizer.h"
#include "coordinator/core/policy.h"

namespace qsweep {
namespace {

// "NVIDIA A100-SXM4-40GB": its words are nvidia, a100, sxm4 and 40gb.
std::vector<std::string> WordsOf(absl::string_view name) {
  std::vector<std::string> words;
  bool inside = false;
  for (const char c : name) {
    if (absl::ascii_isalnum(c)) {
      if (!inside) {
        words.emplace_back();
      }
      words.back().push_back(absl::ascii_tolower(c));
    }
    inside = absl::ascii_isalnum(c);
  }
  return words;
}

// Whole words, so that A10 is no A100.
bool IsNamed(const v1::Device& device, const std::string& gpu) {
  const std::vector<std::string> wanted = WordsOf(gpu);
  const std::vector<std::string> words = WordsOf(device.name());
  return device.kind() != "cpu" && !wanted.empty() &&
         std::ranges::search(words, wanted).begin() != words.end();
}

bool Computes(const v1::Device& device, v1::Compute compute) {
  return compute == v1::COMPUTE_UNSPECIFIED || compute == v1::COMPUTE_FP32 ||
         std::ranges::find(device.computes(), compute) !=
             device.computes().end();
}

std::string NameOf(v1::Compute compute) {
  const absl::StatusOr<Compute> known = FromProto(compute);
  return known.ok() ? ComputeName(*known) : "an unknown mode";
}

// What the job asks for that the device has not.
std::vector<std::string> WhyNotOn(const Job& job, const v1::Device& device) {
  std::vector<std::string> reasons;
  const v1::Requirements& require = job.require;
  const auto asks = [&job](absl::string_view what) {
    return absl::StrCat("job ", job.number.value(), " asks for ", what);
  };
  if (!require.gpus().empty() &&
      std::ranges::none_of(require.gpus(), [&device](const std::string& gpu) {
        return IsNamed(device, gpu);
      })) {
    reasons.push_back(absl::StrCat(
        asks(absl::StrJoin(require.gpus(), " or ")), ", the worker has ",
        device.name().empty() ? device.kind() : device.name()));
  }
  if (require.memory_bytes() > device.memory_bytes()) {
    reasons.push_back(
        absl::StrFormat("%s, the worker has %.1f GiB",
                        asks(absl::StrFormat("%.1f GiB of memory",
                                             InGib(require.memory_bytes()))),
                        InGib(device.memory_bytes())));
  }
  if (require.compute_capability() > device.compute_capability()) {
    reasons.push_back(absl::StrFormat(
        "%s, the worker has %.1f",
        asks(absl::StrFormat("compute capability %.1f",
                             require.compute_capability() / 10.0)),
        device.compute_capability() / 10.0));
  }
  if (!Computes(device, job.compute)) {
    reasons.push_back(absl::StrCat(
        "job ", job.number.value(), " computes in ", NameOf(job.compute),
        ", the worker's ", device.name().empty() ? "device" : device.name(),
        " does not"));
  }
  return reasons;
}

}  // namespace

std::vector<std::string> WhyNotRequired(const Job& job, const Worker& worker) {
  if (job.require.ByteSizeLong() == 0 && Computes(v1::Device(), job.compute)) {
    return {};  // of most jobs, and asked often
  }
  // One device must have it all: of the one that lacks least, what.
  std::vector<std::string> least = WhyNotOn(job, v1::Device());
  for (const v1::Device& device : worker.devices) {
    std::vector<std::string> reasons = WhyNotOn(job, device);
    if (reasons.size() < least.size() || &device == &worker.devices.front()) {
      least = std::move(reasons);
    }
  }
  return least;
}

std::vector<std::string> WhyNotRequired(const State& state, const Task& task,
                                        const Worker& worker) {
  const auto is_served = [&state](JobNumber number) {
    const v1::JobState job = state.job(number).state;
    return job == v1::JOB_STATE_QUEUED || job == v1::JOB_STATE_RUNNING;
  };
  // A paused job gives its tasks to nobody, so what it admits counts only when
  // no other wants the task.
  const bool any_served = std::ranges::any_of(task.jobs, is_served);
  std::vector<std::string> all;
  for (const JobNumber number : task.jobs) {
    const Job& job = state.job(number);
    if (any_served ? !is_served(number) : job.terminal()) {
      continue;
    }
    std::vector<std::string> reasons = WhyNotRequired(job, worker);
    if (reasons.empty()) {
      return {};
    }
    all.insert(all.end(), reasons.begin(), reasons.end());
  }
  return all;
}

bool MayRun(const State& state, const Task& task, const Worker& worker,
            const Settings& settings) {
  return WhyNotFit(state, task, worker, settings).empty() &&
         WhyNotRequired(state, task, worker).empty();
}

}  // namespace qsweep
