#include "tests/support/state_builder.h"

#include <memory>

#include "absl/strings/str_cat.h"

namespace qsweep::testing {
namespace {

std::string Bytes16(const std::string& name) {
  return Digest::Of(name).bytes().substr(0, 16);
}

}  // namespace

Digest TestDigest(const std::string& name) { return Digest::Of(name); }

WorkerUuid TestWorker(const std::string& name) {
  return *WorkerUuid::FromBytes(Bytes16("worker " + name));
}

SessionId TestSession(const std::string& name) {
  return *SessionId::FromBytes(Bytes16("session " + name));
}

BootId TestBoot(const std::string& name) {
  return *BootId::FromBytes(Bytes16("boot " + name));
}

Now TestNow(absl::Duration since_start) {
  return {
      .steady = SteadyTime::FromSinceBoot(absl::Seconds(1000) + since_start),
      .wall = absl::FromUnixSeconds(1'700'000'000) + since_start};
}

v1::Hello MakeHello(const std::string& worker, const WorkerOptions& options) {
  v1::Hello hello;
  hello.set_protocol_min(1);
  hello.set_protocol_max(1);
  hello.set_worker_uuid(TestWorker(worker).bytes());
  hello.set_boot_id(
      TestBoot(absl::StrCat(worker, " ", options.boot_seq)).bytes());
  hello.set_boot_seq(options.boot_seq);
  hello.set_name(worker);
  hello.mutable_evaluations()->Add(options.evaluations.begin(),
                                   options.evaluations.end());
  hello.mutable_methods()->Add(options.methods.begin(), options.methods.end());
  v1::Device& device = *hello.add_devices();
  device.set_name(options.device);
  device.set_gflops(options.gflops);
  device.set_memory_bytes(options.memory_bytes);
  device.set_compute_capability(options.compute_capability);
  device.mutable_computes()->Assign(options.computes.begin(),
                                    options.computes.end());
  return hello;
}

v1::WorkerState MakeReport(const std::string& worker,
                           const WorkerOptions& options, uint64_t beat_seq) {
  v1::WorkerState report;
  report.set_session_id(TestSession(worker).bytes());
  report.set_beat_seq(beat_seq);
  report.set_credits(options.credits);
  report.set_draining(options.draining);
  report.set_lifetime_left_ms(options.lifetime_left_ms);
  for (const auto& [model, level] : options.models) {
    v1::ResidentModel* resident = report.add_models();
    resident->set_digest(TestDigest(model).bytes());
    resident->set_level(level);
  }
  return report;
}

StateBuilder::StateBuilder() {
  state_.Apply(CoordinatorStarted{
      .epoch = 1,
      .now = TestNow().steady,
      .failover_deadline = TestNow(absl::Seconds(120)).steady});
}

StateBuilder& StateBuilder::Job(const JobOptions& options) {
  auto spec = std::make_shared<v1::JobSpec>();
  const JobNumber number = state_.next_job();
  spec->set_name(absl::StrCat("sweep-", number.value()));
  spec->set_kind(v1::JOB_KIND_LAYER_SWEEP);
  spec->mutable_policy()->set_priority(options.priority);
  spec->mutable_policy()->set_max_retries(
      static_cast<uint32_t>(options.max_retries));
  spec->mutable_policy()->set_max_fails(
      static_cast<uint32_t>(options.max_fails));
  *spec->mutable_policy()->mutable_require() = options.require;
  spec->set_compute(options.compute);
  spec->mutable_policy()->set_queue_timeout_ms(options.queue_timeout_ms);
  auto plan = std::make_shared<v1::JobPlan>();
  plan->set_measurements(options.measurements);
  state_.Apply(JobAdded{
      .number = number,
      .uuid =
          *JobUuid::FromBytes(Bytes16(absl::StrCat("job ", number.value()))),
      .spec_digest = TestDigest(absl::StrCat("spec ", number.value())),
      .owner = options.owner,
      .created_at = TestNow().wall,
      .spec = spec,
      .plan = plan});
  jobs_.emplace_back(number, options.state);
  return *this;
}

StateBuilder& StateBuilder::Task(const TaskOptions& options) {
  auto prototype = std::make_shared<v1::TaskSpec>();
  prototype->mutable_model()->set_path("/models/" + options.model);
  prototype->set_model_digest(TestDigest(options.model).bytes());
  prototype->set_evaluation(options.evaluation);
  if (!options.jobs.empty()) {
    prototype->set_compute(state_.job(JobNumber(options.jobs.front())).compute);
  }
  prototype->set_estimated_gflops(options.estimated_gflops);
  prototype->set_weight_bytes(options.weight_bytes);
  prototype->set_estimated_weight_bandwidth(options.estimated_weight_bandwidth);
  for (const std::string& quantizer : options.quantizers) {
    v1::ConfigurationSpec* configuration = prototype->add_configurations();
    configuration->set_quantizer(quantizer);
    configuration->set_layer_set(options.layer_set);
    configuration->set_digest(
        TestDigest(absl::StrCat(options.model, " ", quantizer)).bytes());
  }
  prototype->add_languages()->set_language("eng");
  const TaskGroupId group = state_.next_group();
  const TaskId task = state_.next_task();
  state_.Apply(TaskGroupAdded{.id = group, .prototype = prototype});
  TaskAdded added{
      .id = task,
      .group = group,
      .content_key = TestDigest(absl::StrCat("task ", task.value())),
      .estimated_seconds = static_cast<float>(options.estimated_seconds)};
  for (const std::string& document : options.documents) {
    added.documents.push_back({.digest = TestDigest(document)});
  }
  state_.Apply(added);
  for (const int64_t job : options.jobs) {
    state_.Apply(JobTaskAdded{
        .job = JobNumber(job),
        .task = task,
        .num_measurements = static_cast<int64_t>(options.quantizers.size() *
                                                 options.documents.size())});
  }
  return *this;
}

StateBuilder& StateBuilder::Worker(const std::string& name,
                                   const WorkerOptions& options) {
  const SteadyTime deadline = TestNow(absl::Seconds(60)).steady;
  credentials_[name] = options.credential;
  const v1::Hello hello = MakeHello(name, options);
  state_.Apply(WorkerAttached{.worker = TestWorker(name),
                              .session = TestSession(name),
                              .boot = *BootId::FromBytes(hello.boot_id()),
                              .boot_seq = options.boot_seq,
                              .credential = options.credential,
                              .hello = std::make_shared<v1::Hello>(hello),
                              .time = TestNow().wall,
                              .now = TestNow().steady,
                              .deadline = deadline});
  state_.Apply(WorkerReported{
      .worker = TestWorker(name),
      .state = std::make_shared<v1::WorkerState>(MakeReport(name, options, 1)),
      .now = TestNow().steady,
      .deadline = deadline});
  return *this;
}

StateBuilder& StateBuilder::Lease(int64_t task, const std::string& worker) {
  const qsweep::Task& leased = state_.task(TaskId(task));
  state_.Apply(LeaseGranted{.task = TaskId(task),
                            .epoch = leased.epoch().Next(),
                            .job = leased.jobs.front(),
                            .worker = TestWorker(worker),
                            .session = TestSession(worker),
                            .credential = credentials_[worker],
                            .granted_at = TestNow().wall,
                            .now = TestNow().steady,
                            .deadline = TestNow(absl::Seconds(60)).steady});
  return *this;
}

StateBuilder& StateBuilder::Apply(Mutation mutation) {
  state_.Apply(mutation);
  return *this;
}

State StateBuilder::Build() {
  for (const auto& [number, state] : jobs_) {
    if (state_.job(number).state == v1::JOB_STATE_PLANNING) {
      state_.Apply(JobStateChanged{
          .job = number, .state = state, .time = TestNow().wall});
    }
  }
  return state_;
}

std::vector<std::string> EventsOf(const std::vector<Mutation>& mutations) {
  std::vector<std::string> kinds;
  for (const EventAppended& event : Only<EventAppended>(mutations)) {
    kinds.push_back(absl::StrCat(event.job.value(), ":", event.event->kind()));
  }
  return kinds;
}

State After(State state, const std::vector<Mutation>& mutations) {
  for (const Mutation& mutation : mutations) {
    state.Apply(mutation);
  }
  return state;
}

}  // namespace qsweep::testing
