#!/usr/bin/env python3
"""Draws what `opensora bench --scaling --json` printed: time against work, as an SVG image.

usage: scripts/plot_scaling.py FILE [-o SVG]

  FILE     the JSON, or - for standard input
  -o SVG   where the image goes (default: standard output)

Both axes are logarithmic. Each pair of a stage and a quantity is a line of seconds against FLOPs, both relative to its
first point; the dashed line is a cost in proportion to the work.
"""
import argparse
import json
import math
import sys

WIDTH, HEIGHT, MARGIN = 640, 480, 60  # pixels
COLOURS = ("#1b6ca8", "#c0392b", "#27864a", "#8e5ea2")


def lines_of(points):
    """Name -> [(FLOPs, seconds), …], relative to the line's first point."""
    groups = {}
    for point in points:
        groups.setdefault(f"{point['stage']} by {point['quantity']}", []).append((point["flops"], point["seconds"]))
    return {name: [(flops / group[0][0], seconds / group[0][1]) for flops, seconds in group]
            for name, group in groups.items()}


def draw(lines):
    # Both axes from 1 to the same power of two.
    doublings = math.ceil(math.log2(max([2, *(value for line in lines.values() for point in line for value in point)])))

    def fraction(value):
        return math.log2(max(value, 1)) / doublings

    def x(value):
        return round(MARGIN + fraction(value) * (WIDTH - 2 * MARGIN), 1)

    def y(value):
        return round(HEIGHT - MARGIN - fraction(value) * (HEIGHT - 2 * MARGIN), 1)

    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="#fff"/>')
    for value in (2**i for i in range(doublings + 1)):
        yield (f'<path d="M{x(value)} {MARGIN}V{HEIGHT - MARGIN}M{MARGIN} {y(value)}H{WIDTH - MARGIN}" stroke="#ddd"/>\n'
               f'<text x="{x(value)}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{value}</text>\n'
               f'<text x="{MARGIN - 8}" y="{round(y(value) + 4, 1)}" text-anchor="end">{value}</text>')
    highest = 2**doublings
    yield (f'<text x="{WIDTH / 2}" y="{HEIGHT - 18}" text-anchor="middle">FLOPs, relative to the smallest</text>\n'
           f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">seconds, likewise</text>\n'
           f'<path d="M{x(1)} {y(1)}L{x(highest)} {y(highest)}" stroke="#999" stroke-dasharray="5 4"/>')
    for index, (name, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = "L".join(f"{x(flops)} {y(seconds)}" for flops, seconds in line)
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for flops, seconds in line:
            yield f'<circle cx="{x(flops)}" cy="{y(seconds)}" r="4" fill="{colour}"/>'
        yield f'<text x="{MARGIN + 12}" y="{MARGIN + 18 + 18 * index}" fill="{colour}">{name}</text>'
    yield "</svg>"


def main():
    if "-h" in sys.argv or "--help" in sys.argv:
        print(__doc__.strip())
        return
    parser = argparse.ArgumentParser(add_help=False, usage=__doc__.split("\n")[2].removeprefix("usage: "))
    parser.add_argument("file", type=argparse.FileType(encoding="utf-8"))
    parser.add_argument("-o", "--output", type=argparse.FileType("w", encoding="utf-8"), default=sys.stdout)
    options = parser.parse_args()
    options.output.write("\n".join(draw(lines_of(json.load(options.file)))) + "\n")


if __name__ == "__main__":
    main()
