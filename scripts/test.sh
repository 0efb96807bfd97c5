#!/usr/bin/env bash
# Sets up, builds in build/ and runs the tests.
#
# usage: scripts/test.sh [CTEST OPTIONS...]      for example: scripts/test.sh -R Rope

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case "${1-}" in
  -h | --help) usage && exit ;;
esac

scripts/setup.sh
# For the test that reads events as a Python script does, against their JSON schema.
install_packages python3-jsonschema
build all
step "Running the tests"
# One test a core, each with one thread: with more, LibTorch's threads would fight for the cores. nproc counts what
# OMP_NUM_THREADS says.
cores=$(nproc)
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
ctest --preset release --output-on-failure --no-tests=error --parallel "$cores" "$@"
