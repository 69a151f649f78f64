#ifndef QSWEEP_COORDINATOR_LOOP_LINKS_H_
#define QSWEEP_COORDINATOR_LOOP_LINKS_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/core/settings.h"
#include "coordinator/core/state.h"
#include "coordinator/loop.h"

namespace qsweep {

// The loop's ends of the workers' streams and long polls, by session: who is
// told what, and what they were told last. Single-thread: the loop's.
class Links {
 public:
  // A message opened this session, on a stream or (null) by a poll. The
  // session the worker had before is closed with `why`.
  void Open(const SessionId& session, const WorkerUuid& worker,
            std::shared_ptr<WorkerLink> link, const absl::Status& why);
  // The worker reported: it gets an answer in this step.
  void MarkDirty(const SessionId& session);
  // A poll that waits for the next change, or a heartbeat at most. Of two polls
  // the one with the older beat is answered at once, whichever came first.
  // NOT_FOUND QS5011: there is no such session
  // of polls.
  void Park(const SessionId& session, uint64_t beat,
            Reply<v1::DesiredState> reply, SteadyTime until);
  // Ends a stream from our side; its messages are ignored from now on.
  void Close(const std::shared_ptr<WorkerLink>& link, const absl::Status& why);
  // Ends the streams and answers the polls of workers with this credential.
  void CloseOf(const State& state, const std::string& credential,
               const absl::Status& why);
  bool IsClosed(const WorkerLink* link) const { return closed_.contains(link); }
  // The stream has ended: forgets it. Its session; empty: none.
  SessionId Remove(const WorkerLink* link);

  // Workers that can be given a lease: those a DesiredState reaches.
  std::vector<WorkerUuid> Reachable() const;

  // Sends a DesiredState to each session whose worker reported, whose leases
  // changed, or whose poll is due. Returns what to apply.
  std::vector<Mutation> Push(const State& state, const Settings& settings,
                             SteadyTime now);
  SteadyTime NextDeadline() const;

  // Each stream hears going_away (a drain) first when told so.
  void CloseAll(const State& state, const Settings& settings, bool going_away,
                const absl::Status& why);

 private:
  using LeaseList = std::vector<std::pair<TaskId, Epoch>>;
  struct Session {
    WorkerUuid worker;
    std::shared_ptr<WorkerLink> link;  // null: polls
    Reply<v1::DesiredState> parked;    // empty: none
    uint64_t parked_beat = 0;
    SteadyTime parked_until;
    bool dirty = false;
    LeaseList sent;
  };

  static LeaseList LeasesOf(const State& state, const Worker& worker);

  std::map<SessionId, Session> sessions_;
  std::map<const WorkerLink*, SessionId> session_of_link_;
  std::set<const WorkerLink*> closed_;  // until their Remove
};

}  // namespace qsweep

#endif  // QSWEEP_COORDINATOR_LOOP_LINKS_H_
