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

[ -d build/release ] || cmake --preset release -DQSWEEP_BUILD_TESTS=ON >/dev/null
cmake --build build/release --target qchaos -- --quiet
printf 'qsweep %s, %s, %s CPUs, kernel %s\n' "$(git rev-parse --short HEAD)" \
  "$(date -u +%Y-%m-%d)" "$(nproc)" "$(uname -r)"
exec build/release/tests/qchaos soak --minutes "$minutes" "$@"
