#include "coordinator/store/snapshot_check.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/store/sqlite_store.h"
#include "tests/support/error_matchers.h"
#include "tests/support/sweep_batches.h"
#include "tests/support/temp_dir.h"

namespace qsweep::testing {
namespace {

using ::testing::HasSubstr;

// Job 1 with tasks 1 and 2, done; job 2 with task 3, leased, and 4, ready;
// token 1, and token 2 that joined with it.
StateSnapshot Sound() {
  const TempDir directory;
  auto store = OpenSqliteStore({.directory = directory.path()});
  QSWEEP_CHECK(store.ok());
  std::vector<std::vector<Mutation>> batches = WholeSweep();
  batches.push_back(SubmitBatch(2));
  batches.push_back(LeaseBatch(3, 1));
  batches.push_back({TokenAdded{Token{.id = TokenId(1),
                                      .secret = Digest::Of("join"),
                                      .kind = v1::TOKEN_KIND_JOIN,
                                      .role = v1::ROLE_WORKER}},
                     TokenAdded{Token{.id = TokenId(2),
                                      .secret = Digest::Of("access"),
                                      .kind = v1::TOKEN_KIND_ACCESS,
                                      .role = v1::ROLE_WORKER,
                                      .joined_with = TokenId(1)}}});
  for (const auto& batch : batches) {
    QSWEEP_CHECK((*store)->Commit(batch).ok());
  }
  auto snapshot = (*store)->Load();
  QSWEEP_CHECK(snapshot.ok());
  return *std::move(snapshot);
}

struct Damage {
  std::string says;
  std::function<void(StateSnapshot&)> apply;
};

TEST(CheckSnapshot, NamesWhatDoesNotFit) {
  const StateSnapshot sound = Sound();
  EXPECT_EQ(CheckSnapshot(sound), absl::OkStatus());
  ASSERT_EQ(sound.tasks.size(), 4u);
  const std::vector<Damage> damages = {
      {"task 2 given up with another's content",
       [](StateSnapshot& s) {
         for (const int64_t id : {1, 2}) {
           s.tasks.at(TaskId(id)).state = v1::TASK_STATE_CANCELLED;
           s.tasks.at(TaskId(id)).history.Edit().result_epoch = Epoch();
           s.tasks.at(TaskId(id)).content_key = Digest::Of("one");
         }
       }},
      {"task 3 is leased without a lease",
       [](StateSnapshot& s) {
         s.tasks.at(TaskId(3)).history.Edit().grants.clear();
         s.tasks.at(TaskId(3)).lease = {};
       }},
      {"task 4 is leased without a lease",
       [](StateSnapshot& s) {
         s.tasks.at(TaskId(4)).state = v1::TASK_STATE_LEASED;
       }},
      {"task 3 with a lease that never ended",
       [](StateSnapshot& s) {
         s.tasks.at(TaskId(3)).state = v1::TASK_STATE_READY;
       }},
      {"task 3 with a lease that never ended",
       [](StateSnapshot& s) {
         std::vector<Grant>& grants =
             s.tasks.at(TaskId(3)).history.Edit().grants;
         grants.push_back(Grant(grants[0]));
       }},
      {"was leased to an unknown worker",
       [](StateSnapshot& s) { s.workers.clear(); }},
      {"task 1 was leased to an unknown worker",
       [](StateSnapshot& s) {
         s.tasks.at(TaskId(1)).history.Edit().grants[0].worker =
             *WorkerUuid::FromBytes(std::string(16, 'x'));
       }},
      {"task 1 with the result of a lease it never had",
       [](StateSnapshot& s) {
         s.tasks.at(TaskId(1)).history.Edit().result_epoch = Epoch();
       }},
      {"task 1 with the result of a lease it never had",
       [](StateSnapshot& s) {
         s.tasks.at(TaskId(1)).history.Edit().result_epoch = Epoch(2);
       }},
      {"task 4 of no group",
       [](StateSnapshot& s) { s.tasks.at(TaskId(4)).group = TaskGroupId(77); }},
      {"task 4 with a document of no language",
       [](StateSnapshot& s) {
         s.tasks.at(TaskId(4)).documents = {{.language_index = 2}};
       }},
      {"a number of job 2",
       [](StateSnapshot& s) { s.jobs[1].measurements_total = -1; }},
      {"the counter 9223372036854775807",
       [](StateSnapshot& s) { s.last_event = EventSeq(INT64_MAX); }},
      {"token 2",
       [](StateSnapshot& s) { s.tokens[1].joined_with = TokenId(3); }},
      {"token 2",
       [](StateSnapshot& s) { s.tokens[1].secret = s.tokens[0].secret; }}};
  for (const Damage& damage : damages) {
    StateSnapshot damaged = sound;
    damage.apply(damaged);
    const absl::Status status = CheckSnapshot(damaged);
    EXPECT_EQ(CodeOf(status), "QS4006") << damage.says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(damage.says));
  }
}

}  // namespace
}  // namespace qsweep::testing
