#!/usr/bin/env bash
# Checks the engine and its kernels on a GPU: builds in build/gpu-check, compares with the CPU, times,
# prints one table and writes build/gpu-check/result.json. docs/gpu.md says what each line means.
#
#   bash deploy/gpu_check.sh                       needs g++, CMake, Ninja, nvcc and a CUDA PyTorch
#   bash deploy/gpu_check.sh --small               without the model of 7B size (13.5 GB of disk)
#   bash deploy/gpu_check.sh --json FILE           writes the result there
#   bash deploy/gpu_check.sh --pack FILE.tar.gz    on Debian 12: packs the sources and the libraries
#                                                  that a machine without them needs; unpack there,
#                                                  run this script in the folder
#
# PYTHON names the Python that has PyTorch (python3), QSWEEP_TORCH_DIR another libtorch to build with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian packages whose headers and libraries go into the archive.
packages="libabsl-dev libsimdjson-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libcli11-dev
  libpcre2-dev libicu-dev libssl-dev libgtest-dev libgmock-dev"
unused='/libabsl_.*\.a|/lib(icui18n|icuio|icutest|icutu|pcre2-16|pcre2-32|pcre2-posix|ssl)\.|/unicode/.*/|pkgconfig'
sources="CMakeLists.txt CMakePresets.json LICENSE NOTICE common worker deploy tests docs/gpu.md"
max_mib=50

usage() { sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
fail() { echo "gpu_check.sh: $*" >&2; exit 1; }

# Copies the files named on stdin to FOLDER as a prefix: a library as its package's CMake files want
# it, else static where there is one.
pack_libraries() {
  local folder=$1 arch=$2 file
  local plain=() headers=()
  while read -r file; do
    [[ -f $file && ! $file =~ $unused ]] || continue
    case $file in
      /usr/include/"$arch"/*) headers+=("${file#/usr/include/"$arch"/}") ;;
      /usr/include/* | /usr/share/cmake/* | /usr/lib/"$arch"/cmake/* | /usr/lib/"$arch"/*.a) plain+=("${file#/usr/}") ;;
      /usr/lib/"$arch"/*.so)
        [[ -e ${file%.so}.a && $file != *libabsl_* ]] || cp -a "$file"* "$folder/lib/$arch/" ;;
    esac
  done
  (cd /usr && cp -L --parents -t "$folder" "${plain[@]}")
  (cd "/usr/include/$arch" && cp -L --parents -t "$folder/include" "${headers[@]}")
}

pack() {
  local file=$1 arch top package size
  command -v dpkg >/dev/null || fail "--pack takes the libraries from Debian's packages: run it on Debian 12"
  arch=$(gcc -print-multiarch)
  top=$(mktemp -d)
  trap "rm -rf '$top'" EXIT
  local root=$top/qsweep-gpu-check
  mkdir -p "$root/packed/lib/$arch" "$root/packed/licenses"
  # shellcheck disable=SC2086  # a list of words
  git ls-files -co --exclude-standard $sources | grep -v '^tests/fuzz/' | xargs cp --parents -t "$root"
  git describe --always --dirty --abbrev=12 --exclude='*' >"$root/REVISION"
  for package in $packages; do
    dpkg -s "$package" >/dev/null 2>&1 || fail "install $package first"
    cp "/usr/share/doc/$package/copyright" "$root/packed/licenses/$package"
  done
  # shellcheck disable=SC2086  # a list of words
  dpkg -L $packages | pack_libraries "$root/packed" "$arch"
  mkdir -p "$(dirname "$file")"
  tar --create --auto-compress --file "$file" --directory "$top" --sort=name --owner=0 --group=0 \
    --numeric-owner qsweep-gpu-check
  size=$(stat -c %s "$file")
  echo "$file: $((size >> 20)) MiB, revision $(cat "$root/REVISION")"
  if [ "$size" -gt $((max_mib << 20)) ]; then
    rm "$file"
    fail "that is more than $max_mib MiB"
  fi
}

# The first Python that finds a PyTorch.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python build/venv/bin/python; do
    if "$candidate" -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("torch"))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python here finds PyTorch: set PYTHON to the one that does"
}

build() {
  local torch_dir=$1 folder=build/gpu-check
  local options=(-DCMAKE_BUILD_TYPE=Release -DQSWEEP_ENGINE_ONLY=ON -DQSWEEP_CUDA_PTX_ONLY=ON
    "-DQSWEEP_TORCH_DIR=$torch_dir")
  # g++ 13 no longer has <cstdint> in other headers; Abseil of 2022 counts on it.
  options+=("-DCMAKE_CXX_FLAGS=-include cstdint")
  # A g++ that links libstdc++ statically by itself would give the program a second one beside
  # PyTorch's, and its end frees what the other has allocated.
  local link_flags="-Wl,--push-state,--no-as-needed,-l:libstdc++.so.6,--pop-state"
  if [ -d packed ]; then
    # The packed libraries need each other, and a runpath counts for the program's own needs alone.
    link_flags+=" -Wl,--disable-new-dtags"
    options+=("-DCMAKE_PREFIX_PATH=$PWD/packed")
  fi
  options+=("-DCMAKE_EXE_LINKER_FLAGS=$link_flags")
  say "Configuring with the PyTorch in $torch_dir"
  mkdir -p "$folder"
  cmake -S . -B "$folder" -G Ninja "${options[@]}" >"$folder/configure.log" 2>&1 ||
    { tail -30 "$folder/configure.log"; return 1; }
  local targets="qbench_engine test_worker_engine_cuda_engine test_worker_engine_engine test_worker_engine_self_check
    test_worker_kernels_emulated_kernels test_worker_kernels_kernels_gpu"
  if grep -q '^QSWEEP_CUDART:[A-Z]*=.*[.]a$' "$folder/CMakeCache.txt"; then
    targets+=" qbench_kernels_gpu"
  else
    say "No nvcc: the kernels are not built"
  fi
  say "Building on $(nproc) cores"
  # shellcheck disable=SC2086  # a list of words
  ninja -C "$folder" -k 0 $targets >"$folder/build.log" 2>&1 ||
    { grep -E '^FAILED|error: |undefined reference|^ninja: ' "$folder/build.log" | cut -c1-300 | head -40; return 1; }
}

check() {
  local python torch_dir built=ok start
  python=$(find_python)
  torch_dir=${QSWEEP_TORCH_DIR:-$("$python" -c 'import importlib.util as u
print(u.find_spec("torch").submodule_search_locations[0])')}
  start=$SECONDS
  build "$torch_dir" || built=FAILED
  say "Built: $built"
  exec "$python" tests/bench/gpu_check.py --build build/gpu-check --built $built \
    --build-seconds $((SECONDS - start)) "$@"
}

case ${1:-} in
  -h | --help) usage ;;
  --pack) [ $# = 2 ] || { usage >&2; exit 2; }; pack "$2" ;;
  *) check "$@" ;;
esac
