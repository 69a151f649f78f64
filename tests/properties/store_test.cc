// What a coordinator wrote over a random history, in a new database or in one
// that an earlier version made, is the same after a backup and a restore.
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "coordinator/store/backup.h"
#include "coordinator/store/database_file.h"
#include "coordinator/store/schema.h"
#include "rapidcheck/gtest.h"
#include "tests/support/loop_harness.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

// As a command of the lease table: numbers that mean something in every state.
struct Deed {
  enum class Kind {
    kSubmit,
    kAttach,
    kDetach,
    kCommit,
    kRelease,
    kControl,
    kCancel,
    kPassTime,
    kCollect,
    kCrash
  };
  Kind kind = Kind::kSubmit;
  int who = 0;
  int which = 0;
};

void showValue(const Deed& deed, std::ostream& out) {
  constexpr const char* kDeeds[] = {"submit",  "attach",  "detach", "commit",
                                    "release", "control", "cancel", "time",
                                    "collect", "crash"};
  out << kDeeds[static_cast<size_t>(deed.kind)] << " " << deed.who << " "
      << deed.which;
}

rc::Gen<Deed> AnyDeed() {
  using Kind = Deed::Kind;
  return rc::gen::exec([] {
    Deed deed;
    deed.kind = *rc::gen::weightedElement<Kind>({{5, Kind::kSubmit},
                                                 {4, Kind::kAttach},
                                                 {1, Kind::kDetach},
                                                 {10, Kind::kCommit},
                                                 {4, Kind::kRelease},
                                                 {4, Kind::kControl},
                                                 {1, Kind::kCancel},
                                                 {3, Kind::kPassTime},
                                                 {1, Kind::kCollect},
                                                 {1, Kind::kCrash}});
    deed.who = *rc::gen::inRange(0, 60);
    deed.which = *rc::gen::inRange(0, 12);
    return deed;
  });
}

class History {
 public:
  explicit History(const std::string& sql) : harness_(SmallTasks(), sql) {
    harness_.AddCorpus(3);
  }

  LoopHarness& harness() { return harness_; }

  void Do(const Deed& deed) {
    switch (deed.kind) {
      case Deed::Kind::kSubmit:
        Submit(deed);
        break;
      case Deed::Kind::kAttach:
        links_.push_back(Attach(harness_, absl::StrCat("w", deed.who % 3),
                                static_cast<uint64_t>(++boots_)));
        break;
      case Deed::Kind::kDetach:
        if (!links_.empty()) {
          harness_.loop().PostDetach(links_.back());
          links_.pop_back();
        }
        break;
      case Deed::Kind::kCommit:
        Commit(deed);
        break;
      case Deed::Kind::kRelease:
        Release(deed);
        break;
      case Deed::Kind::kControl:
      case Deed::Kind::kCancel:
        Control(deed);
        break;
      case Deed::Kind::kPassTime:
        harness_.clock().Advance(absl::Seconds(deed.which * deed.which));
        break;
      case Deed::Kind::kCollect: {
        v1::CollectGarbageRequest request;
        request.set_older_than_ms(static_cast<uint64_t>(deed.which) * 10'000);
        Heard(harness_.Call<v1::CollectGarbageResponse>(request));
        break;
      }
      case Deed::Kind::kCrash:
        links_.clear();
        harness_.Crash();
    }
    RC_ASSERT(harness_.Step() == absl::OkStatus());
  }

 private:
  static Settings SmallTasks() {
    Settings settings;
    settings.max_rows_per_task = 6;
    settings.failed_budget = 2;
    settings.audit_rate = 0.3;
    return settings;
  }

  // A call may be refused; nothing may be broken.
  template <typename Response>
  static void Heard(const std::optional<absl::StatusOr<Response>>& answer) {
    RC_ASSERT(answer.has_value());
    RC_ASSERT(answer->status().code() != absl::StatusCode::kInternal);
    RC_ASSERT(answer->status().code() != absl::StatusCode::kUnavailable);
  }

  void Submit(const Deed& deed) {
    Heard(std::optional(harness_.Submit(
        {.uuid = absl::StrCat(deed.who),
         .layers = deed.which % 3 + 1,
         .reuse = deed.which % 4 == 3 ? v1::REUSE_NEVER : v1::REUSE_AUTO,
         .owner = deed.who % 2 == 0 ? "ann" : "bob"})));
  }

  // Of the tasks that were ever granted; nothing: none was.
  std::optional<TaskId> Granted(int who) const {
    std::vector<TaskId> granted;
    for (const auto& [id, task] : harness_.state().tasks()) {
      if (task.epoch().valid()) {
        granted.push_back(id);
      }
    }
    return granted.empty()
               ? std::nullopt
               : std::optional(
                     granted[static_cast<size_t>(who) % granted.size()]);
  }

  // Of any attempt, in time or late; sometimes with other numbers or with texts
  // that could not be scored.
  void Commit(const Deed& deed) {
    const auto id = Granted(deed.who);
    if (!id) {
      return;
    }
    const auto spec = harness_.store().ReadTaskSpec(*id);
    RC_ASSERT(spec.status() == absl::OkStatus());
    v1::TaskResult result = HonestResult(*spec);
    v1::Measurement& row = *result.mutable_rows(0);
    if (deed.which % 4 == 3) {
      row.set_nll_sum(row.nll_sum() + deed.which);
    } else if (deed.which % 4 == 2) {
      row.set_status(v1::ROW_STATUS_EMPTY);
      row.set_nll_sum(0);
      row.set_nll_fp_sum(0);
      row.set_tokens(0);
    }
    const int64_t epochs = harness_.state().task(*id).epoch().value();
    harness_.Commit(EnvelopeOf(
        *spec, static_cast<uint64_t>(deed.which % epochs + 1), result));
  }

  void Release(const Deed& deed) {
    const auto id = Granted(deed.who);
    if (!id) {
      return;
    }
    v1::ReleaseTaskRequest request;
    request.set_task_id(static_cast<uint64_t>(id->value()));
    request.set_epoch(
        static_cast<uint64_t>(harness_.state().task(*id).epoch().value()));
    request.set_reason(static_cast<v1::ReleaseReason>(deed.which % 4 + 1));
    request.mutable_failure()->set_retryable(deed.which > 3);
    request.mutable_failure()->set_message("no luck");
    Heard(harness_.CallAs<v1::ReleaseTaskResponse>(Caller{}, request));
  }

  void Control(const Deed& deed) {
    const int64_t jobs = harness_.state().next_job().value() - 1;
    const std::string job = absl::StrCat(jobs == 0 ? 0 : deed.who % jobs + 1);
    if (deed.kind == Deed::Kind::kCancel) {
      v1::CancelJobRequest request;
      request.mutable_job()->set_text(job);
      Heard(harness_.Call<v1::CancelJobResponse>(request));
      return;
    }
    constexpr v1::JobAction kActions[] = {
        v1::JOB_ACTION_PAUSE, v1::JOB_ACTION_RESUME, v1::JOB_ACTION_STOP,
        v1::JOB_ACTION_RETRY, v1::JOB_ACTION_RETRY,  v1::JOB_ACTION_PRIORITY};
    v1::ControlJobRequest request;
    request.mutable_job()->set_text(job);
    request.set_action(kActions[deed.which % 6]);
    request.set_priority(deed.who);
    Heard(harness_.Call<v1::ControlJobResponse>(request));
  }

  LoopHarness harness_;
  int boots_ = 0;
  std::vector<std::shared_ptr<RecordingLink>> links_;
};

// All rows of a view, in any order.
std::vector<std::string> RowsOf(const std::string& path, const char* view) {
  auto database = OpenReader(path);
  RC_ASSERT(database.status() == absl::OkStatus());
  auto select = database->Prepare(absl::StrCat("SELECT * FROM ", view));
  RC_ASSERT(select.status() == absl::OkStatus());
  std::vector<std::string> rows;
  while (*select->Step()) {
    std::string& row = rows.emplace_back();
    for (int i = 0; i < select->num_columns(); ++i) {
      absl::StrAppend(&row, select->IsNull(i) ? "null" : select->Text(i), "|");
    }
  }
  std::ranges::sort(rows);
  return rows;
}

std::string StateIn(const std::string& directory) {
  auto store = OpenSqliteStore({.directory = directory});
  RC_ASSERT(store.status() == absl::OkStatus());
  auto snapshot = (*store)->Load();
  RC_ASSERT(snapshot.status() == absl::OkStatus());
  return State(*std::move(snapshot)).DumpDurable();
}

void CheckBackup(LoopHarness& harness) {
  const std::string memory = harness.state().DumpDurable();
  RC_ASSERT(State(*harness.store().Load()).DumpDurable() == memory);
  RC_ASSERT(CheckInvariants(harness.state()) == std::vector<std::string>());
  const auto info =
      BackUpDatabase(harness.directory(), harness.clock().Now(), 1);
  RC_ASSERT(info.status() == absl::OkStatus());
  TempDir restored;
  RC_ASSERT(RestoreDatabase(restored.path(), info->path,
                            harness.clock().Now()) == absl::OkStatus());
  RC_ASSERT(StateIn(restored.path()) == memory);
  const std::string path = DatabasePath(restored.path());
  for (const ViewDefinition& view : DocumentedViews()) {
    RC_LOG() << view.name << "\n";
    RC_ASSERT(RowsOf(path, view.name) ==
              RowsOf(DatabasePath(harness.directory()), view.name));
  }
  const auto problems = FindDatabaseProblems(path);
  RC_ASSERT(problems.status() == absl::OkStatus());
  RC_ASSERT(*problems == std::vector<std::string>());
}

// As RC_GTEST_PROP, over a fiftieth of the cases: each writes a few databases
// to disk.
template <typename Property>
void CheckFewTimes(const Property& property) {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const rc::detail::TestMetadata metadata = {
      .id = absl::StrCat(test->test_suite_name(), "/", test->name()),
      .description = test->name()};
  rc::detail::TestParams params = rc::detail::configuration().testParams;
  params.maxSuccess = std::max(1, params.maxSuccess / 50);
  const auto result = rc::detail::checkTestable(property, metadata, params);
  if (!result.template is<rc::detail::SuccessResult>()) {
    std::ostringstream text;
    rc::detail::printResultMessage(result, text);
    FAIL() << text.str();
  }
}

void KeepsAHistory() {
  const auto deeds =
      *rc::gen::scale(0.6, rc::gen::container<std::vector<Deed>>(AnyDeed()));
  History history("");
  for (const Deed& deed : deeds) {
    history.Do(deed);
  }
  CheckBackup(history.harness());
}

TEST(SqliteStore, HoldsTheSame_AfterBackupAndRestore) {
  CheckFewTimes(&KeepsAHistory);
}

// A database of each version that was released; a new version adds its own.
const std::vector<std::string> kReleased = {"schema_v1.sql"};

void GoesOnWithAnOlderDatabase() {
  const std::string golden = absl::StrCat(QSWEEP_SOURCE_DIR, "/tests/golden/",
                                          *rc::gen::elementOf(kReleased));
  const auto deeds =
      *rc::gen::scale(0.2, rc::gen::container<std::vector<Deed>>(AnyDeed()));
  std::ifstream in(golden);
  History history(std::string(std::istreambuf_iterator<char>(in), {}));
  RC_ASSERT(history.harness().state().jobs().size() == 1u);
  const std::vector<std::string> before =
      RowsOf(DatabasePath(history.harness().directory()), "measurements_v1");
  RC_ASSERT(before.size() == 12u);
  for (const Deed& deed : deeds) {
    history.Do(deed);
  }
  const std::vector<std::string> after =
      RowsOf(DatabasePath(history.harness().directory()), "measurements_v1");
  RC_ASSERT(std::ranges::includes(after, before));
  CheckBackup(history.harness());
}

TEST(SqliteStore, GoesOnWhereAnEarlierVersionEnded) {
  CheckFewTimes(&GoesOnWithAnOlderDatabase);
}

}  // namespace
}  // namespace qsweep::testing
