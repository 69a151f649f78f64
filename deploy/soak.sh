#!/usr/bin/env bash
# Runs a coordinator, eight workers and two clients for a while under gentle faults (workers and
# engines killed, asked to leave, stopped) and measures the coordinator all along: memory, WAL, open
# descriptors. Prints a verdict; exits 1 when it is not "PASSED". Results so far: docs/fault-tests.md.
#
#   bash deploy/soak.sh             20 minutes
#   bash deploy/soak.sh 60          60 minutes
#   bash deploy/soak.sh 20 --seed 7
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes=20
if [ $# -gt 0 ] && [[ $1 != --* ]]; then minutes=$1; shift; fi

source deploy/setup.sh --tests
say "Building the soak"
cmake --preset release -DQSWEEP_BUILD_TESTS=ON >build/configure-release.log 2>&1 ||
  { tail -40 build/configure-release.log >&2; exit 1; }
cmake --build --preset release --target qchaos -- --quiet
wait_for_data
printf 'qsweep %s, %s, %s CPUs, kernel %s\n' "$(git rev-parse --short HEAD)" \
  "$(date -u +%Y-%m-%d)" "$(nproc)" "$(uname -r)"
exec build/release/tests/qchaos soak --minutes "$minutes" "$@"
