#include "coordinator/qctl/commands/watcher.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <ostream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/base/clock.h"
#include "common/base/status_macros.h"
#include "coordinator/qctl/follow.h"
#include "coordinator/qctl/names.h"
#include "coordinator/qctl/output/watch_view.h"
#include "coordinator/qctl/watch_model.h"

namespace qsweep::qctl {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(200);
constexpr absl::Duration kLinePause = absl::Seconds(10);
constexpr absl::Duration kCellsPause = absl::Seconds(15);
constexpr absl::Duration kStoredPause = absl::Seconds(2);
constexpr int kStoredShare = 20;  // reads take a twentieth of the time
constexpr int kStoredColumns = 6;
constexpr int kLineModeWidth = 100;
constexpr int kLineModeCells = 6;  // rows of cells in a log
constexpr char kHideCursor[] = "\x1b[?25l";
constexpr char kShowCursor[] = "\x1b[?25h";

std::string Title(const v1::JobSummary& job) {
  return job.name().empty()
             ? absl::StrCat("job ", job.job_number())
             : absl::StrCat("job ", job.job_number(), " \"", job.name(), "\"");
}

WatchView MakeView(const WatchModel& model, absl::Time started,
                   absl::Time now) {
  const v1::JobSummary& job = model.summary();
  WatchView view;
  view.title = Title(job);
  view.state = JobStateName(job.state());
  view.progress = model.Progress();
  view.measured = static_cast<int64_t>(job.measurements_done());
  view.total = static_cast<int64_t>(job.measurements_total());
  view.tasks_done = static_cast<int64_t>(job.tasks_done());
  view.tasks_total = static_cast<int64_t>(job.tasks_total());
  view.tasks_failed = static_cast<int64_t>(job.tasks_failed());
  view.elapsed_seconds = absl::ToDoubleSeconds(now - started);
  if (const auto remaining = model.Remaining(now);
      remaining && !HasEnded(job.state())) {
    view.remaining_seconds = absl::ToDoubleSeconds(*remaining);
  }
  for (const auto& [task, running] : model.running()) {
    view.running.push_back(
        {absl::StrCat(task), running.worker, running.text, running.fraction});
  }
  view.languages = model.languages();
  for (const WatchModel::Row& line : model.rows()) {
    WatchView::Row& row = view.cells.emplace_back();
    row.quantizer = line.quantizer;
    row.layer_set = line.layer_set;
    for (const std::string& language : view.languages) {
      row.delta_nll.push_back(
          model.DeltaNll(line, language)
              .value_or(std::numeric_limits<double>::quiet_NaN()));
    }
  }
  return view;
}

int64_t FilledCells(const WatchView& view) {
  int64_t filled = 0;
  for (const WatchView::Row& row : view.cells) {
    filled += std::count_if(row.delta_nll.begin(), row.delta_nll.end(),
                            [](double value) { return !std::isnan(value); });
  }
  return filled;
}

// Draws over its own last picture. Leaves the last one.
class Screen {
 public:
  Screen(std::ostream& out, const WatchStyle& style)
      : out_(out), style_(style) {
    out_ << kHideCursor;
  }
  Screen(const Screen&) = delete;
  ~Screen() { out_ << kShowCursor << std::flush; }

  void Draw(const WatchView& view) {
    const std::string text = RenderWatchScreen(view, style_);
    if (lines_ > 0) {
      out_ << "\x1b[" << lines_ << "A\r\x1b[J";
    }
    out_ << text << std::flush;
    lines_ = std::count(text.begin(), text.end(), '\n');
  }

 private:
  std::ostream& out_;
  const WatchStyle style_;
  std::ptrdiff_t lines_ = 0;
};

// Keeps the model's stored sums fresh: read at the start and after tasks, not
// too often. A coordinator that cannot answer leaves the partial sums.
class StoredSums {
 public:
  StoredSums(CoordinatorClient& client, WatchModel& model)
      : client_(client), model_(model) {}

  void Refresh(const v1::JobSummary& job) {
    const SteadyTime now = Clock::Real().SteadyNow();
    if (job.measurements_done() == measured_ ||
        (now < next_ && !HasEnded(job.state()))) {
      return;
    }
    measured_ = job.measurements_done();
    v1::QueryRequest request;
    request.set_sql(absl::StrCat(
        "SELECT layer_set, quantizer, lang, sum(nll_sum), sum(nll_fp_sum), "
        "sum(tokens) FROM job_measurements_v1 WHERE status = 'ok' AND job = ",
        job.job_number(), " GROUP BY layer_set, quantizer, lang"));
    const absl::StatusOr<v1::QueryResponse> response = client_.Query(request);
    // A long query now and then, not all the time.
    const SteadyTime end = Clock::Real().SteadyNow();
    next_ = end + std::max(kStoredPause, kStoredShare * (end - now));
    if (!response.ok()) {
      return;
    }
    std::vector<WatchModel::Stored> stored;
    for (const v1::QueryRow& row : response->rows()) {
      if (row.values_size() == kStoredColumns) {
        stored.push_back({{row.values(1).text(), row.values(0).text()},
                          row.values(2).text(),
                          row.values(3).real(),
                          row.values(4).real(),
                          static_cast<uint64_t>(row.values(5).integer())});
      }
    }
    model_.SetStored(stored);
  }

 private:
  CoordinatorClient& client_;
  WatchModel& model_;
  uint64_t measured_ = 0;  // when it was read last
  SteadyTime next_;
};

// The columns, before any of them has a number.
void SetLanguages(CoordinatorClient& client, const v1::JobSummary& job,
                  WatchModel& model) {
  v1::GetJobRequest request;
  request.mutable_job()->set_text(UuidText(job.job_uuid()));
  const absl::StatusOr<v1::GetJobResponse> response = client.GetJob(request);
  if (!response.ok()) {
    return;  // they come with the numbers
  }
  std::vector<std::string> languages;
  for (const v1::CorpusLanguage& language : response->corpus().languages()) {
    languages.push_back(language.language());
  }
  model.SetLanguages(std::move(languages));
}

}  // namespace

void WatchLines::Add(const WatchView& view, absl::Time now) {
  const int64_t percent =
      100 * view.tasks_done / std::max<int64_t>(view.tasks_total, 1);
  if (view.state != state_ || percent != percent_ ||
      now - last_line_ >= kLinePause) {
    out_ << RenderWatchLine(view) << std::flush;
    last_line_ = now;
    state_ = view.state;
    percent_ = percent;
  }
  // The first cells at once, later ones when they are new.
  const int64_t filled = FilledCells(view);
  if (filled > cells_ && now - last_cells_ >= kCellsPause) {
    out_ << "loss against the baseline so far, nats per token\n"
         << RenderWatchCells(view, kLineModeCells,
                             {.width = kLineModeWidth, .height = 0})
         << std::flush;
    last_cells_ = now;
    cells_ = filled;
  }
}

absl::StatusOr<v1::JobSummary> WatchOnto(Context& context,
                                         const std::string& selector,
                                         absl::Duration timeout,
                                         std::ostream& out, bool terminal) {
  const absl::Time started = Clock::Real().Now();
  QSWEEP_ASSIGN_OR_RETURN(CoordinatorClient * client, context.Client());
  WatchModel model(started);
  StoredSums stored(*client, model);
  std::unique_ptr<Screen> screen;
  WatchLines lines(out);
  absl::Time drawn = absl::InfinitePast();
  const auto show = [&](bool at_once) {
    const absl::Time now = Clock::Real().Now();
    if (screen == nullptr) {
      lines.Add(MakeView(model, started, now), now);
    } else if (at_once || now - drawn >= kRedraw) {
      screen->Draw(MakeView(model, started, now));
      drawn = now;
    }
  };
  bool attached = false;
  const auto on_summary = [&](const v1::JobSummary& summary) {
    model.SetSummary(summary);
    if (!attached) {
      attached = true;
      DetachOnInterrupt(context, summary);
      SetLanguages(*client, summary, model);
      if (terminal && !HasEnded(summary.state())) {
        screen = std::make_unique<Screen>(
            out, WatchStyle{.width = context.environment().width,
                            .height = context.environment().height,
                            .color = context.style().color});
      }
    }
    stored.Refresh(summary);
    show(HasEnded(summary.state()));
  };
  const auto on_event = [&](const v1::WatchEvent& event) {
    if (event.has_durable()) {
      model.Add(event.durable());
    } else if (event.has_progress()) {
      model.Add(event.progress());
      show(false);
    }
  };
  return FollowJob(context, selector, timeout,
                   {.on_event = on_event,
                    .on_summary = on_summary,
                    .stop = [](const v1::JobSummary&) { return false; }});
}

void NoteOutcome(Context& context, const v1::JobSummary& job) {
  std::string text = absl::StrCat(
      Title(job), " ", JobStateName(job.state()), ": ",
      WithThousands(static_cast<int64_t>(job.measurements_done())), " of ",
      WithThousands(static_cast<int64_t>(job.measurements_total())),
      " measured");
  if (job.measurements_reused() > 0) {
    absl::StrAppend(
        &text, ", ",
        WithThousands(static_cast<int64_t>(job.measurements_reused())),
        " of them reused");
  }
  if (job.documents_skipped() > 0) {
    absl::StrAppend(&text, ", ", job.documents_skipped(),
                    job.documents_skipped() == 1 ? " document skipped"
                                                 : " documents skipped");
  }
  if (job.tasks_failed() > 0) {
    absl::StrAppend(&text, ", ", job.tasks_failed(), " tasks failed");
  }
  // A job that succeeded has no reason but what is said already.
  if (!job.reason().empty() && (job.state() != v1::JOB_STATE_SUCCEEDED ||
                                job.documents_skipped() == 0)) {
    absl::StrAppend(&text, " (", job.reason(), ")");
  }
  context.Note(text);
  const std::string flags = context.ServerFlags();
  const std::string number = absl::StrCat(job.job_number());
  if (job.tasks_failed() > 0) {
    context.SuggestNext({absl::StrCat("qctl tasks list --job ", number,
                                      " --state failed", flags)});
  } else if (job.state() == v1::JOB_STATE_SUCCEEDED) {
    context.SuggestNext(
        {absl::StrCat("qctl results ", number, " --by layer", flags),
         absl::StrCat("qctl report ", number, " --out report.html", flags)});
  }
}

}  // namespace qsweep::qctl
