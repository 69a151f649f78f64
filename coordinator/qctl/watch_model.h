#ifndef QSWEEP_COORDINATOR_QCTL_WATCH_MODEL_H_
#define QSWEEP_COORDINATOR_QCTL_WATCH_MODEL_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "qsweep/v1/coordinator.pb.h"

namespace qsweep::qctl {

// What a watcher knows of a job: its summary, its tasks at workers, and partial
// numbers per configuration and language. Fed with what the coordinator sends;
// time enters as a value. Pure, single-thread.
class WatchModel {
 public:
  explicit WatchModel(absl::Time started) : started_(started) {}

  void SetSummary(const v1::JobSummary& summary);
  void Add(const v1::DurableEvent& event);
  void Add(const v1::TaskProgressFrame& frame);

  const v1::JobSummary& summary() const { return summary_; }

  struct Running {
    std::string worker;
    uint64_t epoch = 0;
    v1::TaskPhase phase = v1::TASK_PHASE_UNSPECIFIED;
    double fraction = 0;  // of the phase
    std::string text;     // "layer 15 of 30"
  };
  const std::map<uint64_t, Running>& running() const { return running_; }

  // A line of the table of numbers.
  struct Row {
    std::string quantizer;
    std::string layer_set;
    bool operator==(const Row&) const = default;
  };
  // Sums over the rows that are stored, by line and language. Those of
  // tasks that are done are among them, so their partial sums are dropped.
  struct Stored {
    Row row;
    std::string language;
    double nll = 0;
    double nll_fp = 0;
    uint64_t tokens = 0;
  };
  void SetStored(const std::vector<Stored>& stored);
  // The job's languages: columns from the start, in this order.
  void SetLanguages(std::vector<std::string> languages);

  // Lines that have numbers: the layer set "none" first, then layers by number;
  // of one layer set by quantizer. The languages of the job, then others that
  // have numbers, by name.
  std::vector<Row> rows() const;
  std::vector<std::string> languages() const;
  // Loss against the baseline, nats per token, over what is measured so far.
  std::optional<double> DeltaNll(const Row& row,
                                 const std::string& language) const;

  // Measured and under way, 0..1.
  double Progress() const;
  // Until the end, by the pace since this watcher came; nothing until there is
  // one to speak of.
  std::optional<absl::Duration> Remaining(absl::Time now) const;

 private:
  struct Sums {
    double nll = 0;
    double nll_fp = 0;
    uint64_t tokens = 0;
  };
  struct Cell {
    std::string layer_set;
    std::string quantizer;
    std::string language;
    auto operator<=>(const Cell&) const = default;
  };
  struct TaskSums {
    uint64_t epoch = 0;
    std::map<Cell, Sums> cells;
  };
  // All sums of the cells, partial and stored.
  std::vector<const std::map<Cell, Sums>*> Tables() const;

  const absl::Time started_;
  v1::JobSummary summary_;
  double progress_at_start_ = -1;         // negative: no summary yet
  std::map<uint64_t, Running> running_;   // by task
  std::map<uint64_t, TaskSums> partial_;  // by task; kept when it is done
  std::map<Cell, Sums> stored_;
  std::vector<std::string> languages_;
};

}  // namespace qsweep::qctl

#endif  // QSWEEP_COORDINATOR_QCTL_WATCH_MODEL_H_
