#!/usr/bin/env bash
# Times opensora against the official Python on this machine's CPU: the same checkpoint, threads, prompt and seed.
#
# usage: scripts/bench_against_official.sh CHECKOUT [OPTIONS]
#
#   CHECKOUT           a checkout of hpcaitech/Open-Sora
#   --python FILE      a Python with the packages that scripts/bench_official.py names (default: python3)
#   --size NAME        mid: a transformer of 159 M parameters, small: of 9 M (default: mid)
#   --pixels WxH       size of the video (default: 336x192)
#   --frames N         its length (default: 17)
#   --steps N          denoising steps (default: 50)
#   --repetitions N    runs of each program, in turn; the median counts (default: 3)
#   --threads N        CPU threads of both (default: all cores)
#   --only LIST        some of t2v,i2v_head,decode (default: all)
#   --model-dir DIR    keep the checkpoint there, and use it if it is there (default: a temporary folder)
#
# Random weights are made first. Rows: seconds of each stage and of the whole, the highest memory of the process. Both
# in float32. The official total has no writing of the MP4 and no loading; ours has both. "decode" alone is another run
# of each program, which decodes a latent and loads nothing else.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python=python3 size=mid pixels=336x192 frames=17 steps=50 repetitions=3 threads=$(nproc) only=t2v,i2v_head,decode
checkout="" models=""
while (($# > 0)); do
  case $1 in
    -h | --help) usage && exit ;;
    --python | --size | --pixels | --frames | --steps | --repetitions | --threads | --only | --model-dir)
      (($# >= 2)) || die "$1: expected a value (see --help)"
      case $1 in
        --python) python=$2 ;;
        --size) size=$2 ;;
        --pixels) pixels=$2 ;;
        --frames) frames=$2 ;;
        --steps) steps=$2 ;;
        --repetitions) repetitions=$2 ;;
        --threads) threads=$2 ;;
        --only) only=$2 ;;
        --model-dir) models=$2 ;;
      esac
      shift
      ;;
    -*) die "unknown option: $1 (see --help)" ;;
    *) checkout=$1 ;;
  esac
  shift
done
[[ -d $checkout/opensora/models ]] || die "usage: scripts/bench_against_official.sh CHECKOUT, of hpcaitech/Open-Sora"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
models=${models:-$folder/models}

official() { OPENSORA_SRC=$checkout "$python" scripts/bench_official.py "$1" "$models" "${@:2}"; }

# The value of a number in a JSON object: number KEY JSON
number() { sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" <<<"$2"; }

# Each stage's figure goes into a file of one figure a run: note PROGRAM RUN STAGE FIGURE
note() { [[ -z $4 ]] || echo "$4" >>"$folder/$2.$3.$1"; }

median() { sort -g "$1" | awk '{ v[NR] = $1 } END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'; }

# Runs opensora, and prints its JSON: ours COMMAND ARGUMENTS...
ours() {
  build/opensora "$1" --model-dir "$models" --config "$models/bench.json" --device cpu --dtype fp32 \
    --threads "$threads" -q --progress none --json --overwrite -o "$folder/ours.mp4" "${@:2}"
}

time_run() {
  local cond=$1 json stage flags=() saved=()
  # The first run's results are compared. Writing them takes time that is in no stage of the official run.
  if ((i == 1)); then saved=(--save-tensors "$folder/ours.safetensors"); fi
  [[ $cond == t2v ]] || flags=(--image "$models/first_frame.png")
  json=$(ours generate -p "raining, sea" -s 42 -W "${pixels%x*}" -H "${pixels#*x}" --num-frames "$frames" \
    --steps "$steps" "${flags[@]}" "${saved[@]}")
  for stage in text encode denoise decode total; do note ours "$cond" "$stage" "$(number "$stage" "$json")"; done
  note ours "$cond" forwards "$(number forwards "$json")"
  note ours "$cond" memory "$(($(number peak_memory_bytes "$json") / 1048576))"
  saved=()
  if ((i == 1)); then saved=(--save "$folder/official.safetensors"); fi
  json=$(official run --cond "$cond" --steps "$steps" --threads "$threads" "${saved[@]}")
  for stage in text encode denoise decode total forwards; do
    note official "$cond" "$stage" "$(number "$stage" "$json")"
  done
  note official "$cond" memory "$(number peak_memory_mib "$json")"
  ((i > 1)) || echo "$cond: the videos differ by at most $(official compare --save "$folder/official.safetensors" \
    --with "$folder/ours.safetensors")"
}

time_decoding() {
  local json
  json=$(ours decode "$models/latent.safetensors" --num-frames "$frames")
  note ours decode decode "$(number decode "$json")"
  note ours decode memory "$(($(number peak_memory_bytes "$json") / 1048576))"
  json=$(official decode --threads "$threads")
  note official decode decode "$(number decode "$json")"
  note official decode memory "$(number peak_memory_mib "$json")"
}

print_row() {
  local run=$1 stage=$2 unit=$3 a b
  [[ -f $folder/$run.$stage.ours && -f $folder/$run.$stage.official ]] || return 0
  a=$(median "$folder/$run.$stage.ours") b=$(median "$folder/$run.$stage.official")
  awk -v run="$run" -v stage="$stage" -v unit="$unit" -v a="$a" -v b="$b" \
    'BEGIN { printf "%-9s %-16s %10.2f %10.2f %8.2f\n", run, stage unit, a, b, b / a }'
}

# Seconds a forward: the official code runs more of them.
print_per_forward() {
  local run=$1 program
  for program in ours official; do
    awk -v t="$(median "$folder/$run.denoise.$program")" -v n="$(median "$folder/$run.forwards.$program")" \
      'BEGIN { print t / n }' >"$folder/$run.forward.$program"
  done
  print_row "$run" forward " (s)"
}

build opensora-cli
if [[ ! -f $models/size.json ]]; then
  step "Making random weights in $models"
  quietly official make --size "$size" --pixels "$pixels" --frames "$frames"
fi
grep -q "\"width\": ${pixels%x*}, \"height\": ${pixels#*x}, \"frames\": $frames}" "$models/size.json" ||
  die "$models was made for another --pixels or --frames: $(cat "$models/size.json")"

for ((i = 1; i <= repetitions; ++i)); do
  step "Run $i of $repetitions: $only, $steps steps, $threads threads"
  for run in ${only//,/ }; do
    case $run in
      t2v | i2v_head) time_run "$run" ;;
      decode) time_decoding ;;
      *) die "--only: expected some of t2v,i2v_head,decode, found \"$run\"" ;;
    esac
  done
done

printf '\n%-9s %-16s %10s %10s %8s\n' run figure opensora official ratio
for run in ${only//,/ }; do
  for stage in text encode denoise decode total; do print_row "$run" "$stage" " (s)"; done
  [[ $run == decode ]] || print_per_forward "$run"
  print_row "$run" forwards ""
  print_row "$run" memory " (MiB)"
done
