#include "tests/e2e/sql_oracles.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/base/status_macros.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/sqlite.h"
#include "tests/support/fake_measurement.h"

namespace qsweep::testing {
namespace {

// Each finds rows that must not be; the numbers are those of the list in
// docs/simulation.md.
struct Rule {
  const char* sentence;
  const char* sql;
};

constexpr Rule kRules[] = {
    {"1: a task that is done has one committed attempt, that of its result",
     R"sql(
SELECT t.id, t.state, t.result_epoch, count(l.epoch), max(l.epoch)
FROM task AS t LEFT JOIN lease AS l
  ON l.task = t.id AND l.end_reason = 'committed'
GROUP BY t.id HAVING count(l.epoch) <> (t.state = 'done')
  OR max(l.epoch) IS NOT t.result_epoch)sql"},
    {"1: measurements are of the attempt that their task is done with", R"sql(
SELECT m.task, m.epoch, t.state, t.result_epoch
FROM measurement AS m JOIN task AS t ON t.id = m.task
WHERE t.result_epoch IS NOT m.epoch)sql"},
    {"1: a measurement key stands once", R"sql(
SELECT configuration, evaluation, document, count(*) FROM measurement
GROUP BY configuration, evaluation, document HAVING count(*) > 1)sql"},
    {"4: a leased task, and no other, has one open lease, its newest", R"sql(
SELECT t.id, t.state, count(l.epoch), max(l.epoch)
FROM task AS t LEFT JOIN lease AS l
  ON l.task = t.id AND l.ended_at_us IS NULL
GROUP BY t.id HAVING count(l.epoch) <> (t.state = 'leased')
  OR max(l.epoch) < (SELECT max(epoch) FROM lease WHERE task = t.id))sql"},
    {"6: no worker has more leases than credits", R"sql(
SELECT worker, count(*) FROM lease WHERE ended_at_us IS NULL
GROUP BY worker HAVING count(*) > 2)sql"},
    {"8: a job that succeeded has every task done", R"sql(
SELECT j.number, j.state, t.id, t.state
FROM job AS j JOIN job_task AS jt ON jt.job = j.number
  JOIN task AS t ON t.id = jt.task
WHERE j.state = 'succeeded' AND t.state <> 'done')sql"},
    {"8: a job that has not ended has a live task", R"sql(
SELECT j.number, j.state FROM job AS j
WHERE j.state IN ('planning', 'queued', 'running') AND NOT EXISTS (
  SELECT 1 FROM job_task AS jt JOIN task AS t ON t.id = jt.task
  WHERE jt.job = j.number
    AND t.state IN ('blocked', 'ready', 'leased', 'backoff')))sql"},
    {"10: epochs of a task are 1, 2, 3", R"sql(
SELECT task, min(epoch), max(epoch), count(*) FROM lease
GROUP BY task HAVING min(epoch) <> 1 OR max(epoch) <> count(*))sql"},
    {"11: events of a job have no gap", R"sql(
SELECT job, min(job_seq), max(job_seq), count(*) FROM event
WHERE job IS NOT NULL
GROUP BY job HAVING min(job_seq) <> 1 OR max(job_seq) <> count(*))sql"},
    // With max() the other columns are those of its row.
    {"11: the last event of a task says the state it is in", R"sql(
SELECT e.job, e.task, e.to_state, t.state, e.seq FROM (
  SELECT job, task, to_state, max(seq) AS seq FROM event
  WHERE task IS NOT NULL AND to_state <> '' GROUP BY job, task) AS e
JOIN task AS t ON t.id = e.task
WHERE lower(e.to_state) <> t.state AND EXISTS (SELECT 1 FROM job_task AS jt
  WHERE jt.job = e.job AND jt.task = e.task))sql"},
    {"11: the last event of a job says the state it is in", R"sql(
SELECT e.job, e.to_state, j.state, e.seq FROM (
  SELECT job, to_state, max(seq) AS seq FROM event
  WHERE task IS NULL AND to_state <> '' GROUP BY job) AS e
JOIN job AS j ON j.number = e.job
WHERE lower(e.to_state) <> j.state)sql"},
    {"13: a succeeded job has every measurement", R"sql(
SELECT number, measurements_total, measurements_done FROM jobs_v1
WHERE state = 'succeeded' AND measurements_done <> measurements_total)sql"},
    {"14: charges are those of the leases that ended so", R"sql(
SELECT t.id, t.failed, t.lost, t.preempted FROM task AS t
WHERE t.failed > (SELECT count(*) FROM lease AS l WHERE l.task = t.id
    AND l.end_reason IN ('failed', 'stalled', 'committed'))
  OR t.lost > (SELECT count(*) FROM lease AS l WHERE l.task = t.id
    AND l.end_reason IN ('lost', 'committed'))
  OR t.preempted > (SELECT count(*) FROM lease AS l WHERE l.task = t.id
    AND l.end_reason IN ('preempted', 'committed')))sql"},
    // New budgets begin where a task that was given up or dropped waits again.
    {"14: a lease that ended so is charged", R"sql(
SELECT t.id, t.failed, t.lost, t.preempted FROM task AS t
WHERE t.id NOT IN (SELECT task FROM event
    WHERE task IS NOT NULL AND to_state IN ('QUARANTINED', 'CANCELLED'))
  AND (t.failed < (SELECT count(*) FROM lease AS l WHERE l.task = t.id
      AND l.end_reason IN ('failed', 'stalled'))
    OR t.lost < (SELECT count(*) FROM lease AS l WHERE l.task = t.id
      AND l.end_reason = 'lost')
    OR t.preempted < (SELECT count(*) FROM lease AS l WHERE l.task = t.id
      AND l.end_reason = 'preempted')))sql"},
    // By a steady clock and by the wall's: they may differ a little.
    {"15: an ended lease says for how long it was held, and no longer than it "
     "was",
     R"sql(
SELECT task, epoch, end_reason, held_us, ended_at_us - granted_at_us
FROM lease WHERE ended_at_us IS NOT NULL AND (held_us IS NULL
  OR held_us > ended_at_us - granted_at_us + 1000000))sql"},
    {"a repeated measurement is the same to the last bit", R"sql(
SELECT task, epoch, compared, differing FROM duplicate_result
WHERE differing > 0)sql"},
    {"foreign_key_check", "SELECT * FROM pragma_foreign_key_check"},
    {"integrity_check",
     "SELECT * FROM pragma_integrity_check WHERE integrity_check <> 'ok'"},
};

constexpr char kMeasurements[] = R"sql(
SELECT c.digest, d.digest, c.baseline, m.nll_sum, m.nll_fp_sum,
  m.unigram_nll_sum, m.tokens, m.bytes, m.bytes_scored, m.chars, m.kl_sum,
  m.top1, m.nonfinite
FROM measurement AS m JOIN configuration AS c ON c.id = m.configuration
  JOIN document AS d ON d.id = m.document)sql";

std::string RowText(const Statement& row) {
  std::string text;
  for (int i = 0; i < row.num_columns(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : ", ", row.ColumnName(i), " ",
                    row.IsNull(i) ? "NULL" : row.Text(i));
  }
  return text;
}

absl::Status CheckRules(Database& database,
                        std::vector<std::string>& problems) {
  for (const Rule& rule : kRules) {
    QSWEEP_ASSIGN_OR_RETURN(Statement row, database.Prepare(rule.sql));
    QSWEEP_ASSIGN_OR_RETURN(const bool found, row.Step());
    if (found) {
      problems.push_back(absl::StrCat(
          rule.sentence, "; not so: ", absl::CHexEscape(RowText(row))));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckValues(Database& database,
                         std::vector<std::string>& problems) {
  QSWEEP_ASSIGN_OR_RETURN(Statement row, database.Prepare(kMeasurements));
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, row.Step());
    if (!more) {
      return absl::OkStatus();
    }
    v1::Measurement stored;
    stored.set_status(v1::ROW_STATUS_OK);
    stored.set_nll_sum(row.Real(3));
    stored.set_nll_fp_sum(row.Real(4));
    stored.set_unigram_nll_sum(row.Real(5));
    stored.set_tokens(static_cast<uint64_t>(row.Integer(6)));
    stored.set_bytes(static_cast<uint64_t>(row.Integer(7)));
    stored.set_bytes_scored(static_cast<uint64_t>(row.Integer(8)));
    stored.set_chars(static_cast<uint64_t>(row.Integer(9)));
    stored.set_kl_sum(row.Real(10));
    stored.set_top1(static_cast<uint64_t>(row.Integer(11)));
    stored.set_nonfinite(static_cast<uint64_t>(row.Integer(12)));
    const v1::Measurement expected =
        FakeMeasurement(row.View(0), row.View(1), row.Integer(2) != 0);
    if (stored.SerializeAsString() != expected.SerializeAsString()) {
      problems.push_back(absl::StrCat(
          "a measurement is not what the engine made: ",
          stored.ShortDebugString(), ", not ", expected.ShortDebugString()));
      return absl::OkStatus();
    }
  }
}

absl::Status CheckAcknowledged(Database& database,
                               const Acknowledged& acknowledged,
                               std::vector<std::string>& problems) {
  QSWEEP_ASSIGN_OR_RETURN(
      Statement job, database.Prepare("SELECT number FROM job WHERE uuid = ?"));
  for (const auto& [uuid, number] : acknowledged.jobs) {
    job.BindAll(Blob{uuid});
    QSWEEP_ASSIGN_OR_RETURN(const bool found, job.Step());
    if (!found || job.Integer(0) != static_cast<int64_t>(number)) {
      problems.push_back(absl::StrCat("acknowledged job ", number, " is lost"));
    }
  }
  QSWEEP_ASSIGN_OR_RETURN(
      Statement task,
      database.Prepare("SELECT result_epoch FROM task WHERE id = ?"));
  for (const auto& [id, epoch] : acknowledged.results) {
    task.BindAll(id);
    QSWEEP_ASSIGN_OR_RETURN(const bool found, task.Step());
    if (!found || task.Integer(0) != static_cast<int64_t>(epoch)) {
      problems.push_back(absl::StrCat("the acknowledged result of task ", id,
                                      " epoch ", epoch, " is lost"));
    }
  }
  for (const auto& [id, epoch] : acknowledged.superseded) {
    task.BindAll(id);
    QSWEEP_ASSIGN_OR_RETURN(const bool found, task.Step());
    if (!found || task.IsNull(0)) {
      problems.push_back(absl::StrCat("task ", id, " epoch ", epoch,
                                      " was superseded by nothing"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLosses(const std::string& path, absl::Duration lease_ttl,
                         std::vector<std::string>& problems) {
  // The store has the wall's clock, leases run by a steady one.
  constexpr absl::Duration kClocksDiffer = absl::Milliseconds(50);
  QSWEEP_ASSIGN_OR_RETURN(Database database, OpenReader(path));
  QSWEEP_ASSIGN_OR_RETURN(Statement row, database.Prepare(R"sql(
SELECT l.task, l.epoch, w.name, l.ended_at_us - l.granted_at_us AS us
FROM lease AS l JOIN worker AS w ON w.uuid = l.worker
WHERE l.end_reason = 'lost' AND us < ?)sql"));
  row.BindAll(absl::ToInt64Microseconds(lease_ttl - kClocksDiffer));
  while (true) {
    QSWEEP_ASSIGN_OR_RETURN(const bool more, row.Step());
    if (!more) {
      return absl::OkStatus();
    }
    problems.push_back(absl::StrCat("lost early: ", RowText(row)));
  }
}

absl::Status CheckAll(const std::string& path, const Acknowledged& acknowledged,
                      std::vector<std::string>& problems) {
  QSWEEP_ASSIGN_OR_RETURN(Database database, OpenReader(path));
  QSWEEP_RETURN_IF_ERROR(database.Execute("BEGIN"));
  QSWEEP_RETURN_IF_ERROR(CheckAcknowledged(database, acknowledged, problems));
  QSWEEP_RETURN_IF_ERROR(CheckRules(database, problems));
  QSWEEP_RETURN_IF_ERROR(CheckValues(database, problems));
  return database.Execute("ROLLBACK");
}

}  // namespace

std::vector<std::string> FindViolations(const std::string& database_path,
                                        const Acknowledged& acknowledged) {
  std::vector<std::string> problems;
  if (const absl::Status status =
          CheckAll(database_path, acknowledged, problems);
      !status.ok()) {
    problems.push_back(status.ToString());
  }
  return problems;
}

std::vector<std::string> FindLeasesLostEarly(const std::string& database_path,
                                             absl::Duration lease_ttl) {
  std::vector<std::string> problems;
  if (const absl::Status status =
          CheckLosses(database_path, lease_ttl, problems);
      !status.ok()) {
    problems.push_back(status.ToString());
  }
  return problems;
}

}  // namespace qsweep::testing
