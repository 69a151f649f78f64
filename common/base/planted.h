#ifndef QSWEEP_COMMON_BASE_PLANTED_H_
#define QSWEEP_COMMON_BASE_PLANTED_H_

namespace qsweep {

// Defects that a second compilation can switch on, to show that the simulation
// finds each of them; docs/simulation.md. In the product Planted is the
// constant false and what depends on it compiles to nothing. A file that asks
// is compiled twice: add it to tests/CMakeLists.txt.
enum class Bug {
  kSynchronousNormal,
  kAcknowledgeBeforeCommit,
  kCommitWithoutEpoch,
  kDeadlinesOnWallClock,
  kRequeueOnStreamLoss,
  kPreemptionCharged,
  kFitIgnoresMemory,
  kMeasurementsNotUnique,
  kSecondWriter,
  kBadRequestPoisonsBatch,
  kBackupInSteps,
  kHeartbeatOnComputeThread,
  kUnboundedWatchBuffer,
};

#ifdef QSWEEP_PLANTED_BUGS
bool Planted(Bug bug);
#else
consteval bool Planted(Bug) { return false; }
#endif

}  // namespace qsweep

#endif  // QSWEEP_COMMON_BASE_PLANTED_H_
