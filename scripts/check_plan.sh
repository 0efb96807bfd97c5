#!/usr/bin/env bash
# Compares the peak memory and the seconds that `opensora plan` predicts with those of the run, on the CPU.
#
# usage: scripts/check_plan.sh [GENERATE OPTIONS...]
#
# The demo model at three sizes, then the larger autoencoder of the tests' tiny checkpoints at three more, where
# activations outweigh all else; one step each, as every step needs the same. The options go to both, such as
# --dtype bf16 or --threads 2. Ratios within 0.85 to 1.15 are what the plan promises.
#
# Then seconds, of sampling and decoding, with random weights of the configuration "bench" (written for it, 440 MB) at
# five sizes of some seconds each: smaller models are mostly calls. Ratios within 0.75 to 1.25 are what the plan
# promises on a machine that does nothing else; of three plans the middle one counts, as each tries the CPU for a second.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in
  -h | --help) usage && exit ;;
esac
extra=("$@")

build opensora-cli
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Prints the last value of a number in a JSON object: number KEY JSON
number() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" <<<"$2"; }

# Prints a row of the table: compare NAME SIZE FRAMES OPTIONS...
compare() {
  local name=$1 size=$2 frames=$3 predicted measured flags
  shift 3
  flags=(--prompt "a red circle" --seed 1 --steps 1 -W "${size%x*}" -H "${size#*x}" --num-frames "$frames" -q --json
    --progress none -o "$folder/out.mp4" --overwrite --device cpu "$@" "${extra[@]}")
  predicted=$(number peak_memory_bytes "$(build/opensora plan "${flags[@]}" | sed 's/"stages":.*}\],"peak_memory/"peak_memory/')")
  measured=$(number peak_memory_bytes "$(build/opensora generate "${flags[@]}")")
  printf '%-5s  %-9s  %6d  %13d  %12d  %5s\n' "$name" "$size" "$frames" "$((predicted / 1048576))" \
    "$((measured / 1048576))" "$(awk "BEGIN { printf \"%.3f\", $predicted / $measured }")"
}

# What is wrong with the options is said before a minute has gone.
build/opensora plan --model-dir configs/demo --prompt sea -q "${extra[@]}" >/dev/null

printf '%-5s  %-9s  %6s  %13s  %12s  %5s\n' model size frames predicted/MiB measured/MiB ratio
for size in 64x64 128x128 192x192; do
  compare demo "$size" 33 --model-dir configs/demo
done
tiny=(--model-dir tests/data/reference/ckpts --config tests/data/reference/ckpts/tiny.json --no-vae-tiling)
compare tiny 336x192 9 "${tiny[@]}"
compare tiny 640x352 5 "${tiny[@]}"
compare tiny 1024x576 5 "${tiny[@]}"

# Prints the seconds that a plan gives a stage, with a model: planned_seconds STAGE JSON
planned_seconds() { sed "s/.*\"stage\":\"$1\"[^}]*[,{]\"seconds\":\([0-9.e+-]*\).*/\1/" <<<"$2"; }
# Prints the middle of what three plans give it: middle_seconds STAGE JSON JSON JSON
middle_seconds() {
  local stage=$1 plan
  shift
  for plan in "$@"; do planned_seconds "$stage" "$plan"; done | sort -g | sed -n 2p
}
# Prints the seconds that a run took for a stage: measured_seconds STAGE JSON
measured_seconds() { sed "s/.*\"seconds\":{[^}]*\"$1\":\([0-9.e+-]*\).*/\1/" <<<"$2"; }

# Prints a row of the table: compare_seconds SIZE FRAMES
compare_seconds() {
  local size=$1 frames=$2 flags plans=() result
  flags=(--prompt sea --model-dir "$folder/model" --text-embeddings "$folder/model/embeddings" --config bench --seed 1
    --steps 2 -W "${size%x*}" -H "${size#*x}" --num-frames "$frames" -q --json --progress none --overwrite --device cpu
    -o "$folder/out.mkv" "${extra[@]}")
  for _ in 1 2 3; do plans+=("$(build/opensora plan "${flags[@]}")"); done
  result=$(build/opensora generate "${flags[@]}")
  awk -v size="$size" -v frames="$frames" \
    -v planned_step="$(middle_seconds denoise "${plans[@]}")" -v step="$(measured_seconds denoise "$result")" \
    -v planned_decode="$(middle_seconds decode "${plans[@]}")" -v decode="$(measured_seconds decode "$result")" 'BEGIN {
      planned = planned_step + planned_decode
      measured = step + decode
      printf "%-9s  %6d  %8.2f /%7.2f  %8.2f /%7.2f  %5.2f\n", size, frames, planned_step, step, planned_decode, decode,
        planned / measured
    }'
}

build/opensora random-model "$folder/model" --config bench --prompt sea >/dev/null
sync # or the first rows would share the machine with the writing of it
printf '\n%-9s  %6s  %-17s  %-17s  %5s\n' size frames "sampling, planned" "decoding, planned" ratio
compare_seconds 192x192 5
compare_seconds 192x192 17
compare_seconds 336x192 9
compare_seconds 336x192 17
compare_seconds 448x256 9
