#!/usr/bin/env bash
# Formats the C++ code with clang-format as .clang-format says, or only checks that.
#
# usage: scripts/format.sh [--check]
#
#   --check   change nothing; print what is not formatted and exit with status 1 if anything is

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mode=(-i)
case "${1-}" in
  "") ;;
  --check) mode=(--dry-run --Werror) ;;
  -h | --help) usage && exit ;;
  *) die "unknown option: $1 (see --help)" ;;
esac

command -v clang-format >/dev/null || install_packages clang-format
find include src tests \( -name '*.cpp' -o -name '*.h' -o -name '*.cu' \) -print0 | xargs -0 clang-format "${mode[@]}"
