#!/usr/bin/env bash
# Set-up, release build, every test but the long runs.
#
#   bash deploy/test.sh           what CI runs; at most 25 minutes from nothing on 2 cores
#   bash deploy/test.sh --full    then clang (thread-safety analysis), asan and tsan as well
#
# Run as root it fails when anything but a test labelled gpu was skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

full=0
case "${1:-}" in
  "") ;;
  --full) full=1 ;;
  *) echo "test.sh: unknown argument '$1' (only --full)" >&2; exit 2 ;;
esac

started=$SECONDS
if [ $full = 1 ]; then source deploy/setup.sh --full; else source deploy/setup.sh --tests; fi

# Configures, builds and tests one preset. $1: preset; the rest: arguments of ctest. Clang alone
# compiles without precompiled headers: its build shows that each file includes what it uses.
run_preset() {
  local preset=$1 folder=$PWD/build/$1 pch=ON; shift
  [ "$preset" != clang ] || pch=OFF
  say "Building preset $preset"
  cmake --preset "$preset" -DQSWEEP_BUILD_TESTS=ON -DQSWEEP_PCH=$pch \
    >"build/configure-$preset.log" 2>&1 ||
    { tail -40 "build/configure-$preset.log" >&2; exit 1; }
  cmake --build --preset "$preset" -- --quiet
  if [ "$preset" = clang ]; then
    say "Compiling each header alone"
    cmake --build --preset clang --target all_verify_interface_header_sets -- --quiet
  fi
  wait_for_data
  say "Testing preset $preset"
  local failed=0
  # Half cores: two tests that compute and one that waits (deploy/cmake/QsweepTargets.cmake).
  ctest --preset "$preset" --parallel 5 --no-tests=error --output-junit "$folder/junit.xml" \
    --test-output-size-passed 1000000 "$@" || failed=1
  ctest --preset "$preset" --show-only=json-v1 >"$folder/ctest.json"
  python3 deploy/report_skipped.py "$folder/junit.xml" "$folder/ctest.json" $strict || failed=1
  [ $failed = 0 ] || { echo "test.sh: tests of preset $preset failed" >&2; exit 1; }
}

# As root everything but label gpu must have run.
strict=
if [ "$(id -u)" = 0 ]; then strict=--strict; fi

run_preset release
if [ $full = 1 ]; then
  run_preset clang
  run_preset asan --label-exclude 'oracle|e2e'
  run_preset tsan --label-regex 'unit|contract|sim' --label-exclude grpc
fi
say "All tests passed in $((SECONDS - started)) s"
