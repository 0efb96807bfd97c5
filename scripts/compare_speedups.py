#!/usr/bin/env python3
"""Measures on the demo model what each way to run fewer forwards costs: prints a table of the error's median and worst,
and draws a plot.

usage: scripts/compare_speedups.py [--mode MODE] [--videos N] [--only WORD] [--results FILE] [-o SVG]

  --mode MODE     text (default): text to video; image: image to video, from first frames of the former's videos;
                  solvers: text to video without oscillation, against 1000 of Euler's steps
  --videos N      how many, of up to 6 prompts with 2 seeds each (default 12)
  --only WORD     measure only what has this word in its name, such as pairs
  --results FILE  JSON in which the figures are kept; what is there is not measured again
  -o SVG          where the plot of all figures goes: error against forwards, as an SVG image (default: none)

The error is the relative L2 error of the final latent against the exact run: 50 of Euler's steps with all forwards, at
guidance 7.5, 64x64, 33 frames. `fewer steps` is the control: what a flag makes must lie below it. It wants a built
program; OPENSORA names another one than build/opensora.
"""
import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("OPENSORA", str(ROOT / "build/opensora"))
WIDTH, HEIGHT, MARGIN = 720, 480, 64  # pixels
COLOURS = ("#777777", "#c0392b", "#1b6ca8", "#27864a", "#8e5ea2", "#d68910", "#16a085")

PROMPTS = ("a red circle moving right on a blue background", "a green triangle moving left on a white background",
           "a yellow square moving up on a black background", "a blue circle moving down on a white background",
           "a purple square moving left on a gray background", "an orange triangle growing on a black background")
SEEDS = (42, 7)

OSCILLATION = ["--text-osci", "--image-osci", "--temporal-osci"]
COMMON = ["--model-dir", str(ROOT / "configs/demo"), "--guidance", "7.5", "--guidance-img", "3", "--device", "cpu",
          "--dtype", "fp32", "--output-size", "none"]


def steps(*counts):
    return [(f"{count} steps", ["--steps", str(count)]) for count in counts]


def sampler(word, *counts):
    return [(f"{word}, {count} steps", ["--sampler", word, "--steps", str(count)]) for count in counts]


def cache(*values):
    return [(f"--cache {value}", ["--cache", value]) for value in values]


def speed(*values):
    return [(f"--speed {value}", ["--speed", value]) for value in values]


# Family -> [(what, flags), …], from which a line of the plot and rows of the table are made.
POLICIES = {
    "text": {
        "fewer steps": steps(40, 32, 25, 20, 16),
        "pairs": cache("pairs:0.02", "pairs:0.03", "pairs", "pairs:0.06", "pairs:0.08"),
        "speed": speed("2", "2.4", "3"),
        "dpm++2m": sampler("dpm++2m", 50, 32, 20),
        "unipc": sampler("unipc", 50, 32, 20),
        "heun": sampler("heun", 20),
    },
    "image": {
        "fewer steps": steps(32, 25, 20, 16),
        "pairs": cache("pairs:0.03", "pairs", "pairs:0.06", "pairs:0.08"),
        "speed": speed("2", "2.4", "3"),
    },
    "solvers": {
        "euler": sampler("euler", 50, 32, 25, 16),
        "dpm++2m": sampler("dpm++2m", 50, 32, 25, 16),
        "unipc": sampler("unipc", 50, 32, 25, 16),
        "heun": sampler("heun", 25, 16, 13),
    },
}


def run_program(*arguments):
    done = subprocess.run([PROGRAM, *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, arguments))}\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def write_rows(folder, count, images=None):
    rows = [(prompt, seed) for prompt in PROMPTS for seed in SEEDS][:count]
    file = folder / ("images.csv" if images else "prompts.csv")
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", "seed"] + (["image"] if images else []))
        for index, row in enumerate(rows):
            writer.writerow([*row] + ([images[index]] if images else []))
    return file


class Runs:
    """The videos that flags make of the rows, in folders of their own."""

    def __init__(self, folder, rows, flags):
        self.folder, self.rows, self.flags, self.count = folder, rows, flags, 0

    def make(self, flags):
        """What the program says of each video, in the order of the rows."""
        self.count += 1
        output = self.folder / f"{self.rows.stem}-{self.count}"
        lines = run_program("generate", "--prompts-file", str(self.rows), "--output-dir", str(output), "--steps", "50",
                            "--keep-latents", "--json", "--progress", "none", "-q", "--name-template", "{index}",
                            *COMMON, *self.flags, *flags)
        return sorted(lines, key=lambda line: line["output"])


def first_frames(folder, count):
    """Of exact videos, as pictures that are conditions."""
    return [line["output"] for line in Runs(folder, write_rows(folder, count), OSCILLATION).make([])]


def error_of(exact, latent):
    return run_program("compare", exact, latent, "--json")[0]["relative_error"]


def measure(runs, exact, flags):
    lines = runs.make(flags)
    errors = [error_of(a, line["latent"]) for a, line in zip(exact, lines)]
    return {"forwards": statistics.mean(line["forwards"] for line in lines), "median": statistics.median(errors),
            "worst": max(errors)}


def measure_missing(options, figures):
    """Adds to `figures`, {what: {forwards, median, worst}}, and yields after each."""
    missing = [(what, flags) for family, policies in POLICIES[options.mode].items() for what, flags in policies
               if what not in figures and options.only in f"{family}: {what}"]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as temporary:
        runs, exact, forwards = runs_of(options.mode, Path(temporary), options.videos)
        figures["exact"] = {"forwards": forwards, "median": 0, "worst": 0}
        for what, flags in missing:
            figures[what] = measure(runs, exact, flags)
            print(what, figures[what], file=sys.stderr, flush=True)
            yield


def draw(lines):
    """`lines`: name -> [(forwards, error), …]. The errors' axis is logarithmic."""
    points = [point for line in lines.values() for point in line]
    right = 10 * math.ceil(max(x for x, _ in points) / 10)
    low = math.floor(math.log10(min(y for _, y in points)))
    high = math.ceil(math.log10(max(y for _, y in points)))

    def x(forwards):
        return round(MARGIN + forwards / right * (WIDTH - 2 * MARGIN), 1)

    def y(error):
        return round(HEIGHT - MARGIN - (math.log10(error) - low) / (high - low) * (HEIGHT - 2 * MARGIN), 1)

    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="#fff"/>')
    for value in range(0, right + 1, 10):
        yield (f'<path d="M{x(value)} {MARGIN}V{HEIGHT - MARGIN}" stroke="#ddd"/>\n'
               f'<text x="{x(value)}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{value}</text>')
    for value in (digit * 10.0**power for power in range(low, high) for digit in (1, 2, 5)):
        yield (f'<path d="M{MARGIN} {y(value)}H{WIDTH - MARGIN}" stroke="#ddd"/>\n'
               f'<text x="{MARGIN - 8}" y="{round(y(value) + 4, 1)}" text-anchor="end">{value:g}</text>')
    yield (f'<text x="{WIDTH / 2}" y="{HEIGHT - 18}" text-anchor="middle">forwards of the transformer</text>\n'
           f'<text transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
           'relative error of the latent, median</text>')
    for index, (name, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        line = sorted(line)
        path = "L".join(f"{x(forwards)} {y(error)}" for forwards, error in line)
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for forwards, error in line:
            yield f'<circle cx="{x(forwards)}" cy="{y(error)}" r="4" fill="{colour}"/>'
        yield f'<text x="{WIDTH - MARGIN - 94}" y="{MARGIN + 18 + 18 * index}" fill="{colour}">{name}</text>'
    yield "</svg>"


def parse_arguments():
    if "-h" in sys.argv or "--help" in sys.argv:
        print(__doc__.strip())
        sys.exit()
    parser = argparse.ArgumentParser(add_help=False, usage=__doc__.split("\n")[3].removeprefix("usage: "))
    parser.add_argument("--mode", choices=list(POLICIES), default="text")
    parser.add_argument("--videos", type=int, choices=range(1, len(PROMPTS) * len(SEEDS) + 1), default=12,
                        metavar="N")
    parser.add_argument("--only", default="")
    parser.add_argument("--results", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    return parser.parse_args()


def runs_of(mode, folder, videos):
    """What makes videos in this mode, and the latents that are exact."""
    images = first_frames(folder, videos) if mode == "image" else None
    flags = ["--no-text-osci"] if mode == "solvers" else OSCILLATION
    runs = Runs(folder, write_rows(folder, videos, images), flags)
    lines = runs.make(["--steps", "1000"] if mode == "solvers" else [])
    return runs, [line["latent"] for line in lines], statistics.mean(line["forwards"] for line in lines)


def table(results, modes):
    """A row for each way, and columns for each of these modes."""
    yield "|" + "".join(f" | {mode}: forwards | error" for mode in modes) + " |"
    yield "| --- |" + " --- | --- |" * len(modes)
    ways = dict.fromkeys(what for mode in modes for policies in POLICIES[mode].values() for what, _ in policies)
    for what in ["exact", *ways]:
        figures = [results[mode].get(what) for mode in modes]
        cells = [f"{f['forwards']:.1f}".removesuffix(".0") + " | {median:.2g}, {worst:.2g}".format(**f) if f else "| "
                 for f in figures]
        if any(figures):
            yield f"| {what} | " + " | ".join(cells) + " |"


def main():
    options = parse_arguments()
    kept = options.results is not None and options.results.exists()
    results = json.loads(options.results.read_text(encoding="utf-8")) if kept else {}
    figures = results.setdefault(options.mode, {})
    for _ in measure_missing(options, figures):
        if options.results:
            options.results.write_text(json.dumps(results, indent=1), encoding="utf-8")
    modes = ["solvers"] if options.mode == "solvers" else [mode for mode in ("text", "image") if results.get(mode)]
    print("\n".join(table(results, modes)))
    if options.output:
        lines = {family: [(figures[what]["forwards"], figures[what]["median"]) for what, _ in policies if what in figures]
                 for family, policies in POLICIES[options.mode].items()}
        drawn = {family: line for family, line in lines.items() if line}
        options.output.write_text("\n".join(draw(drawn)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
