#!/usr/bin/env bash
# Prints the seconds and the peak memory of each of the three autoencoders at the frame sizes of 256px and 768px video.
#
# usage: scripts/bench_autoencoders.sh [--model-dir DIR] [RECONSTRUCT OPTIONS...]
#
#   --model-dir DIR   folder with the official weights, run as the bundled configurations t2i2v_768px and
#                     high_compression say; without it, the tiny checkpoints of the tests
#   the others        go to opensora reconstruct: --device cuda, --dtype bf16, --threads 2, --no-vae-tiling, …
#
# 17 frames for the video autoencoders, one for FLUX's; tiles as configured. Each row is a process of its own, so its
# peak memory is that of the program as a whole: with the libraries, and the input and its reconstruction in memory.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

model_dir=tests/data/reference/ckpts
configs=("$model_dir/tiny_t2i2v.json" "$model_dir/tiny_high_compression.json")
options=()
while (($# > 0)); do
  case $1 in
    -h | --help) usage && exit ;;
    --model-dir)
      (($# >= 2)) || die "--model-dir: expected a folder (see --help)"
      model_dir=$2
      configs=(t2i2v_768px high_compression)
      shift
      ;;
    *) options+=("$1") ;;
  esac
  shift
done

build opensora-cli
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Writes the demo model's clip at a size: make_clip WIDTHxHEIGHT FRAMES FILE
make_clip() {
  quietly build/opensora generate --model-dir configs/demo --prompt "a red circle moving right on a blue background" \
    --seed 42 --num-frames "$2" --output-size "$1" --progress none -o "$3"
}

# Prints the value of a number in a JSON object: number KEY JSON
number() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" <<<"$2"; }

mebibytes() { echo "$(($1 / 1048576)) MiB"; }

# Prints a row of the table: bench NAME SIZE FRAMES INPUT OUTPUT OPTIONS...
bench() {
  local name=$1 size=$2 frames=$3 input=$4 output=$5 json device
  shift 5
  json=$(build/opensora reconstruct "$input" -o "$output" --overwrite --json -q --model-dir "$model_dir" "$@" \
    "${options[@]}")
  device=$(number peak_device_memory_bytes "$json")
  printf '%-12s  %-9s  %6d  %10.2f  %10.2f  %11s  %13s\n' "$name" "$size" "$frames" "$(number encode "$json")" \
    "$(number decode "$json")" "$(mebibytes "$(number peak_memory_bytes "$json")")" "$(mebibytes "$device")"
}

step "Weights: $model_dir"
printf '%-12s  %-9s  %6s  %10s  %10s  %11s  %13s\n' autoencoder size frames "encode (s)" "decode (s)" "peak memory" \
  "on the device"
for size in 336x192 1024x576; do
  make_clip "$size" 17 "$folder/$size.mp4"
  make_clip "$size" 1 "$folder/$size.png"
  bench HunyuanVAE "$size" 17 "$folder/$size.mp4" "$folder/out.mp4" --config "${configs[0]}"
  bench DC-AE "$size" 17 "$folder/$size.mp4" "$folder/out.mp4" --config "${configs[1]}"
  bench "FLUX's" "$size" 1 "$folder/$size.png" "$folder/out.png" --config "${configs[0]}" --autoencoder flux
done
