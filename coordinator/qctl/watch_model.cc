#include "coordinator/qctl/watch_model.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/numbers.h"

namespace qsweep::qctl {
namespace {

// Below this share of the job its pace says nothing.
constexpr double kLeastPace = 0.01;

// "none", then single layers by number, then the others by text.
using LayerSetKey = std::tuple<int, int, std::string>;
LayerSetKey LayerSetOrder(const std::string& text) {
  if (text == "none") {
    return {0, 0, text};
  }
  int layer = 0;
  if (text.size() > 1 && text[0] == 'L' &&
      absl::SimpleAtoi(text.substr(1), &layer)) {
    return {1, layer, text};
  }
  return {2, 0, text};
}

}  // namespace

void WatchModel::SetSummary(const v1::JobSummary& summary) {
  summary_ = summary;
  if (progress_at_start_ < 0) {
    progress_at_start_ = Progress();
  }
}

void WatchModel::Add(const v1::DurableEvent& event) {
  const uint64_t task = event.task_id();
  if (task == 0) {
    return;
  }
  if (event.kind() == "task_leased") {
    running_[task] = {.worker = event.worker(), .epoch = event.epoch()};
    return;
  }
  // Every other durable event of a task ends its attempt.
  running_.erase(task);
  if (event.kind() != "task_done") {
    partial_.erase(task);  // an attempt that ended without a result
  }
}

void WatchModel::Add(const v1::TaskProgressFrame& frame) {
  Running& running = running_[frame.task_id()];
  if (frame.epoch() < running.epoch) {
    return;  // of an attempt that was replaced
  }
  running = {.worker = frame.worker(),
             .epoch = frame.epoch(),
             .phase = frame.progress().phase(),
             .fraction = frame.progress().fraction(),
             .text = frame.progress().text()};
  if (frame.progress().partial().empty()) {
    return;
  }
  TaskSums& sums = partial_[frame.task_id()];
  sums.epoch = frame.epoch();
  sums.cells.clear();  // a frame has all of them
  for (const v1::PartialMetric& metric : frame.progress().partial()) {
    const auto index = static_cast<int>(metric.configuration_index());
    if (index < frame.layer_sets_size()) {
      // Models share a cell.
      Sums& cell = sums.cells[{
          frame.layer_sets(index),
          index < frame.quantizers_size() ? frame.quantizers(index) : "",
          metric.language()}];
      cell.nll += metric.nll_sum();
      cell.nll_fp += metric.nll_fp_sum();
      cell.tokens += metric.tokens();
    }
  }
}

void WatchModel::SetStored(const std::vector<Stored>& stored) {
  stored_.clear();
  for (const Stored& row : stored) {
    stored_[{row.row.layer_set, row.row.quantizer, row.language}] = {
        row.nll, row.nll_fp, row.tokens};
  }
  std::erase_if(partial_, [this](const auto& entry) {
    return !running_.contains(entry.first);
  });
}

void WatchModel::SetLanguages(std::vector<std::string> languages) {
  languages_ = std::move(languages);
}

std::vector<const std::map<WatchModel::Cell, WatchModel::Sums>*>
WatchModel::Tables() const {
  std::vector<const std::map<Cell, Sums>*> tables = {&stored_};
  for (const auto& [task, sums] : partial_) {
    tables.push_back(&sums.cells);
  }
  return tables;
}

std::vector<WatchModel::Row> WatchModel::rows() const {
  std::set<std::pair<LayerSetKey, std::string>> found;
  for (const auto* table : Tables()) {
    for (const auto& [cell, value] : *table) {
      if (cell.layer_set != "all") {  // the baseline is the zero of the scale
        found.emplace(LayerSetOrder(cell.layer_set), cell.quantizer);
      }
    }
  }
  std::vector<Row> rows;
  for (const auto& [key, quantizer] : found) {
    rows.push_back({quantizer, std::get<std::string>(key)});
  }
  return rows;
}

std::vector<std::string> WatchModel::languages() const {
  std::set<std::string> found;
  for (const auto* table : Tables()) {
    for (const auto& [cell, value] : *table) {
      found.insert(cell.language);
    }
  }
  std::vector<std::string> languages = languages_;
  for (const std::string& language : found) {
    if (std::find(languages_.begin(), languages_.end(), language) ==
        languages_.end()) {
      languages.push_back(language);
    }
  }
  return languages;
}

std::optional<double> WatchModel::DeltaNll(const Row& row,
                                           const std::string& language) const {
  Sums total;
  for (const auto* table : Tables()) {
    const auto cell = table->find({row.layer_set, row.quantizer, language});
    if (cell != table->end()) {
      total.nll += cell->second.nll;
      total.nll_fp += cell->second.nll_fp;
      total.tokens += cell->second.tokens;
    }
  }
  if (total.tokens == 0) {
    return std::nullopt;
  }
  return (total.nll - total.nll_fp) / static_cast<double>(total.tokens);
}

double WatchModel::Progress() const {
  if (summary_.measurements_total() == 0) {
    return 0;
  }
  const double done = static_cast<double>(summary_.measurements_done()) /
                      static_cast<double>(summary_.measurements_total());
  if (summary_.tasks_total() <= summary_.tasks_done()) {
    return done;
  }
  double under_way = 0;
  for (const auto& [task, running] : running_) {
    under_way += running.phase == v1::TASK_PHASE_RUN      ? running.fraction
                 : running.phase == v1::TASK_PHASE_COMMIT ? 1.0
                                                          : 0.0;
  }
  // Rows that were there before belong to no task: the open tasks share what
  // is not done.
  const auto open =
      static_cast<double>(summary_.tasks_total() - summary_.tasks_done());
  return done + (1 - done) * std::min(1.0, under_way / open);
}

std::optional<absl::Duration> WatchModel::Remaining(absl::Time now) const {
  const double made = Progress() - std::max(0.0, progress_at_start_);
  if (progress_at_start_ < 0 || made < kLeastPace) {
    return std::nullopt;
  }
  return (now - started_) * ((1 - Progress()) / made);
}

}  // namespace qsweep::qctl
