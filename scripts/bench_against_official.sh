#!/usr/bin/env bash
# Times opensora against the official Python on this machine's CPU: the same checkpoint, threads, prompt and seed. With
# --device cuda on one GPU: the published checkpoints, and the official run reproduced (generate --match official).
#
# usage: scripts/bench_against_official.sh CHECKOUT [OPTIONS]
#        scripts/bench_against_official.sh CHECKOUT --device cuda --model-dir ckpts [OPTIONS]
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
#   --speed X          run opensora once more with --speed X, and say what of its own exact denoising that takes
#   --model-dir DIR    keep the checkpoint there, and use it if it is there (default: a temporary folder)
#
# Random weights are made first. Rows: seconds of each stage and of the whole, the highest memory of the process. Both
# in float32. The official total has no writing of the MP4 and no loading; ours has both. "decode" alone is another run
# of each program, which decodes a latent and loads nothing else.
#
# With --device cuda, or with --configs, of the above only --python (of the environment that the official README sets
# up), --pixels, --frames, --steps (default: the configuration's) and --model-dir (the published checkpoints) count, and
#
#   --device NAME      cuda, or cpu: with the packages above, and best with tiny models (default: cpu)
#   --configs LIST     configurations, each a name that both programs know or a JSON file (default: 256px,768px)
#   --prompt TEXT      what to show (default: "raining, sea")
#   --seed N           of the noise (default: 42)
#   --rng NAME         opensora's; selftest says which is the GPU's own (default: cuda, an H100's)
#   --dry-run          print what would be run
#
# Both in bfloat16, one run of each. Rows: seconds of each stage, the highest memory allocated on the GPU (on the CPU:
# of the process), and the PSNR of our video against the official one, and of its noise: infinite or nearly so where
# --rng is right, some 3 dB where it is not. The totals are as above.

# shellcheck source=scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python=python3 size=mid pixels="" frames="" steps="" repetitions=3 threads=$(nproc) only=t2v,i2v_head,decode
speed="" checkout="" models="" device=cpu configs="" prompt="raining, sea" seed=42 rng=cuda dry_run=false
while (($# > 0)); do
  case $1 in
    -h | --help) usage && exit ;;
    --dry-run) dry_run=true ;;
    --python | --size | --pixels | --frames | --steps | --repetitions | --threads | --only | --speed | --model-dir | \
      --device | --configs | --prompt | --seed | --rng)
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
        --speed) speed=$2 ;;
        --model-dir) models=$2 ;;
        --device) device=$2 ;;
        --configs) configs=$2 ;;
        --prompt) prompt=$2 ;;
        --seed) seed=$2 ;;
        --rng) rng=$2 ;;
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

# The value of a number in a JSON object: number KEY JSON
number() { sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" <<<"$2"; }

# --- the published checkpoints, as they are -------------------------------------------------------------------------

# Runs a command, or prints it.
perform() {
  if [[ $dry_run == true ]]; then
    printf '%q ' "$@" >&2
    echo >&2
  else
    "$@"
  fi
}

# Prints the official run's JSON. One process, which is what the official README starts on one GPU.
run_official() {
  local config=$1 start=("$python") options=(--model-dir "$models" --prompt "$prompt" --seed "$seed" --device "$device")
  [[ $device != cuda ]] || start=("$python" -m torch.distributed.run --standalone --nproc_per_node 1)
  [[ $config == *.json ]] || config=$checkout/configs/diffusion/inference/$config.py
  [[ -z $steps ]] || options+=(--steps "$steps")
  [[ -z $frames ]] || options+=(--frames "$frames")
  [[ -z $pixels ]] || options+=(--size "$pixels")
  perform env OPENSORA_SRC="$checkout" "${start[@]}" scripts/official_run.py run "$config" "${options[@]}" \
    --save "$folder/official.safetensors"
}

# Prints ours.
run_ours() {
  local config=$1 options=()
  [[ -z $steps ]] || options+=(--steps "$steps")
  [[ -z $frames ]] || options+=(--num-frames "$frames")
  [[ -z $pixels ]] || options+=(-W "${pixels%x*}" -H "${pixels#*x}")
  perform build/opensora generate --model-dir "$models" --config "$config" --device "$device" --match official \
    --rng "$rng" -p "$prompt" -s "$seed" "${options[@]}" -q --progress none --json --overwrite -o "$folder/ours.mp4" \
    --save-tensors "$folder/ours.safetensors"
}

print_figure() {
  awk -v name="$1" -v a="${2:-0}" -v b="${3:-0}" \
    'BEGIN { printf "%-16s %10.2f %10.2f %8s\n", name, a, b, (a > 0) ? sprintf("%.2f", b / a) : "" }'
}

# The memory of ours is the device's, or on the CPU the process'.
bench_published() {
  local config=$1 ours official stage key=peak_memory_bytes psnr
  step "$config: opensora, then the official code"
  ours=$(run_ours "$config")
  run_official "$config" >"$folder/official.txt"
  [[ $dry_run == false ]] || return 0
  official=$(grep '^{' "$folder/official.txt" | tail -n 1) || die "no figures from the official run"
  [[ $device == cpu ]] || key=peak_device_memory_bytes
  printf '\n%-16s %10s %10s %8s\n' "$(basename "$config" .json)" opensora official ratio
  for stage in text denoise decode total; do
    print_figure "$stage (s)" "$(number "$stage" "$ours")" "$(number "$stage" "$official")"
  done
  print_figure "memory (MiB)" "$(($(number "$key" "$ours") / 1048576))" \
    "$(($(number peak_memory_bytes "$official") / 1048576))"
  psnr=$("$python" scripts/official_run.py compare "$folder/official.safetensors" "$folder/ours.safetensors")
  echo "PSNR of the video ${psnr% *} dB, of its noise ${psnr#* } dB"
}

if [[ $device != cpu || -n $configs ]]; then
  [[ $device == cpu || $device == cuda ]] || die "--device: expected cpu or cuda, found \"$device\""
  [[ -d $models ]] || die "--model-dir: expected the folder of the published checkpoints, found \"$models\""
  configs=${configs:-256px,768px}
  [[ $dry_run == true ]] || build opensora-cli
  for config in ${configs//,/ }; do bench_published "$config"; done
  exit
fi

# --- random weights, on the CPU -------------------------------------------------------------------------------------

models=${models:-$folder/models} pixels=${pixels:-336x192} frames=${frames:-17} steps=${steps:-50}

official() { OPENSORA_SRC=$checkout "$python" scripts/bench_official.py "$1" "$models" "${@:2}"; }

# Each stage's figure goes into a file of one figure a run: note PROGRAM RUN STAGE FIGURE
note() { [[ -z $4 ]] || echo "$4" >>"$folder/$2.$3.$1"; }

median() { sort -g "$1" | awk '{ v[NR] = $1 } END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'; }

# Runs opensora, and prints its JSON: ours COMMAND ARGUMENTS...
ours() {
  build/opensora "$1" --model-dir "$models" --config "$models/bench.json" --device cpu --dtype fp32 \
    --threads "$threads" -q --progress none --json --overwrite -o "$folder/ours.mp4" "${@:2}"
}

make_video() {
  ours generate -p "raining, sea" -s 42 -W "${pixels%x*}" -H "${pixels#*x}" --num-frames "$frames" --steps "$steps" "$@"
}

time_run() {
  local cond=$1 json stage flags=() saved=()
  # The first run's results are compared. Writing them takes time that is in no stage of the official run.
  if ((i == 1)); then saved=(--save-tensors "$folder/ours.safetensors"); fi
  [[ $cond == t2v ]] || flags=(--image "$models/first_frame.png")
  json=$(make_video "${flags[@]}" "${saved[@]}")
  for stage in text encode denoise decode total; do note ours "$cond" "$stage" "$(number "$stage" "$json")"; done
  note ours "$cond" forwards "$(number forwards "$json")"
  note ours "$cond" memory "$(($(number peak_memory_bytes "$json") / 1048576))"
  if [[ -n $speed ]]; then
    json=$(make_video "${flags[@]}" --speed "$speed")
    for stage in denoise forwards; do note cached "$cond" "$stage" "$(number "$stage" "$json")"; done
  fi
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

print_cached() {
  [[ -f $folder/$1.denoise.cached ]] || return 0
  awk -v run="$1" -v speed="$speed" -v a="$(median "$folder/$1.denoise.ours")" \
    -v b="$(median "$folder/$1.denoise.cached")" -v n="$(median "$folder/$1.forwards.cached")" \
    'BEGIN { printf "%-9s denoise with --speed %s: %.2f s, %.2f of the exact, in %d forwards\n", run, speed, b, b / a, n }'
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
  print_cached "$run"
done
