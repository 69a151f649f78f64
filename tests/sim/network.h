#ifndef QSWEEP_TESTS_SIM_NETWORK_H_
#define QSWEEP_TESTS_SIM_NETWORK_H_

#include <functional>
#include <map>

#include "common/base/random.h"
#include "tests/sim/counts.h"
#include "tests/sim/schedule.h"

namespace qsweep::sim {

// Of a process that talks. The coordinator is 0.
using Node = int;
inline constexpr Node kCoordinator = 0;

// Carries messages between processes: late, out of order, twice or never while
// it is faulty; late only when not. A message to a process that has died since
// it was sent is lost, also when the process is back. Single-thread.
class Network {
 public:
  Network(Schedule& schedule, Random& random, Counts& counts)
      : schedule_(schedule), random_(random), counts_(counts) {}

  void set_faulty(bool faulty) { faulty_ = faulty; }
  // One direction of a node's line is dead for so long; both calls: a cut.
  void CutFrom(Node node, absl::Duration duration);
  void CutTo(Node node, absl::Duration duration);
  void Heal();

  // The node's process is a new one.
  void NewLife(Node node) { ++line(node).life; }

  // deliver runs once, twice or never. `extra`: on top of the line's delay.
  void Send(Node from, Node to, std::function<void()> deliver,
            absl::Duration extra = absl::ZeroDuration());
  // For messages of a stream: never twice, in order if `*last` is kept between
  // calls; false: lost, so the stream is broken.
  bool SendInOrder(Node from, Node to, SteadyTime* last,
                   std::function<void()> deliver,
                   absl::Duration extra = absl::ZeroDuration());

 private:
  struct Line {
    uint64_t life = 0;
    SteadyTime dead_from;  // until then
    SteadyTime dead_to;
  };
  Line& line(Node node) { return lines_[node]; }
  bool Cut(Node from, Node to);
  absl::Duration Delay();
  void Deliver(Node from, Node to, SteadyTime at,
               std::function<void()> deliver);

  Schedule& schedule_;
  Random& random_;
  Counts& counts_;
  bool faulty_ = true;
  std::map<Node, Line> lines_;
};

}  // namespace qsweep::sim

#endif  // QSWEEP_TESTS_SIM_NETWORK_H_
