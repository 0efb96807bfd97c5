#!/usr/bin/env bash
# Runs clang-tidy with the checks of .clang-tidy.
#
# usage: scripts/lint.sh [--all | FILE.cpp...]
#
#   --all   all of src/: some minutes on two cores
#
# Without arguments: what differs from the branch that is followed (else from the last commit), and what includes it.
# Files are named from the repository's root.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly kBuildDir=build-lint
readonly kRequirements=third_party/requirements-lint.txt
readonly kWheel=third_party/clang-tidy

all_files() { find src -name '*.cpp' | sort; }

# The sources of src/ that differ, and those that include a header that differs.
changed_files() {
  local base file header
  base=$(git merge-base HEAD '@{upstream}' 2>/dev/null || git rev-parse HEAD)
  {
    git diff --name-only --diff-filter=d "$base" -- 'src/*.cpp'
    git ls-files --others --exclude-standard -- 'src/*.cpp'
    for file in $(git diff --name-only "$base" -- 'src/*.h' 'include/*.h'); do
      header=${file#src/}
      all_files | xargs grep -lF "#include \"${header#include/}\"" || true
    done
  } | sort -u
}

install_clang_tidy() {
  local stamp
  stamp=$(sha256sum <"$kRequirements")
  [[ ! -f $kWheel/.stamp || $(<"$kWheel/.stamp") != "$stamp" ]] || return 0
  local packages
  mapfile -t packages < <(packages_for_wheels)
  install_packages "${packages[@]}"
  step "Downloading clang-tidy (45 MB)"
  rm -rf "$kWheel"
  mkdir -p "$kWheel"
  download_wheels "$kWheel" "$kRequirements"
  quietly unzip -q "$kWheel"/*.whl 'clang_tidy/data/*' -d "$kWheel"
  rm "$kWheel"/*.whl
  chmod +x "$kWheel/clang_tidy/data/bin/clang-tidy"
  echo "$stamp" >"$kWheel/.stamp"
}

case "${1-}" in
  -h | --help) usage && exit ;;
  --all) mapfile -t files < <(all_files) ;;
  -*) die "unknown option: $1 (see --help)" ;;
  "") mapfile -t files < <(changed_files) ;;
  *) files=("$@") ;;
esac
if ((${#files[@]} == 0)); then
  step "Nothing has changed in src/"
  exit
fi

scripts/setup.sh
install_clang_tidy

# A folder of its own, without the precompiled header, which is of g++'s own kind; files that do not include ATen take a
# second instead of five.
step "Running clang-tidy on ${#files[@]} files"
quietly cmake -S . -B "$kBuildDir" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON \
  -DOPENSORA_BUILD_TESTS=OFF -DCCACHE_PROGRAM=OFF
mkdir -p "$kBuildDir/openmp"
cp "$(g++ -print-file-name=include/omp.h)" "$kBuildDir/openmp/"
options=(-p "$kBuildDir" --quiet --extra-arg="-isystem$PWD/$kBuildDir/openmp")
# g++'s own flags, and what its library does within itself.
options+=(--extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-deprecated-declarations)
printf '%s\0' "${files[@]}" |
  xargs -0 -n 1 -P "$(nproc)" "$kWheel/clang_tidy/data/bin/clang-tidy" "${options[@]}" \
    2> >(grep -v ' generated\.$' >&2)
