#!/usr/bin/env bash
# Benchmarks: builds what one needs, runs it, prints a table and writes build/bench/NAME-<utc>.json.
#
#   bash deploy/bench.sh scheduler                 the figures of docs/benchmarks.md, with its peers
#   bash deploy/bench.sh scheduler --quick         a smoke test of half a minute, without peers
#   bash deploy/bench.sh scheduler --only T1,T3    some of them; --help lists all flags
#
# Run it on a machine that does nothing else. Databases lie under build/bench: --folder DIR takes
# another disk.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

name=${1:-}
case "$name" in
  scheduler) shift ;;
  -h | --help) usage; exit 0 ;;
  "") echo "bench.sh: name a benchmark" >&2; usage >&2; exit 2 ;;
  *) echo "bench.sh: unknown benchmark '$name' (there is: scheduler)" >&2; usage >&2; exit 2 ;;
esac

arguments=("$@")
source deploy/setup.sh --bench
say "Building the benchmark"
cmake --preset release >build/configure-release.log 2>&1 ||
  { tail -40 build/configure-release.log >&2; exit 1; }
cmake --build --preset release --target qcoordinator qbench_scheduler -- --quiet
wait_for_data
say "Measuring the scheduler"
python3 "tests/bench/$name.py" "${arguments[@]}"
