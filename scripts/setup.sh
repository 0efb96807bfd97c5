#!/usr/bin/env bash
# Installs what opensora is built from: Debian packages, and in third_party/site-packages LibTorch and the compiler of
# the CUDA plug-in (0.68 GB to download, 1.3 GB on disk).
#
# usage: scripts/setup.sh [--cuda]
#
#   --cuda   also get NVIDIA's libraries that a GPU needs (in all 2.5 GB to download, 3.9 GB on disk). This is the default
#            where there is an NVIDIA GPU, and once done it stays so.
#
# It needs a Debian or Ubuntu system on x86-64, and root or sudo. What is there already is not installed again.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly kBuildPackages=(g++ cmake ninja-build ccache pkg-config libsentencepiece-dev nlohmann-json3-dev
  libcli11-dev libspdlog-dev libavcodec-dev libavformat-dev libswscale-dev libavutil-dev libicu-dev libgtest-dev)
readonly kSitePackages=third_party/site-packages
readonly kStaging=$kSitePackages.new
readonly kStamp=$kSitePackages/.stamp

has_nvidia_gpu() {
  [[ -n $(ls /proc/driver/nvidia/gpus 2>/dev/null) ]] || nvidia-smi -L >/dev/null 2>&1
}

# What the stamp of a complete tree says: "cpu HASH" or "cuda HASH", HASH of the requirements that it was made from.
stamp() {
  echo "$1 $(cat third_party/requirements-cpu.txt "third_party/requirements-$1.txt" | sha256sum | cut -d ' ' -f 1)"
}

# Unpacks headers, shared libraries, the compiler and licences, without Python's and static libraries, and of the wheel
# that is there for cuDNN's headers only what the plug-in is linked to; deletes each wheel after it.
# -DD: files are as new as their unpacking, so that a new version of LibTorch makes ninja build everything again.
unpack_wheels() {
  local wheel status
  for wheel in "$kStaging"/*.whl; do
    status=0
    unzip -q -DD "$wheel" 'torch/lib/*' 'torch/include/*' 'nvidia/*' 'include/*' '*.dist-info/*' \
      -x '*/libtorch_python.so' '*.a' '*.py' 'nvidia/cudnn_jit/lib/libcudnn_*' -d "$kStaging" 2>/dev/null || status=$?
    # 11: one of the patterns matched nothing, as no wheel has torch/, nvidia/ and include/.
    ((status == 0 || status == 11)) || die "unzip failed on ${wheel##*/} (exit status $status): is the disk full?"
    rm "$wheel"
  done
}

# Makes the tree beside its place and moves it in only when it is complete.
install_site_packages() {
  local flavour=$1 size="0.68 GB"
  [[ $flavour == cpu ]] || size="2.5 GB"
  trap 'rm -rf "$kStaging"' EXIT
  rm -rf "$kStaging"
  mkdir -p "$kStaging"
  step "Downloading LibTorch for $flavour ($size)"
  download_wheels "$kStaging" "third_party/requirements-$flavour.txt"
  step "Unpacking LibTorch into $kSitePackages"
  unpack_wheels
  stamp "$flavour" >"$kStaging/.stamp"
  rm -rf "$kSitePackages"
  mv "$kStaging" "$kSitePackages"
}

main() {
  local flavour=cpu
  case "${1-}" in
    "") ;;
    --cuda) flavour=cuda ;;
    -h | --help) usage && exit ;;
    *) die "unknown option: $1 (see --help)" ;;
  esac
  [[ $(uname -sm) == "Linux x86_64" ]] || die "this is $(uname -sm): LibTorch is pinned for Linux on x86-64 only"
  if [[ -f $kStamp && $(<"$kStamp") == cuda* ]] || has_nvidia_gpu; then
    flavour=cuda
  fi

  local packages=("${kBuildPackages[@]}") outdated=false
  if [[ ! -f $kStamp || $(<"$kStamp") != "$(stamp "$flavour")" ]]; then
    outdated=true
    mapfile -t -O "${#packages[@]}" packages < <(packages_for_wheels)
  fi
  install_packages "${packages[@]}"
  if $outdated; then
    install_site_packages "$flavour"
  fi
}

main "$@"
