#include "coordinator/core/state.h"

#include <limits>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "coordinator/core/lists.h"
#include "coordinator/core/plan.h"
#include "coordinator/core/settings.h"
#include "tests/support/error_matchers.h"
#include "tests/support/state_builder.h"

namespace qsweep::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// One job with one task, as a store would return them.
StateSnapshot Snapshot(v1::TaskState task_state, v1::JobState job_state) {
  StateSnapshot snapshot{.last_group = TaskGroupId(1)};
  auto prototype = std::make_shared<v1::TaskSpec>();
  prototype->set_model_digest(TestDigest("model").bytes());
  snapshot.groups.push_back(MakeTaskGroup(TaskGroupId(1), prototype));
  Job job{.number = JobNumber(1), .state = job_state};
  job.measurements_total = 2;
  job.tasks[TaskId(1)] = 2;
  snapshot.jobs.push_back(job);
  Task task{.id = TaskId(1), .group = TaskGroupId(1)};
  task.state = task_state;
  task.documents = {{.document = snapshot.documents.Add(TestDigest("a"))},
                    {.document = snapshot.documents.Add(TestDigest("b"))}};
  task.jobs = {JobNumber(1)};
  snapshot.tasks.Add(task);
  return snapshot;
}

TEST(TaskTable, GivesMemoryBack_WhenTheLastTaskOfAChunkGoes) {
  TaskTable table;
  for (int64_t id = 1; id <= 600; ++id) {
    table.Add(Task{.id = TaskId(id)});
  }
  ASSERT_EQ(table.num_chunks(), 3u);
  for (int64_t id = 256; id < 512; ++id) {
    table.Erase(TaskId(id));
  }
  EXPECT_EQ(table.num_chunks(), 2u);
  EXPECT_EQ(table.size(), 600u - 256);
  EXPECT_EQ(table.Find(TaskId(300)), nullptr);
  EXPECT_EQ((*table.From(TaskId(256))).first, TaskId(512));
  table.Add(Task{.id = TaskId(300)});
  EXPECT_EQ((*table.From(TaskId(256))).first, TaskId(300));
}

TEST(CheckInvariants, IsSilent_WhenStateIsSound) {
  EXPECT_THAT(CheckInvariants(
                  State(Snapshot(v1::TASK_STATE_READY, v1::JOB_STATE_QUEUED))),
              IsEmpty());
}

TEST(CheckInvariants, SaysWhatIsWrong) {
  EXPECT_THAT(CheckInvariants(State(
                  Snapshot(v1::TASK_STATE_LEASED, v1::JOB_STATE_RUNNING))),
              ElementsAre(HasSubstr("has no lease")));
  EXPECT_THAT(
      CheckInvariants(
          State(Snapshot(v1::TASK_STATE_READY, v1::JOB_STATE_CANCELLED))),
      ElementsAre(HasSubstr("no job wants it"), HasSubstr("has live tasks")));
  EXPECT_THAT(CheckInvariants(State(
                  Snapshot(v1::TASK_STATE_CANCELLED, v1::JOB_STATE_QUEUED))),
              ElementsAre(HasSubstr("nothing left to run")));
  StateSnapshot done = Snapshot(v1::TASK_STATE_DONE, v1::JOB_STATE_SUCCEEDED);
  EXPECT_THAT(CheckInvariants(State(done)),
              ElementsAre(HasSubstr("with the result of epoch 0"),
                          HasSubstr("with 2 documents"),
                          HasSubstr("0 of 2 measurements"),
                          HasSubstr("measurements are missing")));
}

TEST(State, GivesLeasesTimeToBeConfirmed_WhenTheCoordinatorStarted) {
  State state = StateBuilder().Job().Task().Worker("w").Lease(1, "w").Build();
  state.Apply(
      CoordinatorStarted{.epoch = 2,
                         .now = TestNow(absl::Hours(1)).steady,
                         .failover_deadline = TestNow(absl::Hours(2)).steady});
  EXPECT_EQ(state.task(TaskId(1)).lease->deadline,
            TestNow(absl::Hours(2)).steady);
}

TEST(State, ArmsBackoffAgain_WhenTheCoordinatorStarted) {
  State state = StateBuilder()
                    .Job()
                    .Task()
                    .Worker("w")
                    .Lease(1, "w")
                    .Apply(LeaseEnded{.task = TaskId(1),
                                      .epoch = Epoch(1),
                                      .end = LeaseEnd::kFailed,
                                      .to = v1::TASK_STATE_BACKOFF,
                                      .backoff = absl::Seconds(7)})
                    .Build();
  state.Apply(CoordinatorStarted{.epoch = 2, .now = TestNow().steady});
  EXPECT_EQ(state.task(TaskId(1)).history->ready_at,
            TestNow(absl::Seconds(7)).steady);
}

TEST(ResolveJob, FindsByNumberNameUuidAndPrefix) {
  const State state = StateBuilder().Job().Job().Build();
  const std::string uuid = state.job(JobNumber(2)).uuid.text();
  for (const std::string& text :
       {std::string("2"), std::string("last"), std::string("sweep-2"), uuid,
        "job/" + uuid, uuid.substr(0, 8)}) {
    EXPECT_EQ(ResolveJob(state, text).value_or(JobNumber()), JobNumber(2))
        << text;
  }
  EXPECT_EQ(CodeOf(ResolveJob(state, "3")), "QS4020");
  EXPECT_EQ(CodeOf(ResolveJob(state, "")), "QS4020");
  EXPECT_EQ(CodeOf(ResolveJob(state, uuid.substr(0, 7))), "QS4020");
  EXPECT_EQ(CodeOf(ResolveJob(State(), "last")), "QS4020");
}

TEST(ResolveJob, AsksBack_WhenANameFitsSeveralJobs) {
  StateSnapshot snapshot = Snapshot(v1::TASK_STATE_READY, v1::JOB_STATE_QUEUED);
  snapshot.jobs[0].name = "twice";
  snapshot.jobs.push_back({.number = JobNumber(2), .name = "twice"});
  EXPECT_EQ(CodeOf(ResolveJob(State(snapshot), "twice")), "QS4024");
}

TEST(ListJobs, PagesNewestFirst) {
  const State state = StateBuilder().Job().Job().Job().Build();
  v1::ListJobsRequest request;
  request.set_limit(2);
  v1::ListJobsResponse page = ListJobs(state, request);
  ASSERT_EQ(page.jobs_size(), 2);
  EXPECT_EQ(page.jobs(0).job_number(), 3u);
  EXPECT_EQ(page.total(), 3u);
  request.set_before_number(page.jobs(1).job_number());
  page = ListJobs(state, request);
  ASSERT_EQ(page.jobs_size(), 1);
  EXPECT_EQ(page.jobs(0).job_number(), 1u);
}

TEST(ListTasks, FiltersByJobAndState) {
  const State state = StateBuilder()
                          .Job()
                          .Job()
                          .Task()
                          .Task({.jobs = {2}, .documents = {"d3"}})
                          .Worker("w")
                          .Lease(2, "w")
                          .Build();
  v1::ListTasksRequest request;
  request.mutable_job()->set_text("2");
  const auto tasks = ListTasks(state, request);
  QSWEEP_ASSERT_OK(tasks);
  ASSERT_EQ(tasks->tasks_size(), 1);
  EXPECT_EQ(tasks->tasks(0).worker(), "w");
  EXPECT_EQ(tasks->tasks(0).languages(), "eng");
  request.add_states(v1::TASK_STATE_DONE);
  EXPECT_EQ(ListTasks(state, request)->total(), 0u);
}

TEST(CheckInvariants, FindsTwoLiveTasksWithOneMeasurement) {
  const auto state_with = [](const std::string& other) {
    StateBuilder builder;
    builder.Job().Task({.documents = {"d1", "d2"}}).Task({.documents = {}});
    const State made = builder.Build();
    const TaskGroup& group = made.group(TaskGroupId(1));
    const auto key = [&](std::set<Digest> documents) {
      return TaskContentKey(
          group.prototype->evaluation(),
          {group.configurations.begin(), group.configurations.end()}, documents,
          "");
    };
    State state = made;
    for (const auto& [id, documents] :
         {std::pair(3, std::vector<std::string>{"d3", "d4"}),
          std::pair(4, std::vector<std::string>{other})}) {
      TaskAdded added{.id = TaskId(id), .group = TaskGroupId(1)};
      std::set<Digest> digests;
      for (const std::string& document : documents) {
        added.documents.push_back({.digest = TestDigest(document)});
        digests.insert(TestDigest(document));
      }
      added.content_key = key(digests);
      state.Apply(added);
      state.Apply(JobTaskAdded{.job = JobNumber(1), .task = TaskId(id)});
    }
    return state;
  };
  EXPECT_THAT(CheckInvariants(state_with("d5")), IsEmpty());
  EXPECT_THAT(CheckInvariants(state_with("d4")),
              ElementsAre("tasks 3 and 4 both bring one measurement"));
}

TEST(Settings, FollowTheHeartbeat) {
  for (const auto& [heartbeat, ttl] :
       {std::pair(absl::Seconds(30), absl::Seconds(90)),
        std::pair(absl::Milliseconds(100), absl::Milliseconds(300)),
        std::pair(absl::Minutes(5), absl::Minutes(15))}) {
    Settings settings;
    settings.heartbeat = heartbeat;
    settings.lease_ttl = ttl;
    settings.failover_ttl = 2 * ttl;
    settings.progress_deadline = 2 * ttl;
    settings.start_deadline = settings.DefaultStartDeadline();
    settings.run_deadline_min = settings.DefaultRunDeadline();
    QSWEEP_EXPECT_OK(settings.Validate());
  }
  EXPECT_EQ(Settings().DefaultStartDeadline(), Settings().start_deadline);
  EXPECT_EQ(Settings().DefaultRunDeadline(), Settings().run_deadline_min);
}

TEST(Settings, ScalesAndChecksRatios) {
  QSWEEP_EXPECT_OK(Settings().Validate());
  QSWEEP_EXPECT_OK(Settings().Scaled(0.02).Validate());
  EXPECT_EQ(Settings().Scaled(0.02).lease_ttl, absl::Milliseconds(1200));
  const auto field = [](void (*spoil)(Settings&)) {
    Settings settings;
    spoil(settings);
    return FieldOf(settings.Validate());
  };
  EXPECT_EQ(field([](auto& s) { s.heartbeat = absl::Seconds(21); }),
            "lease_ttl");
  EXPECT_EQ(field([](auto& s) { s.failover_ttl = absl::Seconds(119); }),
            "failover_ttl");
  EXPECT_EQ(field([](auto& s) { s.progress_deadline = absl::Seconds(60); }),
            "progress_deadline");
  EXPECT_EQ(field([](auto& s) { s.failed_budget = 0; }), "failed_budget");
  EXPECT_EQ(field([](auto& s) { s.max_rows_per_task = 0; }),
            "max_rows_per_task");
  EXPECT_EQ(field([](auto& s) { s.max_rows_per_task = kMostRowsPerTask + 1; }),
            "max_rows_per_task");
}

// What a worker puts into one call: result_sender.cc.
TEST(Settings, AllowsNoTaskWhoseResultIsTooLongToSend) {
  constexpr auto kMost32 = std::numeric_limits<uint32_t>::max();
  constexpr auto kMost64 = std::numeric_limits<uint64_t>::max();
  v1::Measurement row;
  row.set_configuration_index(kMost32);
  row.set_document_index(kMost32);
  row.set_status(v1::ROW_STATUS_OK);
  row.set_nll_sum(-1);
  row.set_nll_fp_sum(-1);
  row.set_unigram_nll_sum(-1);
  row.set_tokens(kMost64);
  row.set_bytes(kMost64);
  row.set_bytes_scored(kMost64);
  row.set_chars(kMost64);
  row.set_kl_sum(-1);
  row.set_top1(kMost64);
  row.set_nonfinite(kMost64);
  row.set_codes(std::string(32, '\xff'));
  std::vector<const google::protobuf::FieldDescriptor*> present;
  row.GetReflection()->ListFields(row, &present);
  EXPECT_EQ(static_cast<int>(present.size()),
            v1::Measurement::descriptor()->field_count());
  v1::TaskResult result;
  result.mutable_report()->set_engine(std::string(1000, 'x'));
  result.mutable_report()->set_device(std::string(1000, 'x'));
  Settings settings;
  settings.max_rows_per_task = kMostRowsPerTask;
  QSWEEP_ASSERT_OK(settings.Validate());
  for (int64_t i = 0; i < settings.max_rows_per_task; ++i) {
    *result.add_rows() = row;
  }
  EXPECT_LT(result.ByteSizeLong(), size_t{3} << 20);
}

}  // namespace
}  // namespace qsweep::testing
