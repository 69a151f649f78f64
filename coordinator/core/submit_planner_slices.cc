// How a submit is cut into slices, and for which workers its tasks are sized.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "coordinator/core/estimate.h"
#include "coordinator/core/policy.h"
#include "coordinator/core/submit_planner.h"

namespace qsweep {
namespace {

// Reading and comparing a key costs less than making a task, by about this.
constexpr double kKeysPerTask = 20;
constexpr size_t kMostDocuments = 1000;  // of a slice

// The part of an evaluation's text that names the operation.
std::string OperationOf(const std::string& evaluation) {
  return evaluation.substr(0, evaluation.find(';'));
}

std::vector<int> FirstIndexes(size_t count) {
  std::vector<int> indexes(count);
  std::iota(indexes.begin(), indexes.end(), 0);
  return indexes;
}

}  // namespace

SubmitPlanner::SubmitPlanner(const State& state, const PreparedSubmit& prepared,
                             const Settings& settings)
    : SubmitPlanner(state, prepared, settings, nullptr) {}

SubmitPlanner::SubmitPlanner(const State& state, const PreparedSubmit& prepared,
                             const Settings& settings, const Job& job)
    : SubmitPlanner(state, prepared, settings, &job) {}

SubmitPlanner::SubmitPlanner(const State& state, const PreparedSubmit& prepared,
                             const Settings& settings, const Job* job)
    : prepared_(prepared),
      settings_(settings),
      number_(job == nullptr ? state.next_job() : job->number),
      exists_(job != nullptr),
      reuse_(prepared.spec->policy().reuse() != v1::REUSE_NEVER) {
  for (const SubmitPanel& panel : prepared.panels) {
    rates_.push_back(RatesFor(state, panel));
  }
  const Expansion& expansion = prepared.expansion;
  plan_.set_configurations(
      static_cast<uint64_t>(expansion.num_configurations()));
  plan_.set_documents(static_cast<uint64_t>(prepared.num_texts));
  plan_.set_languages(expansion.languages.size());
  plan_.mutable_token_rates()->Add(prepared.token_rates.begin(),
                                   prepared.token_rates.end());
  plan_.mutable_notes()->Add(expansion.notes.begin(), expansion.notes.end());
  for (size_t m = 0; m < prepared.models.size(); ++m) {
    std::vector<const Configuration*> configurations;
    for (const auto& expanded : expansion.models[m].configurations) {
      configurations.push_back(&expanded.configuration);
    }
    tries_.emplace_back(prepared.models[m], std::move(configurations));
    calibrations_.emplace_back(prepared.models[m]);
  }
  CutSlices();
}

// Of the workers that the job admits: the live ones, or when none is live those
// last seen. After a restart tasks are so cut as before.
SubmitPlanner::Rates SubmitPlanner::RatesFor(const State& state,
                                             const SubmitPanel& panel) const {
  constexpr absl::Duration kLately = absl::Hours(24);
  absl::Time newest = absl::InfinitePast();
  for (const auto& [uuid, worker] : state.workers()) {
    newest = std::max(newest, worker.last_seen);
  }
  Job job;
  TakeSpec(*prepared_.spec, job);
  const ModelDescription& model =
      prepared_.models[static_cast<size_t>(panel.model_index)];
  constexpr double kNone = std::numeric_limits<double>::infinity();
  struct Slowest {
    double gflops = kNone;
    double weight_bandwidth = kNone;
  };
  Slowest live;
  Slowest lately;
  Rates rates;
  for (const auto& [uuid, worker] : state.workers()) {
    const bool is_live = worker.liveness == WorkerLiveness::kLive;
    if (!WhyNotRequired(job, worker).empty() ||
        (!is_live && newest - worker.last_seen > kLately)) {
      continue;
    }
    const double gflops = SpeedOn(state, worker, model.digest,
                                  OperationOf(panel.evaluation), settings_);
    Slowest& slowest = is_live ? live : lately;
    slowest.gflops = std::min(slowest.gflops, gflops);
    slowest.weight_bandwidth =
        std::min(slowest.weight_bandwidth,
                 WeightBandwidthOn(state, worker, model.digest, settings_));
    rates.gflops_total += is_live ? gflops : 0;
  }
  if (live.gflops == kNone) {
    live = lately.gflops != kNone ? lately
                                  : Slowest{settings_.default_gflops,
                                            settings_.default_weight_bandwidth};
  }
  // Tasks grow with the time that reading takes. Beyond some hours that is no
  // disk, but somebody who said so.
  constexpr double kReadingMax = 25;  // of task_target
  const auto bytes = static_cast<double>(model.stored_bytes());
  rates.gflops = live.gflops;
  rates.weight_bandwidth = std::max(
      live.weight_bandwidth,
      bytes / (kReadingMax * absl::ToDoubleSeconds(settings_.task_target)));
  rates.reading_seconds = bytes / rates.weight_bandwidth;
  return rates;
}

void SubmitPlanner::CutSlices() {
  std::vector<double> tasks;
  double all_tasks = 0;
  for (size_t p = 0; p < prepared_.panels.size(); ++p) {
    const SubmitPanel& panel = prepared_.panels[p];
    TrieSizes& tries = tries_[static_cast<size_t>(panel.model_index)];
    double tokens = 0;
    for (const PlanDocument& document : panel.documents) {
      tokens += document.tokens;
    }
    const size_t configurations = panel.configurations.size();
    const double seconds = TokenCost(tries.model())
                               .Seconds(tries.Of(FirstIndexes(configurations)),
                                        static_cast<int64_t>(configurations),
                                        tokens, rates_[p].gflops);
    const size_t keys = configurations * panel.documents.size();
    num_keys_ += static_cast<int64_t>(keys);
    tasks.push_back(
        std::max(seconds / WorkOfTask(rates_[p].reading_seconds, settings_),
                 static_cast<double>(keys) /
                     static_cast<double>(settings_.max_rows_per_task)));
    // No key is in two tasks.
    tasks.back() = std::min(tasks.back(), static_cast<double>(keys));
    all_tasks += tasks.back();
  }
  const auto limit = static_cast<double>(settings_.plan_at_once_tasks);
  at_once_ = all_tasks <= limit &&
             static_cast<double>(num_keys_) <= kKeysPerTask * limit;
  for (size_t p = 0; p < prepared_.panels.size(); ++p) {
    CutPanel(p, tasks[p]);
  }
  position_of_.resize(prepared_.panels.size());
}

// Whole units, where a slice has room for one.
void SubmitPlanner::CutPanel(size_t index, double tasks) {
  const SubmitPanel& panel = prepared_.panels[index];
  const size_t configurations = panel.configurations.size();
  const size_t documents = panel.documents.size();
  if (at_once_) {
    slices_.push_back({.panel = index,
                       .num_configurations = configurations,
                       .num_documents = documents});
    return;
  }
  // Of one document's measurements: in slices.
  const double room = static_cast<double>(settings_.plan_slice_tasks);
  const double per_document =
      std::max(tasks / static_cast<double>(std::max<size_t>(documents, 1)),
               static_cast<double>(configurations) / kKeysPerTask) /
      room;
  const auto parts =
      std::min(static_cast<size_t>(std::ceil(std::max(per_document, 1.0))),
               std::max<size_t>(configurations, 1));
  const size_t wanted = std::clamp<size_t>(
      static_cast<size_t>(1 / std::max(per_document, 1e-6)), 1, kMostDocuments);
  for (size_t first = 0; first < documents;) {
    size_t last = std::min(first + wanted, documents);
    const auto cuts_unit = [&](size_t at) {
      return at < documents &&
             panel.documents[at].unit == panel.documents[at - 1].unit;
    };
    size_t whole = last;
    while (whole > first && cuts_unit(whole)) {
      --whole;
    }
    last = whole > first ? whole : last;
    for (size_t part = 0; part < parts; ++part) {
      const size_t from = configurations * part / parts;
      slices_.push_back(
          {.panel = index,
           .first_configuration = from,
           .num_configurations = configurations * (part + 1) / parts - from,
           .first_document = first,
           .num_documents = last - first});
    }
    first = last;
  }
}

std::vector<Digest> SubmitPlanner::ConfigurationsOf(
    const PlanSlice& slice) const {
  const auto& all = prepared_.panels[slice.panel].configurations;
  const auto first =
      all.begin() + static_cast<std::ptrdiff_t>(slice.first_configuration);
  return {first, first + static_cast<std::ptrdiff_t>(slice.num_configurations)};
}

std::vector<Digest> SubmitPlanner::DocumentsOf(const PlanSlice& slice) const {
  std::vector<Digest> digests;
  digests.reserve(slice.num_documents);
  for (size_t d = 0; d < slice.num_documents; ++d) {
    digests.push_back(prepared_.panels[slice.panel]
                          .documents[slice.first_document + d]
                          .digest);
  }
  return digests;
}

}  // namespace qsweep
