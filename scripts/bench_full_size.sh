#!/usr/bin/env bash
# Runs the 11.9-billion-parameter model, with random weights, in a few GiB of memory: what the plan says, what it takes.
#
# usage: scripts/bench_full_size.sh [--folder DIR] [--max-memory SIZE] [--frames "1 17"] [--offload "model block"]
#                                   [--weights TYPE] [--keep] [GENERATE OPTIONS...]
#
#   --folder DIR        where the random model goes (default: ./full-size); 25 GB, 13 in 8 bits, removed at the end
#   --weights TYPE      of the transformer's file: bf16, int8 or fp8 (default: bf16)
#   --keep              leave it there; one that is there is used again
#   --max-memory SIZE   for both plan and run (default: 4GiB)
#   --frames LIST       lengths to run (default: "1 17")
#   --offload LIST      ways to run them (default: "model block")
#   the others          go to opensora: --threads 2, --dtype bf16, …
#
# One step at 256px each, without guidance: one forward of the transformer, and the decoding. Text encoders are not
# run: random embeddings stand for theirs. The weights decide nothing about time or memory. The transformer's file is
# read anew for each run; read/MiB is what the run had the system read from the drive.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

folder=full-size limit=4GiB lengths="1 17" ways="model block" keep=false weights=bf16
options=()
while (($# > 0)); do
  case $1 in
    -h | --help) usage && exit ;;
    --keep) keep=true ;;
    --folder | --max-memory | --frames | --offload | --weights)
      (($# >= 2)) || die "$1: expected a value (see --help)"
      case $1 in
        --folder) folder=$2 ;;
        --max-memory) limit=$2 ;;
        --frames) lengths=$2 ;;
        --offload) ways=$2 ;;
        --weights) weights=$2 ;;
      esac
      shift
      ;;
    *) options+=("$1") ;;
  esac
  shift
done

build opensora-cli
scratch=$(mktemp -d)
cleanup() {
  rm -rf "$scratch"
  $keep || rm -rf "$folder"
}
if [[ -e $folder/Open_Sora_v2.safetensors ]]; then
  keep=true # not ours to remove
else
  [[ ! -e $folder ]] || die "$folder: is there, but holds no model"
fi
trap cleanup EXIT

if [[ ! -e $folder/Open_Sora_v2.safetensors ]]; then
  mkdir -p "$folder"
  free=$(df --output=avail -B1 "$folder" | tail -n 1)
  needed=26
  [[ $weights == bf16 ]] || needed=14
  ((free > needed * 1000000000)) || die "$folder: $needed GB are needed, $((free / 1000000000)) GB are free"
  step "Writing the random model to $folder"
  time quietly build/opensora random-model "$folder" --config 256px --prompt sea --dtype "$weights"
fi

# Prints the last value of a number in a JSON object: number KEY JSON
number() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" <<<"$2"; }
mebibytes() { echo "$(($1 / 1048576))"; }

# Prints the highest anonymous memory, in KiB, of a process until it ends, and the bytes that were read for it.
watch_process() {
  local highest=0 now read=0 count
  while now=$(awk '/^RssAnon/ { print $2 }' "/proc/$1/status" 2>/dev/null) && [[ -n $now ]]; do
    ((now <= highest)) || highest=$now
    count=$(awk '/^read_bytes/ { print $2 }' "/proc/$1/io" 2>/dev/null) && [[ -n $count ]] && read=$count
    sleep 0.02
  done
  echo "$highest $read"
}

# Has the system forget what it holds of a file.
forget() { dd if="$1" iflag=nocache count=0 status=none; }

# Prints a row of the table: measure FRAMES OFFLOAD
measure() {
  local frames=$1 offload=$2 flags plan json pid
  flags=(--prompt sea --model-dir "$folder" --config 256px --text-embeddings "$folder/embeddings" --steps 1 --seed 1
    --guidance 1 --num-frames "$frames" --device cpu --max-memory "$limit" --offload "$offload" -q --json --overwrite)
  if ((frames == 1)); then flags+=(-o "$scratch/out.png"); else flags+=(-o "$scratch/out.mp4"); fi
  plan=$(build/opensora plan "${flags[@]}" "${options[@]}" | sed 's/"stages":.*}\],"peak_memory/"peak_memory/')
  forget "$folder/Open_Sora_v2.safetensors"
  build/opensora generate "${flags[@]}" "${options[@]}" --progress none >"$scratch/json" &
  pid=$!
  local highest read status=0
  read -r highest read < <(watch_process "$pid")
  wait "$pid" || status=$?
  if ((status != 0)); then
    printf '%6d  %-7s  %11s  %11s  ended with exit status %d\n' "$frames" "$offload" \
      "$(mebibytes "$(number anonymous_bytes "$plan")")" "$((highest / 1024))" "$status"
    return
  fi
  json=$(<"$scratch/json")
  printf '%6d  %-7s  %11s  %11s  %11s  %8s  %9.2f  %8.2f\n' "$frames" "$offload" \
    "$(mebibytes "$(number anonymous_bytes "$plan")")" "$((highest / 1024))" \
    "$(mebibytes "$(number peak_memory_bytes "$json")")" "$(mebibytes "$read")" "$(number denoise "$json")" "$(number decode "$json")"
}

step "One step at 256px, weights in $weights, --max-memory $limit"
printf '%6s  %-7s  %11s  %11s  %11s  %8s  %9s  %8s\n' frames offload planned/MiB anon/MiB peak/MiB read/MiB step/s \
  decode/s
for frames in $lengths; do
  for offload in $ways; do measure "$frames" "$offload"; done
done
