#!/usr/bin/env bash
# Fuzzes everything that reads what others wrote: libFuzzer with address and undefined behaviour
# sanitizers, from the seeds in tests/fuzz/corpus. One line per target; exits 1 on a finding.
#
#   bash deploy/fuzz.sh                 every target for 60 s
#   bash deploy/fuzz.sh 600 spec loop   these two for 600 s each
#
# build/fuzz/found keeps what reached new code, for the next run; build/fuzz/crashes what ended a target.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=60
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then seconds=$1; shift; fi
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
  for file in tests/fuzz/*_fuzz.cc; do file=${file##*/}; targets+=("${file%_fuzz.cc}"); done
fi
for target in "${targets[@]}"; do
  [ -f "tests/fuzz/${target}_fuzz.cc" ] || { echo "fuzz.sh: no target '$target'" >&2; exit 2; }
done

source deploy/setup.sh --fuzz
say "Building preset fuzz"
cmake --preset fuzz >build/configure-fuzz.log 2>&1 || { tail -40 build/configure-fuzz.log >&2; exit 1; }
cmake --build build/fuzz --target "${targets[@]/#/fuzz_}" -- --quiet

# Targets write their files in memory, where there is such a folder.
if [ -d /dev/shm ]; then scratch=$(mktemp -d /dev/shm/qsweep-fuzz.XXXXXX); else scratch=$(mktemp -d); fi
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export LSAN_OPTIONS=suppressions=$PWD/tests/sanitizers/lsan.supp:print_suppressions=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

# A malloc above 256 MB or an input that takes 20 s is a finding.
readonly LIMITS="-malloc_limit_mb=256 -rss_limit_mb=2048 -timeout=20"
mkdir -p build/fuzz/crashes
failed=0

# The value of a line "stat::NAME: VALUE" of a log.
final() { sed -n "s/^stat::$1: *//p" "$2"; }
# The branches covered, from the first line of a log with the tag.
covered() { grep -m1 -E "[[:space:]]$1[[:space:]]" "$2" | sed -n 's/.* cov: \([0-9]*\).*/\1/p'; }

say "Fuzzing for $seconds s each"
printf '%-11s %12s %9s %9s %9s %8s\n' target executions per_s covered more crashes
for target in "${targets[@]}"; do
  log=build/fuzz/$target.log
  mkdir -p "build/fuzz/found/$target"
  dictionary=tests/fuzz/dict/$target.dict
  crashed=0
  # shellcheck disable=SC2086  # LIMITS are several words
  "build/fuzz/tests/fuzz_$target" $LIMITS -max_total_time="$seconds" -print_final_stats=1 \
    -artifact_prefix="build/fuzz/crashes/$target-" \
    $([ ! -f "$dictionary" ] || echo "-dict=$dictionary") \
    "build/fuzz/found/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1 || crashed=1
  before=$(covered INITED "$log" || true)
  after=$(grep -E ' cov: [0-9]+' "$log" | tail -1 | sed -n 's/.* cov: \([0-9]*\).*/\1/p' || true)
  printf '%-11s %12s %9s %9s %9s %8s\n' "$target" "$(final number_of_executed_units "$log")" \
    "$(final average_exec_per_sec "$log")" "${before:--}" "$((${after:-0} - ${before:-0}))" $crashed
  if [ $crashed = 1 ]; then
    failed=1
    artifact=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
    grep -m1 -E 'FINDING|Check failed|SUMMARY|ERROR: libFuzzer' "$log" | sed 's/^/  /' || true
    echo "  again: build/fuzz/tests/fuzz_$target $LIMITS ${artifact:-# no input was kept; see $log}"
  fi
done
exit $failed
