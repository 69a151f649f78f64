#include "tests/sim/network.h"

#include <algorithm>
#include <utility>

namespace qsweep::sim {
namespace {

constexpr double kLost = 0.01;
constexpr double kTwice = 0.02;
constexpr double kLate = 0.03;

}  // namespace

void Network::CutFrom(Node node, absl::Duration duration) {
  line(node).dead_from = schedule_.now() + duration;
}

void Network::CutTo(Node node, absl::Duration duration) {
  line(node).dead_to = schedule_.now() + duration;
}

void Network::Heal() {
  for (auto& [node, line] : lines_) {
    line.dead_from = line.dead_to = SteadyTime();
  }
}

bool Network::Cut(Node from, Node to) {
  const SteadyTime now = schedule_.now();
  return now < line(from).dead_from || now < line(to).dead_to;
}

absl::Duration Network::Delay() {
  const absl::Duration usual =
      absl::Microseconds(static_cast<int64_t>(random_.Below(20'000)));
  if (faulty_ && random_.Uniform() < kLate) {
    counts_.faults.Add("message late");
    return usual +
           absl::Milliseconds(static_cast<int64_t>(random_.Below(15'000)));
  }
  return usual;
}

void Network::Deliver(Node from, Node to, SteadyTime at,
                      std::function<void()> deliver) {
  schedule_.At(
      at, [this, from, to, life = line(to).life, run = std::move(deliver)] {
        if (line(to).life == life && !Cut(from, to)) {
          run();
        }
      });
}

void Network::Send(Node from, Node to, std::function<void()> deliver,
                   absl::Duration extra) {
  if (Cut(from, to)) {
    return;
  }
  if (faulty_ && random_.Uniform() < kLost) {
    counts_.faults.Add("message lost");
    return;
  }
  if (faulty_ && random_.Uniform() < kTwice) {
    counts_.faults.Add("message twice");
    Deliver(from, to, schedule_.now() + extra + Delay(), deliver);
  }
  Deliver(from, to, schedule_.now() + extra + Delay(), std::move(deliver));
}

bool Network::SendInOrder(Node from, Node to, SteadyTime* last,
                          std::function<void()> deliver, absl::Duration extra) {
  if (Cut(from, to) || (faulty_ && random_.Uniform() < kLost / 2)) {
    counts_.faults.Add("stream broken");
    return false;
  }
  *last = std::max(*last, schedule_.now() + extra + Delay());
  // What is on its way arrives, cut or not, as TCP sends it again.
  schedule_.At(*last,
               [this, to, life = line(to).life, run = std::move(deliver)] {
                 if (line(to).life == life) {
                   run();
                 }
               });
  return true;
}

}  // namespace qsweep::sim
