#!/usr/bin/env bash
# Benchmarks: builds what one needs, runs it, prints a table and writes build/bench/NAME-<utc>.json.
#
#   bash deploy/bench.sh scheduler                 the figures of docs/benchmarks.md, with its peers
#   bash deploy/bench.sh scheduler --quick         a smoke test of half a minute, without peers
#   bash deploy/bench.sh scheduler --only T1,T3    some of them; --help lists all flags
#   bash deploy/bench.sh engine                    the engine beside notebooks in PyTorch
#   bash deploy/bench.sh engine --only kernels     some figures; --help lists all flags
#
# Run it on a machine that does nothing else. What it writes lies under build/bench: --folder DIR
# takes another disk.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

name=${1:-}
case "$name" in
  scheduler) needs=--bench targets="qcoordinator qbench_scheduler" python=python3 ;;
  engine) needs=--tests targets="qcoordinator qctl qengine qworker qbench_engine"
          python=build/venv/bin/python ;;
  -h | --help) usage; exit 0 ;;
  "") echo "bench.sh: name a benchmark" >&2; usage >&2; exit 2 ;;
  *) echo "bench.sh: unknown benchmark '$name' (there are: scheduler, engine)" >&2; usage >&2; exit 2 ;;
esac
shift

arguments=("$@")
source deploy/setup.sh $needs
say "Building the benchmark"
cmake --preset release >build/configure-release.log 2>&1 ||
  { tail -40 build/configure-release.log >&2; exit 1; }
# shellcheck disable=SC2086  # a list of words
cmake --build --preset release --target $targets -- --quiet
wait_for_data
say "Measuring the $name"
$python "tests/bench/$name.py" "${arguments[@]}"
