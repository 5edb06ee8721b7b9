#!/usr/bin/env bash
# Installs everything the project builds, runs and tests with: the single list of dependencies.
#
#   deploy/install_deps.sh            everything (needs root for the Debian packages)
#   deploy/install_deps.sh build      what compiling the server and the client needs, with the unit tests
#   deploy/install_deps.sh train      LibTorch, for train/ and the tests that use it as their oracle
#   deploy/install_deps.sh test       the Python environment of the integration tests
#   deploy/install_deps.sh cuda       nvcc 13 and cuBLASLt, for the CUDA plugin; not part of everything
#
# Several groups may be named. Debian packages come from Debian 12, wheels from PyPI at the versions pinned here.
# Wheels are unpacked under $ADAMOE_DEPS_DIR (default ~/.cache/adamoe). A second run finds everything in place.
set -euo pipefail

DEPS_DIR="${ADAMOE_DEPS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/adamoe}"

BUILD_PACKAGES=(
  g++ make cmake ninja-build ccache pkg-config git ca-certificates curl python3 python3-pip python3-venv
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev prometheus-cpp-dev
  nlohmann-json3-dev libspdlog-dev libonig-dev libutf8proc-dev zlib1g-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
TEST_PACKAGES=(clang-format)

# Only the .proto files of this wheel are used: Debian ships no google/rpc/*.proto.
PROTO_WHEELS=(googleapis-common-protos==1.76.0)
# libtorch_cpu.so needs the two CUDA libraries to load, also where no GPU is.
TORCH_WHEELS=(torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
CUDA_WHEELS=(
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85
  nvidia-cuda-runtime==13.0.96 nvidia-cublas==13.1.0.3
)
PYTHON=/usr/bin/python3

say() { printf '\033[1m[deps]\033[0m %s\n' "$*"; }

install_debian() {  # name of the group, packages...
  local group=$1; shift
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then say "Debian packages ($group): all there"; return; fi
  [ "$(id -u)" = 0 ] || { say "need root to install: ${missing[*]}" >&2; exit 1; }
  say "Debian packages ($group): installing ${missing[*]}"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# Unpacks wheels into a folder of their own; the folder's stamp names what is in it.
unpack_wheels() {  # folder, wheels...
  local folder="$DEPS_DIR/$1"; shift
  if [ "$(cat "$folder/.installed" 2>/dev/null)" = "$*" ]; then say "$folder: all there"; return; fi
  say "$folder: unpacking $*"
  rm -rf "$folder"; mkdir -p "$folder"
  "$PYTHON" -m pip install -q --disable-pip-version-check --no-deps --no-compile --target "$folder" "$@"
  echo "$*" > "$folder/.installed"
}

python_environment() {  # folder of the environment, requirements file
  local folder="$DEPS_DIR/$1" requirements=$2
  if cmp -s "$requirements" "$folder/.installed"; then say "$folder: all there"; return; fi
  say "$folder: Python environment from $(basename "$requirements")"
  rm -rf "$folder"
  "$PYTHON" -m venv "$folder"
  "$folder/bin/pip" install -q --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$folder/.installed"
}

# A toolkit on PATH is taken as it is, else one is made of wheels.
install_cuda() {
  local bin
  if command -v nvcc > /dev/null && nvcc --version | grep -q 'release 13\.'; then
    bin=$(nvcc --dryrun -x cu /dev/null 2>&1 | sed -n 's/^#\$ _HERE_=//p')
    if ls "$bin"/../lib*/libcublasLt.so.13 > /dev/null 2>&1; then say "CUDA: $bin/nvcc"; return; fi
  fi
  unpack_wheels cuda "${CUDA_WHEELS[@]}"
}

here=$(cd "$(dirname "$0")" && pwd)
groups=("$@"); [ ${#groups[@]} -gt 0 ] || groups=(build train test)
mkdir -p "$DEPS_DIR"
for group in "${groups[@]}"; do
  case "$group" in
    build) install_debian build "${BUILD_PACKAGES[@]}"
           unpack_wheels protos "${PROTO_WHEELS[@]}" ;;
    train) install_debian build "${BUILD_PACKAGES[@]}"
           unpack_wheels libtorch "${TORCH_WHEELS[@]}" ;;
    test)  install_debian test "${TEST_PACKAGES[@]}"
           python_environment python "$here/../tests/requirements.txt" ;;
    cuda)  install_debian build "${BUILD_PACKAGES[@]}"
           install_cuda ;;
    *) say "unknown group '$group' (build, train, test, cuda)" >&2; exit 2 ;;
  esac
done
say "done"
