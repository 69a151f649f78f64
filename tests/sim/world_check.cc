// What must hold in the end.
#include <algorithm>
#include <map>

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
      "SELECT m.task, m.epoch, c.digest, d.digest, m.nll_sum "
      "FROM measurement AS m JOIN configuration AS c ON c.id = m.configuration "
      "JOIN document AS d ON d.id = m.document");
  QSWEEP_CHECK(rows.ok());
  size_t num_rows = 0;
  std::map<TaskId, TaskKeys> keys_of_task;
  while (true) {
    const auto more = rows->Step();
    if (!more.ok() || !*more) {
      break;
    }
    ++num_rows;
    const TaskId task(rows->Integer(0));
    if (coordinator_.state().FindTask(task) == nullptr) {
      continue;  // deleted with its job, and its documents with it
    }
    auto [keys, fresh] = keys_of_task.try_emplace(task);
    if (fresh) {
      keys->second = KeysOfSpec(*coordinator_.store().ReadTaskSpec(task));
    }
    const auto made = oracles_.ProducedBy(task, Epoch(rows->Integer(1)));
    const bool honest = std::ranges::any_of(made, [&](const auto* result) {
      return std::ranges::any_of(result->rows(), [&](const auto& row) {
        return keys->second.configurations[row.configuration_index()].bytes() ==
                   rows->View(2) &&
               keys->second.documents[row.document_index()].bytes() ==
                   rows->View(3) &&
               row.nll_sum() == rows->Real(4);
      });
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
