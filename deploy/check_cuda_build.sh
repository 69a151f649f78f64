#!/usr/bin/env bash
# Builds qengine and its tests against a PyTorch with CUDA, links and starts them: what can be seen of the
# device path on a machine without a GPU.
#
#   bash deploy/check_cuda_build.sh           PyTorch 2.11.0
#   bash deploy/check_cuda_build.sh 2.15.0    another version
#
# Downloads about 2.5 GB into build/cuda-torch/VERSION, which then holds 5 GB; a second run finds
# them there. Needs nvcc and what deploy/setup.sh installs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac
version=${1:-2.11.0}
venv=$PWD/build/cuda-torch/$version
folder=build/cuda-build
needed_gib=9  # the wheels, what they unpack to, and the build

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
fail() { echo "check_cuda_build.sh: $*" >&2; exit 1; }

torch_dir() { "$venv/bin/python" -c 'import importlib.util as u
print(u.find_spec("torch").submodule_search_locations[0])'; }

fetch() {
  local free
  mkdir -p "$venv"
  free=$(df --output=avail -BG "$venv" | tail -1 | tr -dc 0-9)
  [ "$free" -ge $needed_gib ] || fail "build/cuda-torch needs $needed_gib GiB of disk, $free are free"
  say "Fetching PyTorch $version with CUDA"
  python3 -m venv "$venv"
  TMPDIR=$venv "$venv/bin/pip" install --quiet --no-cache-dir "torch==$version"
}

[ -x "$venv/bin/python" ] && torch_dir >/dev/null 2>&1 || fetch
dir=$(torch_dir)
[ -e "$dir/lib/libtorch_cuda.so" ] || fail "PyTorch $version in $dir is one without CUDA"
say "PyTorch $("$venv/bin/python" -c 'import torch; print(torch.__version__, "CUDA", torch.version.cuda)')"
mkdir -p "$folder"
cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DQSWEEP_BUILD_TESTS=ON -DQSWEEP_CUDA=ON \
  -DQSWEEP_CCACHE=ON -DQSWEEP_WERROR=ON "-DQSWEEP_TORCH_DIR=$dir" >"$folder/configure.log" 2>&1 ||
  { tail -30 "$folder/configure.log" >&2; exit 1; }
say "Building the engine"
ninja -C "$folder" qengine test_worker_engine_cuda_engine test_worker_engine_engine \
  test_worker_kernels_kernels_gpu >"$folder/build.log" 2>&1 ||
  { grep -E '^FAILED|error: |undefined reference|^ninja: ' "$folder/build.log" | cut -c1-300 | head -40 >&2; exit 1; }
say "Starting it"
"$folder/tests/test_worker_engine_engine" >"$folder/test.log" 2>&1 ||
  { tail -30 "$folder/test.log" >&2; fail "the engine's tests failed"; }
grep -h 'PASSED' "$folder/test.log"
said=$("$folder/bin/qengine" selftest --device cuda 2>&1) && status=0 || status=$?
echo "$said"
if [ "$status" = 0 ] || ! grep -q QS5014 <<<"$said"; then
  command -v nvidia-smi >/dev/null && fail "this machine may have a GPU: use deploy/gpu_check.sh"
  fail "qengine did not say that there is no CUDA device"
fi
say "Built, linked and started with PyTorch $version; no CUDA device here"
