#!/usr/bin/env bash
# Prints what a batch costs beyond its videos, and whether its memory grows with their number.
#
# usage: scripts/bench_batch.sh [--videos N] [GENERATE OPTIONS...]
#
#   --videos N   how many (default 200; about 1.5 seconds each with the demo model on two cores)
#   the others   go to opensora generate: --num-frames 17, --steps 10, --overlap on, --model-dir ./ckpts, …
#
# The overhead is the run's whole time, from start to exit, over the sum of its videos' stages (text, denoise, decode,
# write), as its events tell them. Peak memory is that of the process by the time the n-th video is done.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

videos=200
options=()
while (($# > 0)); do
  case $1 in
    -h | --help) usage && exit ;;
    --videos)
      [[ ${2-} =~ ^[1-9][0-9]*$ ]] || die "--videos: expected a number (see --help)"
      videos=$2
      shift
      ;;
    *) options+=("$1") ;;
  esac
  shift
done

build opensora-cli
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

colours=(red green blue yellow purple orange)
shapes=(circle square triangle)
ways=(left right up down)
for ((i = 0; i < videos; ++i)); do
  echo "a ${colours[i % 6]} ${shapes[i / 6 % 3]} moving ${ways[i / 18 % 4]} on a white background"
done >"$folder/prompts.txt"

step "$videos videos"
start=$(date +%s.%N)
build/opensora generate --prompts-file "$folder/prompts.txt" --output-dir "$folder/videos" --seed 1 --progress none -q \
  --events "$folder/events" --name-template "{index}" "${options[@]}" >/dev/null
end=$(date +%s.%N)

# Sums the seconds of each finished video; notes the peak memory at some of them.
awk -v start="$start" -v end="$end" -v videos="$videos" '
  /"event":"video_done"/ {
    match($0, /"total":[0-9.e+-]+/)
    stages += substr($0, RSTART + 8, RLENGTH - 8)
    match($0, /"peak_memory_bytes":[0-9]+/)
    peak[++done] = substr($0, RSTART + 20, RLENGTH - 20) / 1048576
  }
  END {
    if (done != videos) { printf "error: %d of %d videos were made\n", done, videos > "/dev/stderr"; exit 1 }
    printf "whole run %.2f s, videos %.2f s, overhead %.2f %%\n", end - start, stages, 100 * ((end - start) / stages - 1)
    printf "%-8s  %s\n", "videos", "peak memory"
    for (n = 1; n < videos; n *= 2) printf "%-8d  %.0f MiB\n", n, peak[n]
    printf "%-8d  %.0f MiB\n", videos, peak[videos]
  }' "$folder/events"
