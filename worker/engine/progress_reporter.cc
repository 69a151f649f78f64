#include "worker/engine/progress_reporter.h"

#include <utility>

#include "absl/time/time.h"

namespace qsweep {
namespace {

constexpr absl::Duration kInterval = absl::Milliseconds(300);

}  // namespace

void ProgressReporter::StartPass(const Pass& pass,
                                 const std::vector<size_t>& documents) {
  pass_ = &pass;
  documents_ = &documents;
}

void ProgressReporter::Report(double pass_work, const std::string& step) {
  pass_work_ = pass_work;
  // First of all: this is called for every tile, and the sums are many.
  if (step != last_step_ ||
      Clock::Real().SteadyNow() - last_time_ >= kInterval) {
    Tell(step);
  }
}

void ProgressReporter::EndPass() {
  AddPass(finished_);
  work_before_ += std::exchange(pass_work_, 0);
  pass_ = nullptr;
  Tell(last_step_);
}

void ProgressReporter::Tell(const std::string& step) {
  last_step_ = step;
  last_time_ = Clock::Real().SteadyNow();
  sink_.OnProgress({.fraction = (work_before_ + pass_work_) / total_work_,
                    .text = step,
                    .partial = Partials()});
}

void ProgressReporter::AddPass(Sums& sums) const {
  sums.resize(task_.languages.size());
  for (size_t d = 0; d < documents_->size(); ++d) {
    const auto language =
        static_cast<size_t>(task_.documents[(*documents_)[d]].language);
    sums[language].resize(task_.configurations.size());
    for (size_t c = 0; c < task_.configurations.size(); ++c) {
      const DocumentSums& from = pass_->sums[c][d];
      DocumentSums& to = sums[language][c];
      to.nll += from.nll;
      to.nll_fp += from.nll_fp;
      to.tokens += from.tokens;
    }
  }
}

std::vector<EnginePartial> ProgressReporter::Partials() const {
  Sums sums = finished_;
  if (pass_ != nullptr) {
    AddPass(sums);
  }
  std::vector<EnginePartial> partials;
  for (size_t language = 0; language < sums.size(); ++language) {
    for (size_t c = 0; c < sums[language].size(); ++c) {
      const DocumentSums& from = sums[language][c];
      if (from.tokens > 0) {
        partials.push_back({.language = static_cast<int>(language),
                            .configuration = static_cast<int>(c),
                            .nll_sum = from.nll,
                            .nll_fp_sum = from.nll_fp,
                            .tokens = from.tokens});
      }
    }
  }
  return partials;
}

}  // namespace qsweep
