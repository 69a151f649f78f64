#!/usr/bin/env bash
# The main job on real input: sets up, builds, sweeps SmolLM2-135M over the UDHR and prints which
# layers matter for which language. Leaves build/demo/report.html and no process.
#
#   bash deploy/demo.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly LANGUAGES=eng,fra,spa,deu_1996,swh  # swh: one the model has not learned
readonly UNITS=5                             # aligned articles, chosen by a seeded hash
readonly DEMO=build/demo

started=$SECONDS
source deploy/setup.sh

say "Building"
cmake --preset release -DQSWEEP_BUILD_TESTS=OFF -DQSWEEP_PCH=ON >build/configure-release.log 2>&1 || { tail -40 build/configure-release.log >&2; exit 1; }
cmake --build --preset release --target qctl qcoordinator qworker qengine -- --quiet
wait_for_data
export PATH=$PWD/build/release/bin:$PATH

# Prints a command as a user would type it, then runs it.
run() {
  printf '\n$ %s\n' "$*"
  "$@"
}

rm -rf $DEMO && mkdir -p $DEMO
export QCTL_DIR=$DEMO/cluster
trap 'qctl down --dir $QCTL_DIR >/dev/null 2>&1 || true' EXIT

run qctl up --dir $QCTL_DIR
run qctl corpora add udhr $UDHR_DIR --languages $LANGUAGES
swept=$SECONDS
run qctl submit layer-sweep --model $MODEL_DIR --corpus udhr --languages $LANGUAGES \
  --reference eng --quantizer rtn:bits=4,group=64 --eval aligned --samples $UNITS --name demo
run qctl watch demo
swept=$((SECONDS - swept))
run qctl results demo --by layer
run qctl plot heatmap demo --term
run qctl query "SELECT lang, COUNT(*) AS row_count, SUM(tokens) AS tokens FROM measurements_v1 GROUP BY lang"
run qctl export demo --format csv --to $DEMO/measurements.csv
printf '\n$ qctl results demo -o json >%s\n' $DEMO/results.json
qctl results demo -o json >$DEMO/results.json
run qctl report demo --unit article --out $DEMO/report.html
run qctl results demo --summary --unit article
run qctl down --dir $QCTL_DIR
trap - EXIT

say "The sweep took $swept s, everything $((SECONDS - started)) s. Open $DEMO/report.html"
echo "To go on from here: export PATH=\$PWD/build/release/bin:\$PATH QCTL_DIR=$QCTL_DIR; qctl up --dir \$QCTL_DIR"
