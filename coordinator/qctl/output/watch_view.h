#ifndef QSWEEP_COORDINATOR_QCTL_OUTPUT_WATCH_VIEW_H_
#define QSWEEP_COORDINATOR_QCTL_OUTPUT_WATCH_VIEW_H_

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace qsweep::qctl {

// What a watcher sees, as plain values: watch.cc fills it from a WatchModel.
struct WatchView {
  std::string title;  // "job 12 \"first-sweep\""
  std::string state;
  double progress = 0;  // 0..1
  int64_t measured = 0;
  int64_t total = 0;
  int64_t tasks_done = 0;
  int64_t tasks_total = 0;
  int64_t tasks_failed = 0;
  double elapsed_seconds = 0;
  double remaining_seconds = -1;  // negative: not known yet
  struct Task {
    std::string task;
    std::string worker;
    std::string text;  // "layer 15 of 30"
    double fraction = 0;
  };
  std::vector<Task> running;
  // Loss against the baseline, nats per token; rows: configurations.
  std::vector<std::string> languages;
  struct Row {
    std::string quantizer;  // shown when there are several
    std::string layer_set;
    std::vector<double> delta_nll;  // NaN: nothing yet
  };
  std::vector<Row> cells;
};

struct WatchStyle {
  int width = 80;   // columns; lines are cut there
  int height = 24;  // lines at most; 0: no limit
  bool color = false;
};

// The whole screen, lines ending in newlines.
std::string RenderWatchScreen(const WatchView& view, const WatchStyle& style);

// One line of progress for logs and pipes.
std::string RenderWatchLine(const WatchView& view);

// The cells alone, at most max_rows of them.
std::string RenderWatchCells(const WatchView& view, int max_rows,
                             const WatchStyle& style);

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_OUTPUT_WATCH_VIEW_H_
