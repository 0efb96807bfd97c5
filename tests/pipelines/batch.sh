#!/usr/bin/env bash
# Drives opensora as a shell script in a pipeline does, on nothing but what the README documents: exit codes, lines on
# stdout, files, events.
#
# usage: tests/pipelines/batch.sh PROGRAM
set -euo pipefail

program=${1:?usage: batch.sh PROGRAM}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMP_NUM_THREADS=1
unset OPENSORA_MODEL_DIR

die() {
  echo "batch.sh: $*" >&2
  exit 1
}

# Runs opensora and checks its exit code; its stdout is in out, its stderr in err: opensora EXPECTED ARGUMENTS...
opensora() {
  local expected=$1 code=0
  shift
  "$program" "$@" >out 2>err || code=$?
  ((code == expected)) || die "exit code $code, expected $expected, from: opensora $* ($(tail -n 3 err))"
}

# The value of a key in a line of JSON: number or string: value KEY LINE
value() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" <<<"$2"; }

cat >prompts.csv <<'CSV'
text,name,seed,num_frames,steps
"a red circle, moving right",circle,1,5,2
a blue square,square,2,5,2
a green triangle,triangle,3,5,2
CSV

# A plan before the run: it fits, and nothing is written.
opensora 0 generate --prompts-file prompts.csv --output-dir videos --device cpu --dry-run --json
(($(grep -c '"fits":true' out) == 3)) || die "the plan does not have three rows that fit: $(cat out)"
[[ ! -e videos ]] || die "a dry run has made its folder"

# The files' names, one a line, are all that is on stdout.
opensora 0 generate --prompts-file prompts.csv --output-dir videos --device cpu -q
[[ $(sort out) == $'videos/circle.mp4\nvideos/square.mp4\nvideos/triangle.mp4' ]] || die "stdout is: $(cat out)"
while read -r file; do
  [[ -s $file ]] || die "$file is not there"
done <out

# A run that is over is not begun again by mistake, and resuming makes nothing twice.
opensora 7 generate --prompts-file prompts.csv --output-dir videos --device cpu
opensora 0 generate --prompts-file prompts.csv --output-dir videos --device cpu --resume --json
(($(grep -c '"state":"skipped"' out) == 3)) || die "not all were skipped: $(cat out)"

# A wrong file: all errors with their lines, and nothing is made.
printf 'text,steps,fps\nx,many,24\ny,1,0\n' >wrong.csv
opensora 2 generate --prompts-file wrong.csv --output-dir wrong --device cpu
grep -q 'wrong.csv:2: ' err && grep -q 'wrong.csv:3: ' err || die "not all errors: $(cat err)"
[[ ! -e wrong ]] || die "a run of a wrong file has made its folder"

# A row that fails: the others are done, 3 says so, and once its cause is gone, resuming makes the rest.
echo "not a picture" >start.png
printf 'text,ref,name,seed,num_frames,steps\nx,start.png,a,1,5,1\ny,,b,2,5,1\n' >some.csv
opensora 3 generate --prompts-file some.csv --output-dir some --device cpu --json
failure=$(grep '"state":"failed"' out)
[[ $(value code "$failure") == 9 ]] || die "code of the failure: $failure"
[[ -s some/b.mp4 && ! -e some/a.mp4 ]] || die "some/ has $(ls some)"
opensora 0 generate -p "a red circle" --num-frames 1 --steps 1 -s 1 --device cpu -o start.png --overwrite
opensora 0 generate --prompts-file some.csv --output-dir some --device cpu --resume
[[ -s some/a.mp4 ]] || die "resuming did not make some/a.mp4"

# SIGTERM, as a scheduler sends it: 143, a journal that can be resumed, no half-written file.
"$program" generate -p "a red circle" -s 1 --num-frames 5 --steps 300 --output-dir stopped --device cpu --events events \
  >/dev/null 2>err &
pid=$!
until grep -qs '"event":"step"' events || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
kill -TERM "$pid"
code=0
wait "$pid" || code=$?
((code == 143)) || die "exit code $code after SIGTERM: $(cat err)"
[[ $(ls -A stopped) == run.jsonl ]] || die "stopped/ has $(ls -A stopped)"
[[ $(value exit_code "$(tail -n 1 stopped/run.jsonl)") == 143 ]] || die "the journal ends with $(tail -n 1 stopped/run.jsonl)"
opensora 0 generate -p "a red circle" -s 1 --num-frames 5 --steps 300 --output-dir stopped --device cpu --resume

# Shards side by side, as a job array runs them, make what one run makes. Events go to a descriptor.
for shard in 1/2 2/2; do
  "$program" generate --prompts-file prompts.csv --output-dir shards --device cpu --shard "$shard" -q \
    --events fd:3 3>"events-${shard%/*}" >/dev/null &
done
wait
for file in circle square triangle; do
  cmp "videos/$file.mp4" "shards/$file.mp4" || die "a shard made another $file.mp4"
done
[[ $(cat events-1 events-2 | grep -c '"event":"video_done"') == 3 ]] || die "events of the shards: $(cat events-1 events-2)"

# A video says what it is, and is made again from itself.
opensora 0 inspect videos/circle.mp4 --json
[[ $(value frames "$(cat out)") == 5 ]] || die "inspect says $(cat out)"
opensora 0 generate --from videos/circle.mp4 -o again.mp4 --device cpu
cmp videos/circle.mp4 again.mp4 || die "--from made another video"

echo "batch.sh: all as documented"
