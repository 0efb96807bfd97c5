#!/usr/bin/env bash
# Runs clang-tidy with the checks of .clang-tidy.
#
# usage: scripts/lint.sh [FILE.cpp...]
#
# Without files (named from the repository's root): all of src/, a few minutes on two cores, as each file that includes
# ATen takes some 10 seconds.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly kBuildDir=build-lint

case "${1-}" in
  -h | --help) usage && exit ;;
  -*) die "unknown option: $1 (see --help)" ;;
esac

scripts/setup.sh
# libomp-dev has the omp.h that clang finds; g++ brings its own.
install_packages clang clang-tidy libomp-dev

files=("$@")
if ((${#files[@]} == 0)); then
  mapfile -t files < <(find src -name '*.cpp' -not -path 'src/cuda/*' | sort)
fi

# A folder of its own, configured for clang, which cannot read g++'s precompiled header nor all of g++'s flags. Without
# a precompiled header, files that do not include ATen take a second instead of ten.
step "Running clang-tidy on ${#files[@]} files"
quietly cmake -S . -B "$kBuildDir" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++ \
  -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON -DOPENSORA_BUILD_TESTS=OFF -DCCACHE_PROGRAM=OFF
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p "$kBuildDir" --quiet \
  2> >(grep -v ' generated\.$' >&2)
