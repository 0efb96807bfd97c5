#!/usr/bin/env bash
# From a fresh clone to a first video: sets up, builds, and runs the bundled demo model.
#
# usage: scripts/quickstart.sh [PROMPT]
#
# The video is written to samples/quickstart.mp4. The demo model knows simple shapes that move over plain backgrounds.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case "${1-}" in
  -h | --help) usage && exit ;;
  -*) die "unknown option: $1 (see --help)" ;;
esac
(($# <= 1)) || die "expected one prompt, in quotes (see --help)"

readonly kPrompt=${1:-a red circle moving right on a blue background}
readonly kVideo=samples/quickstart.mp4

scripts/setup.sh
build opensora-cli
mkdir -p samples
step "Making a video of: $kPrompt"
# Its output is only the name of the file, which the last line says more plainly.
build/opensora generate --model-dir configs/demo --prompt "$kPrompt" --seed 42 \
  -o "$kVideo" --overwrite >/dev/null
step "Your video: $PWD/$kVideo"
