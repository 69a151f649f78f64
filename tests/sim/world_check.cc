// What must hold in the end.
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "common/base/check.h"
#include "coordinator/core/commit.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/sqlite_store.h"
#include "tests/sim/world.h"

namespace qsweep::sim {

void World::CheckEnd() {
  oracles_.CheckAll(coordinator_.state());
  const auto snapshot = coordinator_.store().Load();
  if (!snapshot.ok()) {
    oracles_.Fail(19, snapshot.status().ToString());
    return;
  }
  for (const auto& client : clients_) {
    client->CheckWatches(coordinator_.store());
  }
  auto database =
      OpenReader(DatabasePath("/coordinator"), coordinator_.disk().name());
  if (!database.ok()) {
    oracles_.Fail(1, database.status().ToString());
    return;
  }
  if (database->Execute("UPDATE coordinator SET epoch = epoch").ok()) {
    oracles_.Fail(1, "there is a second connection that can write");
  }
  CheckRows(*database);
  CheckJobs(*database);
  CheckLedger(*database);
}

// A sweep that is finished has nothing left to run, whoever asks for it.
void World::SubmitAgain() {
  for (const auto& [uuid, request] : submitted_) {
    const Job* job = coordinator_.state().FindJob(*JobUuid::FromBytes(uuid));
    if (job == nullptr || job->state != v1::JOB_STATE_SUCCEEDED ||
        request.spec().policy().reuse() != v1::REUSE_AUTO) {
      continue;
    }
    const TaskId next_task = coordinator_.state().next_task();
    v1::SubmitJobRequest again = request;
    again.set_job_uuid(Digest::Of("again " + uuid).bytes().substr(0, 16));
    clients_.back()->Submit(again);
    RunUntil(schedule_.now() + absl::Minutes(2), true);
    const Job* made = coordinator_.up()
                          ? coordinator_.state().FindJob(
                                *JobUuid::FromBytes(again.job_uuid()))
                          : nullptr;
    if (made == nullptr || made->state != v1::JOB_STATE_SUCCEEDED ||
        !made->tasks.empty() || coordinator_.state().next_task() != next_task) {
      oracles_.Fail(13, absl::StrCat("job ", job->number.value(),
                                     " is finished, and submitted again it "
                                     "has something to run"));
    }
    counts_.checks.Add("finished sweep submitted again");
    return;
  }
}

// The raw rows: each key once, and as the attempt that it names made it.
void World::CheckRows(Database& database) {
  auto rows = database.Prepare(
      "SELECT m.task, m.epoch, c.digest, d.digest, m.nll_sum, q.digest "
      "FROM measurement AS m JOIN configuration AS c ON c.id = m.configuration "
      "JOIN document AS d ON d.id = m.document "
      "LEFT JOIN codes AS q ON q.id = m.codes");
  QSWEEP_CHECK(rows.ok());
  size_t num_rows = 0;
  while (true) {
    const auto more = rows->Step();
    if (!more.ok() || !*more) {
      break;
    }
    ++num_rows;
    const TaskId task(rows->Integer(0));
    if (coordinator_.state().FindTask(task) == nullptr) {
      counts_.checks.Add("measurement of a deleted job");
    }
    const auto keys = oracles_.keys().find(task);
    const auto made = oracles_.ProducedBy(task, Epoch(rows->Integer(1)));
    const auto is_stored = [&](const v1::Measurement& row) {
      return keys->second.configurations[row.configuration_index()].bytes() ==
                 rows->View(2) &&
             keys->second.documents[row.document_index()].bytes() ==
                 rows->View(3) &&
             (row.status() == v1::ROW_STATUS_OK
                  ? !rows->IsNull(4) && row.nll_sum() == rows->Real(4)
                  : rows->IsNull(4)) &&
             row.codes() == (rows->IsNull(5) ? "" : rows->View(5));
    };
    const bool honest = keys != oracles_.keys().end() &&
                        std::ranges::any_of(made, [&](const auto* result) {
                          return std::ranges::any_of(result->rows(), is_stored);
                        });
    if (!honest) {
      oracles_.Fail(1, absl::StrCat("a measurement of task ", task.value(),
                                    " is not what its attempt made"));
    }
  }
  if (num_rows != oracles_.measured().size()) {
    oracles_.Fail(1, absl::StrCat(num_rows, " measurements are stored, ",
                                  oracles_.measured().size(), " were written"));
  }
}

// The counts that users see are those of the rows.
void World::CheckJobs(Database& database) {
  for (const auto& [number, job] : coordinator_.state().jobs()) {
    const auto done = database.QueryInteger(
        absl::StrCat("SELECT measurements_done FROM jobs_v1 WHERE number = ",
                     number.value()));
    const bool all = job.state != v1::JOB_STATE_SUCCEEDED ||
                     (done.ok() && *done == job.measurements_total);
    if (!all) {
      oracles_.Fail(13, absl::StrCat("job ", number.value(), " succeeded with ",
                                     done.ok() ? *done : -1, " of ",
                                     job.measurements_total, " measurements"));
    }
    CheckSkipped(database, job);
  }
}

// A job that has ended without some of its measurements may get them from
// another's tasks, which counts no more.
void World::CheckSkipped(Database& database, const Job& job) {
  const auto stored = database.QueryInteger(absl::StrCat(
      "SELECT count(*) FROM (SELECT DISTINCT m.evaluation, m.document "
      "FROM job_configuration AS jc "
      "JOIN configuration AS c ON c.id = jc.configuration "
      "JOIN measurement AS m ON m.configuration = c.id "
      "JOIN job_evaluation AS je ON je.job = jc.job AND je.model = c.model "
      "AND je.evaluation = m.evaluation "
      "JOIN job_document AS jd ON jd.job = jc.job "
      "AND jd.eval_index = je.eval_index AND jd.document = m.document "
      "WHERE m.status <> 'ok' AND jc.job = ",
      job.number.value(), ")"));
  const bool all = job.state == v1::JOB_STATE_SUCCEEDED;
  if (!stored.ok() || job.documents_skipped > *stored ||
      (all && job.documents_skipped < *stored)) {
    oracles_.Fail(13, absl::StrCat("job ", job.number.value(), " says ",
                                   job.documents_skipped,
                                   " documents were skipped, its rows say ",
                                   stored.ok() ? *stored : -1));
  }
  if (all && job.documents_skipped > 0) {
    counts_.checks.Add("skipped documents counted");
    if (oracles_.WasRetried(job.number)) {
      counts_.checks.Add("skipped documents counted after a retry");
    }
  }
}

// The stored cost of each attempt is what the oracle saw it take.
void World::CheckLedger(Database& database) {
  auto rows = database.Prepare(
      "SELECT task, epoch, held_us, ifnull(load_us, 0) FROM lease "
      "WHERE ended_at_us IS NOT NULL");
  QSWEEP_CHECK(rows.ok());
  while (true) {
    const auto more = rows->Step();
    if (!more.ok() || !*more) {
      return;
    }
    counts_.checks.Add("stored charge");
    const auto charge =
        oracles_.ChargeOf(TaskId(rows->Integer(0)), Epoch(rows->Integer(1)));
    const absl::Duration held = absl::Microseconds(rows->Integer(2));
    if (!charge || held != absl::Trunc(*charge, absl::Microseconds(1)) ||
        absl::Microseconds(rows->Integer(3)) > held) {
      oracles_.Fail(15,
                    absl::StrCat("the stored cost of task ", rows->Integer(0),
                                 " epoch ", rows->Integer(1), " is wrong"));
    }
  }
}

}  // namespace qsweep::sim
