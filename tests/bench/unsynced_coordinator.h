#ifndef QSWEEP_TESTS_BENCH_UNSYNCED_COORDINATOR_H_
#define QSWEEP_TESTS_BENCH_UNSYNCED_COORDINATOR_H_

namespace qsweep::bench {

// A coordinator whose commits do not wait for the disk, as with
// synchronous=NORMAL: what group commit is measured against. The product has no
// such setting. Serves until SIGTERM; the flags it takes are those that
// CoordinatorProcess gives. Returns the exit status.
int ServeUnsynced(int argc, char** argv);

}  // namespace qsweep::bench

#endif  // QSWEEP_TESTS_BENCH_UNSYNCED_COORDINATOR_H_
