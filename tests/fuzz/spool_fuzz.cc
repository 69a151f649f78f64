// A worker's spool after its disk did what disks do. The input: what is
// appended and acknowledged, then damage to the file. What comes back was once
// appended; without damage, exactly what was not acknowledged comes back.
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/fuzz/expect.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/scratch.h"
#include "worker/agent/spool.h"

namespace qsweep::fuzz {
namespace {

constexpr size_t kCapacity = 4096;

class SpoolProgram {
 public:
  explicit SpoolProgram(Input& input, const Scratch& folder)
      : input_(input), folder_(folder) {
    folder_.Clear();
  }

  void Run() {
    const uint64_t lives = 1 + input_.Below(3);
    for (uint64_t life = 0; life < lives; ++life) {
      Open();
      Use();
      opened_ = {};
      Damage();
    }
    Open();
    const std::string last = "the last";
    if (opened_.spool->room() > kCapacity / 4) {
      Expect(Append({last}), "a spool with room takes nothing");
      opened_ = {};
      Open();
      Expect(pending_.contains(last), "what was appended last is lost");
    }
  }

 private:
  void Open() {
    auto opened =
        Spool::Open({.directory = folder_.path(), .capacity_bytes = kCapacity});
    Expect(opened.ok(), "the spool does not open");
    std::set<std::string> found;
    for (const Spool::Record& record : opened->pending) {
      Expect(written_.contains(record.payload), "a record nobody wrote");
      found.insert(record.payload);
    }
    if (!damaged_) {
      Expect(found == pending_, "a sound spool has lost or kept a record");
      Expect(opened->damaged.empty() && opened->torn_bytes == 0,
             "a sound spool is called damaged");
    }
    for (const absl::Status& status : opened->damaged) {
      ExpectNamed(status);
    }
    damaged_ = false;  // what it has left is sound
    pending_ = std::move(found);
    opened_ = *std::move(opened);
  }

  bool Append(const std::vector<std::string>& payloads) {
    const auto ids = opened_.spool->Append(payloads);
    if (!OkOrNamed(ids)) {
      return false;
    }
    for (size_t i = 0; i < payloads.size(); ++i) {
      opened_.pending.push_back({(*ids)[i], payloads[i]});
      written_.insert(payloads[i]);
      pending_.insert(payloads[i]);
    }
    return true;
  }

  void Use() {
    const uint64_t operations = input_.Below(12);
    for (uint64_t i = 0; i < operations; ++i) {
      if (input_.Bool() || opened_.pending.empty()) {
        std::vector<std::string> payloads;
        const uint64_t records = 1 + input_.Below(3);
        for (uint64_t k = 0; k < records; ++k) {
          // Each is another, or a set could not tell them apart.
          payloads.push_back(std::to_string(next_++) +
                             std::string(input_.Below(400), 'x'));
        }
        Append(payloads);
      } else {
        const size_t at = input_.Below(opened_.pending.size());
        Expect(opened_.spool->Acknowledge(opened_.pending[at].id).ok(),
               "a record cannot be acknowledged");
        pending_.erase(opened_.pending[at].payload);
        opened_.pending.erase(opened_.pending.begin() +
                              static_cast<std::ptrdiff_t>(at));
      }
    }
  }

  // Flips, zeros and cuts of the file.
  void Damage() {
    const uint64_t places = input_.Below(4);
    if (places == 0) {
      return;
    }
    damaged_ = true;
    std::ifstream file(folder_ / "spool", std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    for (uint64_t i = 0; i < places && !bytes.empty(); ++i) {
      const size_t at = input_.Below(bytes.size());
      switch (input_.Below(4)) {
        case 0:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << input_.Below(8)));
          break;
        case 1: {
          const size_t cut = input_.Below(64);
          bytes.replace(at, cut, input_.Text(64));
          break;
        }
        case 2:
          std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                    bytes.begin() + static_cast<std::ptrdiff_t>(
                                        std::min(bytes.size(), at + 512)),
                    '\0');
          break;
        default:
          bytes.resize(at);
      }
    }
    folder_.Write("spool", bytes);
  }

  Input& input_;
  const Scratch& folder_;
  Spool::Opened opened_;
  std::set<std::string> written_;
  std::set<std::string> pending_;
  bool damaged_ = false;
  int next_ = 0;
};

}  // namespace
}  // namespace qsweep::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const qsweep::fuzz::Scratch folder;
  qsweep::fuzz::Input input(data, size);
  qsweep::fuzz::SpoolProgram(input, folder).Run();
  return 0;
}
