#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/base/status_macros.h"
#include "common/job/quantizer.h"
#include "worker/engine/commands/commands.h"
#include "worker/engine/engine.h"

namespace qsweep {

absl::Status RunSelftest(const EngineFlags& flags, const Print& print) {
  QSWEEP_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          Engine::Create({.device = flags.device,
                                          .threads = flags.threads,
                                          .memory = flags.memory}));
  const EngineInfo& info = engine->info();
  const std::string computes =
      absl::StrJoin(info.computes, ", ", [](std::string* out, Compute compute) {
        out->append(ComputeName(compute));
      });
  print(absl::StrFormat(
      "engine      %s\n"
      "device      %s, %d threads, %d MiB\n"
      "products    %.0f GFLOP/s on all threads in fp32; %s\n"
      "check       a row's bits depend on the row alone: passed\n",
      info.fingerprint, info.device, info.threads, info.memory_bytes >> 20,
      info.gflops, computes));
  return absl::OkStatus();
}

}  // namespace qsweep
