#!/usr/bin/env python3
"""Runs every example of the README and of all help texts as a person types it: on a terminal and in a pipe.

usage: examples.py PROGRAM [README]

The commands run in a folder that looks like a checkout: build/opensora, configs/, scripts/, tests/. Two such folders
stand for the two kinds of user: one has no weights, so the demo model serves; the other has ckpts/. Their
configurations have the names of the published ones and the sizes of the tests' tiny checkpoints, with few steps, so that
no command has to be changed to be quick. Exit status 77 (skipped) where there are no pseudo-terminals.
"""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/data/reference/ckpts"

# Examples that are not run here, and why. One that is no longer in the README is an error.
NOT_RUN = {
    "scripts/quickstart.sh": "sets up the machine and builds",
    "scripts/test.sh": "runs this test",
    "scripts/setup.sh": "sets up the machine",
    "cmake --preset": "builds",
    "cmake --build": "builds",
    "ctest --preset": "runs this test",
    "cmake --install": "installs",
}
# What ends with another exit status than 0, as it should.
EXPECTED = {"selftest --device cuda": {0, 5}}  # 5: no GPU

# Of a bundled configuration's name, the tiny checkpoint that stands for it.
CONFIGS = {"256px": "tiny", "768px": "tiny", "720p": "tiny", "bench": "tiny", "t2i2v_256px": "tiny_t2i2v",
           "t2i2v_768px": "tiny_t2i2v", "high_compression": "tiny_high_compression"}


def code_blocks(text, language):
    """The lines of each fenced block of a language, with their numbers from 1."""
    block = None
    for number, line in enumerate(text.splitlines(), 1):
        if block is None:
            if line.strip() == "```" + language:
                block = []
        elif line.strip() == "```":
            yield block
            block = None
        else:
            block.append((number, line))


def without_comment(command):
    return re.sub(r"\s+# .*", "", command).strip()


def readme_examples(readme):
    """(place, command) of the README's shell blocks and of its table of conditions."""
    text = readme.read_text()
    for block in code_blocks(text, "sh"):
        for number, line in block:
            if line.strip() and not line.lstrip().startswith("#"):
                yield f"README.md:{number}", without_comment(line)
    for number, line in enumerate(text.splitlines(), 1):
        for command in re.findall(r"\| `(generate -p [^`]*)` \|", line):
            yield f"README.md:{number}", "opensora " + command


def help_examples(program):
    """(place, command) of the examples below the help of the program and of each of its commands."""
    def help_of(*command):
        return subprocess.run([program, *command, "--help"], check=True, capture_output=True, text=True).stdout

    top = help_of()
    commands = re.findall(r"^  ([a-z][a-z0-9-]+)  +\S", top, re.MULTILINE)
    assert len(commands) > 8, top
    for command in [[], *([name] for name in commands)]:
        _, found, examples = help_of(*command).partition("Example")
        assert found, f"the help of {command} has no example"
        for line in examples.splitlines():
            if line.startswith("  opensora "):
                yield " ".join(["opensora", *command, "--help"]), line.strip()


def tiny_config(name):
    config = json.loads((TINY / f"{name}.json").read_text())
    frames = 32 if name == "tiny_high_compression" else 33
    config["sampling_option"].update(height=32, width=32, resolution=None, aspect_ratio=None, num_steps=2,
                                     num_frames=frames)
    return json.dumps(config)


def make_checkout(folder, program, with_weights):
    """A folder as somebody has it who has built opensora, with or without the weights."""
    for part in ("build", "configs", "bin", "home"):
        (folder / part).mkdir(parents=True)
    try:
        os.link(program, folder / "build/opensora")
    except OSError:
        shutil.copy2(program, folder / "build/opensora")
    (folder / "bin/opensora").symlink_to("../build/opensora")
    for name in ("scripts", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for name, tiny in CONFIGS.items():
        (folder / f"configs/{name}.json").write_text(tiny_config(tiny))
    shutil.copytree(ROOT / "configs/demo", folder / "configs/demo", copy_function=os.symlink)
    demo = json.loads((folder / "configs/demo/config.json").read_text())
    demo["sampling_option"].update(num_steps=2, height=32, width=32)
    demo.pop("output_size", None)
    (folder / "configs/demo/config.json").unlink()
    (folder / "configs/demo/config.json").write_text(json.dumps(demo))
    if with_weights:
        (folder / "ckpts").symlink_to(TINY)
    # Slurm's launcher and a pager, which not every machine has.
    (folder / "bin/srun").write_text('#!/bin/sh\nSLURM_ARRAY_TASK_ID=1 exec "$@"\n')
    (folder / "bin/man").write_text("#!/bin/sh\nexec cat\n")
    for stub in ("srun", "man"):
        (folder / "bin" / stub).chmod(0o755)


def environment(folder):
    kept = {name: value for name, value in os.environ.items() if name not in ("OPENSORA_MODEL_DIR", "XDG_CACHE_HOME")}
    return {**kept, "PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": f"{folder}/home", "TERM": "xterm",
            "OMP_NUM_THREADS": "1", "SLURM_ARRAY_TASK_ID": "1"}


def run_in_pipe(command, folder):
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.decode(errors="replace")


def run_on_terminal(command, folder):
    """The same on a pseudo-terminal: stdin, stdout and stderr are one."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execvpe("bash", ["bash", "-c", command], environment(folder))
    output = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not part:
            break
        output += part
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), output.decode(errors="replace")


def prepare_files(folder, readme, has_weights):
    """What the examples name and no earlier example has made."""
    for block in code_blocks(readme.read_text(), "csv"):
        (folder / "prompts.csv").write_text("\n".join(line for _, line in block) + "\n")
    make = "build/opensora generate -q -p 'a red circle moving right on a blue background' -s 1 --device cpu "
    commands = [make + "--num-frames 1 -o ship.png", "cp ship.png start.png", "cp ship.png end.png",
                "cp ship.png picture.png", make + "-o clip.mp4", "cp clip.mp4 ship.mp4",
                make + "--num-frames 5 --output-dir exact --keep-latents --name-template exact --save-frames frames-a",
                "mv exact/exact.mp4 exact/exact.latent.safetensors .", "cp exact.mp4 fast.mp4",
                "cp exact.latent.safetensors fast.latent.safetensors", "cp -r frames-a frames-b"]
    if has_weights:
        commands += ["cp ckpts/hunyuan_vae.safetensors ae.safetensors",
                     "cp ckpts/google/t5-v1_1-xxl/*-00001-of-*.safetensors t5xxl_fp16.safetensors"]
    else:
        commands += [make + "--num-frames 65 -o long.mp4",
                     make + "--num-frames 5 --output-dir latents --keep-latents --name-template sea",
                     "mv latents/sea.latent.safetensors ."]
    for command in commands:
        status, output = run_in_pipe(command, folder)
        assert status == 0, f"preparing failed ({status}): {command}\n{output}"


def needs_weights(command):
    published = re.search(r"--config (256px|768px|720p|t2i2v_256px|t2i2v_768px|high_compression)", command)
    return bool(re.search(r"\bckpts\b|\bt5xxl_|\bae\.safetensors|--model-dir full", command) or published)


def is_not_run(command):
    return any(command.startswith(start) for start in NOT_RUN)


def distinct(examples):
    """Each command once, at its first place."""
    places = {}
    for place, command in examples:
        places.setdefault(command, place)
    return [(place, command) for command, place in places.items()]


def remove_output(command, folder):
    """An example may name a file that an earlier one has made: whoever types it has not run that one."""
    for name in re.findall(r" (?:-o|--output) (\S+)", command):
        (folder / name).unlink(missing_ok=True)


def check(place, command, status, output, on_terminal):
    """What is wrong with an example's run, or nothing."""
    allowed = next((statuses for part, statuses in EXPECTED.items() if part in command), {0})
    if status not in allowed:
        return f"{place}: exit status {status} from: {command}\n{output[-2000:]}"
    if not on_terminal and ("\r" in output or "\033[" in output):
        return f"{place}: draws on what is no terminal: {command}\n{output[-500:]!r}"
    return None


def main():
    program = Path(sys.argv[1]).resolve()
    readme = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "README.md"
    try:
        os.close(os.openpty()[0])
    except OSError:
        print("there are no pseudo-terminals here")
        return 77
    examples = distinct([*readme_examples(readme), *help_examples(program)])
    stale = [start for start in NOT_RUN if not any(command.startswith(start) for _, command in examples)]
    assert not stale, f"no longer in the README: {stale}"
    problems, runs = [], 0
    with tempfile.TemporaryDirectory(prefix="opensora-examples-") as scratch:
        checkouts = {False: Path(scratch) / "demo", True: Path(scratch) / "weights"}
        for with_weights, checkout in checkouts.items():
            make_checkout(checkout, program, with_weights)
            prepare_files(checkout, readme, with_weights)
        for on_terminal in (False, True):
            run = run_on_terminal if on_terminal else run_in_pipe
            for with_weights in (False, True):
                folder = Path(scratch) / f"{'terminal' if on_terminal else 'pipe'}-{'weights' if with_weights else 'demo'}"
                shutil.copytree(checkouts[with_weights], folder, symlinks=True)
                for place, command in examples:
                    if is_not_run(command) or needs_weights(command) != with_weights:
                        continue
                    remove_output(command, folder)
                    status, output = run(command, folder)
                    runs += 1
                    problem = check(place, command, status, output, on_terminal)
                    if problem:
                        problems.append(f"[{'terminal' if on_terminal else 'pipe'}] {problem}")
    print("\n\n".join(problems))
    print(f"examples.py: {runs} runs of {len(examples)} examples, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
