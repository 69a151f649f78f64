#include "tests/sim/simulated_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace qsweep::sim {
namespace {

constexpr absl::Duration kRetry = absl::Seconds(8);
// Events in the buffer of a watch.
constexpr int kSmallest = 4;
constexpr int kUsual = 200;

}  // namespace

// The coordinator's end of a WatchJob stream.
class SimulatedClient::Sink : public WatchSink {
 public:
  // capacity: events that were sent and have not arrived.
  Sink(SimulatedClient& client, JobNumber job, uint64_t connection,
       int capacity)
      : client_(client),
        job_(job),
        connection_(connection),
        capacity_(capacity),
        stored_(client.oracles_.durable().last_event()) {}

  bool Send(v1::WatchEvent event) override {
    if (!client_.coordinator_.Speaks()) {
      return true;
    }
    Watch& watch = client_.watches_.at(job_);
    if (!Connected(watch)) {
      return false;
    }
    if (event.has_progress() &&
        (*waiting_ >= capacity_ / 2 || client_.random_.Below(4) != 0)) {
      return true;  // dropped first
    }
    if (client_.schedule_.now() < client_.stalled_until_) {
      client_.counts_.faults.Add("slow consumer cut");
      return false;
    }
    if (*waiting_ >= capacity_) {
      client_.counts_.faults.Add("watch buffer full");
      return false;
    }
    CheckRoom(event);
    ++*waiting_;
    const bool sent = client_.network_.SendInOrder(
        kCoordinator, client_.node_, &watch.last_delivery,
        [client = &client_, job = job_, connection = connection_,
         waiting = waiting_, wants_room = wants_room_,
         event = std::move(event)] {
          --*waiting;
          if (std::exchange(*wants_room, false)) {
            client->coordinator_.TellOfRoom();
          }
          Watch& w = client->watches_.at(job);
          if (w.connected && w.connection == connection) {
            client->TakeEvent(w, event);
          }
        },
        client_.coordinator_.SyncDelay());
    if (!sent) {
      Break(absl::UnavailableError("connection reset"));
    }
    return sent;
  }
  int Room() override {
    stored_ = client_.oracles_.durable().last_event();
    room_ = RoomNow();
    *wants_room_ = room_ == 0;
    return room_;
  }
  void Close(absl::Status status) override {
    if (client_.coordinator_.Speaks()) {
      Break(status);
    }
  }

 private:
  bool Connected(const Watch& watch) const {
    return watch.connected && watch.connection == connection_;
  }
  // As the product's: half is for what happens meanwhile, and a stream that has
  // ended takes all, to say so.
  int RoomNow() const {
    if (!Connected(client_.watches_.at(job_))) {
      return capacity_;
    }
    const int room = std::max(0, capacity_ / 2 - *waiting_);
    if (room == 0) {
      client_.counts_.checks.Add("watch waits for room");
    }
    return room;
  }
  // What was stored when the loop asked for room is sent no faster than that.
  void CheckRoom(const v1::WatchEvent& event) {
    if (event.has_durable() &&
        event.durable().seq() <= static_cast<uint64_t>(stored_.value()) &&
        --room_ < 0) {
      client_.oracles_.Fail(
          11, absl::StrCat("a watch of job ", job_.value(),
                           " was sent more old events than it had room for"));
    }
  }
  // After what was sent before it.
  void Break(const absl::Status& status) {
    Watch& watch = client_.watches_.at(job_);
    client_.schedule_.At(
        watch.last_delivery,
        [client = &client_, job = job_, connection = connection_, status] {
          Watch& w = client->watches_.at(job);
          if (w.connected && w.connection == connection) {
            client->EndWatch(w, status);
          }
        });
  }

  SimulatedClient& client_;
  const JobNumber job_;
  const uint64_t connection_;
  const int capacity_;
  int room_ = 0;     // left of the last answer
  EventSeq stored_;  // by then
  const std::shared_ptr<int> waiting_ = std::make_shared<int>(0);
  const std::shared_ptr<bool> wants_room_ = std::make_shared<bool>(false);
};

SimulatedClient::SimulatedClient(Node node, std::string owner,
                                 Schedule& schedule, Network& network,
                                 Random& random, Counts& counts, Trace& trace,
                                 Oracles& oracles,
                                 CoordinatorProcess& coordinator)
    : node_(node),
      owner_(std::move(owner)),
      schedule_(schedule),
      network_(network),
      random_(random),
      counts_(counts),
      trace_(trace),
      oracles_(oracles),
      coordinator_(coordinator) {}

void SimulatedClient::Submit(v1::SubmitJobRequest request) {
  request.set_owner(owner_);
  const std::string uuid = request.job_uuid();
  unanswered_[uuid] = std::move(request);
  SendSubmit(uuid);
}

void SimulatedClient::SendSubmit(const std::string& uuid) {
  const auto it = unanswered_.find(uuid);
  if (it == unanswered_.end()) {
    return;
  }
  network_.Send(node_, kCoordinator, [this, request = it->second] {
    coordinator_.Call<v1::SubmitJobResponse>(
        node_, request,
        [this, uuid = request.job_uuid()](
            const absl::StatusOr<v1::SubmitJobResponse>& response) {
          TakeSubmit(uuid, response);
        });
  });
  schedule_.After(kRetry, [this, uuid] { SendSubmit(uuid); });
}

void SimulatedClient::TakeSubmit(
    const std::string& uuid,
    const absl::StatusOr<v1::SubmitJobResponse>& response) {
  const auto it = unanswered_.find(uuid);
  if (response.ok()) {
    oracles_.OnSubmitAnswered(uuid, *response);
  }
  if (it == unanswered_.end() || absl::IsUnavailable(response.status())) {
    return;
  }
  const std::string& name = it->second.spec().name();
  if (!response.ok()) {
    if (name != CoordinatorProcess::kUnstorable) {
      oracles_.Fail(9, absl::StrCat("a submit was answered with ",
                                    response.status().ToString()));
    }
    unanswered_.erase(it);
    return;
  }
  if (response->existed()) {
    counts_.faults.Add("submit sent again after an unknown outcome");
  }
  trace_.Line(owner_, " has job ", response->job_number(), " with ",
              response->plan().tasks(), " tasks");
  tasks_planned_ += static_cast<int64_t>(response->plan().tasks());
  unanswered_.erase(it);
  StartWatch(JobNumber(static_cast<int64_t>(response->job_number())));
}

void SimulatedClient::CancelSome() {
  for (const auto& [job, watch] : watches_) {
    if (random_.Below(3) == 0 && Cancel(job)) {
      return;
    }
  }
}

bool SimulatedClient::Cancel(JobNumber job) {
  const auto watch = watches_.find(job);
  if (watch == watches_.end() || watch->second.ended ||
      !uncancelled_.insert(job).second) {
    return false;
  }
  counts_.faults.Add("cancel");
  SendCancel(job);
  return true;
}

void SimulatedClient::SendCancel(JobNumber job) {
  if (!uncancelled_.contains(job)) {
    return;
  }
  network_.Send(node_, kCoordinator, [this, job] {
    v1::CancelJobRequest request;
    request.mutable_job()->set_text(absl::StrCat(job.value()));
    coordinator_.Call<v1::CancelJobResponse>(
        node_, request,
        [this, job](const absl::StatusOr<v1::CancelJobResponse>& response) {
          if (absl::IsUnavailable(response.status())) {
            return;
          }
          if (response.ok() && uncancelled_.erase(job) > 0) {
            trace_.Line(owner_, " cancelled job ", job.value());
            oracles_.OnCancelAnswered(job);
          }
          CheckAnswer(response.status());
          uncancelled_.erase(job);  // it had ended
        });
  });
  schedule_.After(kRetry, [this, job] { SendCancel(job); });
}

void SimulatedClient::CheckAnswer(const absl::Status& status) {
  if (absl::IsInternal(status)) {
    oracles_.Fail(2,
                  absl::StrCat("a call was answered with ", status.ToString()));
  }
}

void SimulatedClient::ControlJob(JobNumber job, v1::JobAction action,
                                 int priority) {
  if (action == v1::JOB_ACTION_RETRY) {
    oracles_.OnRetry(job);
  }
  trace_.Line(owner_, " ", v1::JobAction_Name(action), " of job ", job.value());
  v1::ControlJobRequest request;
  request.mutable_job()->set_text(absl::StrCat(job.value()));
  request.set_action(action);
  request.set_priority(priority);
  network_.Send(node_, kCoordinator, [this, request] {
    coordinator_.Call<v1::ControlJobResponse>(
        node_, request, [this](const auto& r) { CheckAnswer(r.status()); });
  });
}

void SimulatedClient::ControlWorker(const WorkerUuid& worker,
                                    v1::WorkerAction action) {
  trace_.Line(owner_, " ", v1::WorkerAction_Name(action), " of worker ",
              worker.text());
  v1::ControlWorkerRequest request;
  request.set_worker(worker.text());
  request.set_action(action);
  network_.Send(node_, kCoordinator, [this, request] {
    coordinator_.Call<v1::ControlWorkerResponse>(
        node_, request, [this](const auto& r) { CheckAnswer(r.status()); });
  });
}

void SimulatedClient::RevokeToken(TokenId token) {
  if (!unrevoked_.insert(token).second) {
    return;
  }
  trace_.Line(owner_, " revokes token ", token.value());
  SendRevoke(token);
}

void SimulatedClient::SendRevoke(TokenId token) {
  if (!unrevoked_.contains(token)) {
    return;
  }
  v1::RevokeTokenRequest request;
  request.set_token_id(static_cast<uint64_t>(token.value()));
  network_.Send(node_, kCoordinator, [this, request, token] {
    coordinator_.Call<v1::RevokeTokenResponse>(
        node_, request, [this, token](const auto& response) {
          if (response.ok() && unrevoked_.erase(token) > 0) {
            oracles_.OnRevokeAnswered(token);
          }
          CheckAnswer(response.status());
        });
  });
  schedule_.After(kRetry, [this, token] { SendRevoke(token); });
}

void SimulatedClient::CollectGarbage(absl::Duration older_than) {
  trace_.Line(owner_, " deletes jobs older than ",
              absl::FormatDuration(older_than));
  v1::CollectGarbageRequest request;
  request.set_older_than_ms(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(older_than)));
  network_.Send(node_, kCoordinator, [this, request] {
    coordinator_.Call<v1::CollectGarbageResponse>(
        node_, request, [this](const auto& r) { CheckAnswer(r.status()); });
  });
}

void SimulatedClient::Stall(absl::Duration duration) {
  stalled_until_ = schedule_.now() + duration;
}

void SimulatedClient::BreakWatches() {
  for (auto& [job, watch] : watches_) {
    if (watch.connected) {
      EndWatch(watch, absl::UnavailableError("connection reset"));
    }
  }
}

void SimulatedClient::StartWatch(JobNumber job) {
  Watch& watch = watches_[job];
  if (watch.ended || watch.connected) {
    return;
  }
  watch.job = job;
  watch.connected = true;
  watch.greeted = false;
  watch.connection = ++connections_;
  v1::WatchJobRequest request;
  request.mutable_job()->set_text(absl::StrCat(job.value()));
  request.set_from_seq(watch.events.empty() ? 0 : watch.events.back().seq());
  SteadyTime last;
  const int capacity = random_.Below(3) == 0
                           ? kSmallest + static_cast<int>(random_.Below(16))
                           : kUsual;
  network_.SendInOrder(
      node_, kCoordinator, &last,
      [this, request,
       sink = std::make_shared<Sink>(*this, job, watch.connection, capacity)] {
        coordinator_.Watch(request, sink);
      });
  KeepAlive(job, watch.connection, coordinator_.life());
}

// A connection to a process that is gone, or half open, ends by keepalive.
void SimulatedClient::KeepAlive(JobNumber job, uint64_t connection,
                                uint64_t life) {
  schedule_.After(absl::Seconds(20), [this, job, connection, life] {
    Watch& watch = watches_[job];
    if (!watch.connected || watch.connection != connection) {
      return;
    }
    if (coordinator_.life() != life || random_.Below(8) == 0) {
      EndWatch(watch, absl::UnavailableError("keepalive"));
    } else {
      KeepAlive(job, connection, life);
    }
  });
}

void SimulatedClient::EndWatch(Watch& watch, const absl::Status& status) {
  watch.connected = false;
  watch.deleted = absl::IsNotFound(status) && oracles_.IsDeleted(watch.job);
  watch.ended = status.ok() || watch.deleted;
  if (watch.ended) {
    return;
  }
  schedule_.After(absl::Seconds(1) + absl::Milliseconds(static_cast<int64_t>(
                                         random_.Below(4000))),
                  [this, job = watch.job] { StartWatch(job); });
}

void SimulatedClient::TakeEvent(Watch& watch, const v1::WatchEvent& event) {
  if (event.has_snapshot()) {
    watch.greeted = true;
  } else if (!watch.greeted) {
    oracles_.Fail(11, "a watch begins without a snapshot");
  } else if (event.has_progress()) {
    TakeProgress(watch, event.progress());
  } else {
    TakeDurable(watch, event.durable());
  }
}

void SimulatedClient::TakeProgress(const Watch& watch,
                                   const v1::TaskProgressFrame& frame) {
  counts_.checks.Add("progress frames");
  const auto it = watch.epochs.find(frame.task_id());
  if (it != watch.epochs.end() && frame.epoch() < it->second) {
    Oracles& oracles = oracles_;
    oracles.Fail(18,
                 absl::StrCat("progress of task ", frame.task_id(), " epoch ",
                              frame.epoch(), " after a newer one"));
  }
}

void SimulatedClient::TakeDurable(Watch& watch, const v1::DurableEvent& event) {
  counts_.checks.Add("watched events");
  const bool first = watch.events.empty();
  const uint64_t seq = first ? 0 : watch.events.back().seq();
  const uint64_t job_seq = first ? 0 : watch.events.back().job_seq();
  if (event.seq() <= seq || event.job_seq() != job_seq + 1) {
    oracles_.Fail(
        11, absl::StrCat("a watch of job ", watch.job.value(), " saw event ",
                         event.job_seq(), " after ", job_seq));
  }
  watch.events.push_back(event);
  if (event.kind() == "task_leased") {
    watch.epochs[event.task_id()] = event.epoch();
  } else if (event.kind() == "task_done") {
    watch.epochs[event.task_id()] = ~uint64_t{0};
  }
}

bool SimulatedClient::settled() const {
  for (const auto& [job, watch] : watches_) {
    if (!watch.ended) {
      return false;
    }
  }
  return unanswered_.empty() && uncancelled_.empty() && unrevoked_.empty();
}

void SimulatedClient::CheckWatches(Store& store) {
  for (const auto& [job, watch] : watches_) {
    if (watch.deleted || oracles_.IsDeleted(job)) {
      continue;
    }
    const auto stored =
        store.ReadEvents(job, EventSeq(0), static_cast<int>(1e6));
    // Late results of a job that has ended make events nobody waits for.
    bool same = stored.ok() && watch.events.size() <= stored->size();
    for (size_t i = 0; same && i < watch.events.size(); ++i) {
      same = watch.events[i].SerializeAsString() ==
             (*stored)[i].SerializeAsString();
    }
    if (!same) {
      oracles_.Fail(11, absl::StrCat("what a watch of job ", job.value(),
                                     " saw is not what is stored"));
    }
  }
}

}  // namespace qsweep::sim
