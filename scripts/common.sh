# shellcheck shell=bash
# What the scripts share; sourced, never run. It moves to the repository's root, so paths are relative to that.
set -euo pipefail
kScript=$(realpath "$0")
readonly kScript
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Prints one line that names the step that starts.
step() { echo "==> $*"; }

die() {
  echo "error: $*" >&2
  exit 1
}

# Prints the caller's own header comment, from its second line to the first line that is not a comment.
usage() { sed -n '2,${/^#/!q; s/^# \{0,1\}//p}' "$kScript"; }

# Runs a command and shows its output only if it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" </dev/null >"$log" 2>&1 || status=$?
  if ((status != 0)); then
    tail -n 40 "$log" >&2
    echo "error: exit status $status from: $*" >&2
  fi
  rm -f "$log"
  return "$status"
}

# Prints those of the named Debian packages that are not installed.
missing_packages() {
  local installed package
  installed=" $(dpkg-query -W -f='${db:Status-Status}=${Package} ' "$@" 2>/dev/null || true)"
  for package in "$@"; do
    [[ $installed == *" installed=$package "* ]] || echo "$package"
  done
}

# Installs the named Debian packages, unless all of them are there.
install_packages() {
  command -v apt-get >/dev/null || die "no apt-get here. Install these packages, or what your system calls them: $*"
  local missing
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} > 0)) || return 0

  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "neither root nor sudo. As root, run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  step "Installing Debian packages: ${missing[*]}"
  quietly "${as_root[@]}" apt-get -qq update
  quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq install --yes --no-install-recommends "${missing[@]}"
}

# Prints a Python that has pip: the caller's, else Debian's.
python_with_pip() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -m pip --version >/dev/null 2>&1; then
      echo "$python"
      return
    fi
  done
  return 1
}

# Prints the Debian packages that download_wheels and unpacking take.
packages_for_wheels() {
  printf '%s\n' ca-certificates unzip
  python_with_pip >/dev/null || printf '%s\n' python3 python3-pip
}

# Downloads the pinned wheels of a requirements file into a folder. The tags are the wheels' own, so that it does not
# matter which Python runs pip.
download_wheels() {
  local folder=$1 requirements=$2 python tag tags=()
  python=$(python_with_pip) || die "python3 -m pip does not work, though python3-pip is installed"
  for tag in manylinux_2_28 manylinux_2_27 manylinux_2_25 manylinux_2_18 manylinux2014; do
    tags+=(--platform "${tag}_x86_64")
  done
  # TMPDIR: pip's temporary copies take gigabytes, more than a /tmp in memory may have.
  quietly env TMPDIR="$PWD/$folder" "$python" -m pip download --no-deps --require-hashes --only-binary=:all: \
    --no-cache-dir --disable-pip-version-check --python-version 3.11 "${tags[@]}" -d "$folder" -r "$requirements"
}

# Configures build/ and builds the named targets there, or all. What ninja says is of use only on a terminal.
build() {
  local targets=() quiet=()
  (($# == 0)) || targets=(--target "$@")
  [[ -t 1 ]] || quiet=(-- --quiet)
  step "Building in build/ (three to ten minutes the first time)"
  quietly cmake --preset release
  cmake --build --preset release --parallel "$(nproc)" "${targets[@]}" "${quiet[@]}"
}
