#!/usr/bin/env python3
"""Sums up what `opensora … --trace FILE` wrote: where the time of a run went.

usage: scripts/trace_summary.py FILE [--under NAME] [--top N]

  --under NAME   only what ran within spans of that name: denoise, decode, "step 3", ResnetBlock, … (default: all)
  --top N        rows (default: 20)

Each row is a span or an operator of LibTorch, numbers left out of its name ("step 3" counts as step): how often it ran,
the seconds until it ended, the seconds that nothing within it accounts for (rows are ordered by these, and their shares
add up to 100 %).
"""
import argparse
import collections
import json
import signal
import sys


class Row:
    def __init__(self):
        self.count, self.total, self.own = 0, 0.0, 0.0


def summarise(events, under):
    rows = collections.defaultdict(Row)
    threads = collections.defaultdict(list)
    for event in events:
        threads[event["tid"]].append(event)
    for spans in threads.values():
        spans.sort(key=lambda e: (e["ts"], -e["dur"]))
        stack = []  # spans that the next one may be within: end, row or None, whether it is under `under`
        for event in spans:
            end = event["ts"] + event["dur"]
            while stack and stack[-1][0] < end - 1e-3:
                stack.pop()
            name = event["name"].rstrip("0123456789 ")
            counts = under is None or under in (event["name"], name) or bool(stack and stack[-1][2])
            row = rows[name] if counts else None
            if row is not None:
                row.count += 1
                row.total += event["dur"] / 1e6
                row.own += event["dur"] / 1e6
                if stack and stack[-1][1] is not None:
                    stack[-1][1].own -= event["dur"] / 1e6
            stack.append((end, row, counts))
    return rows


def main():
    if "-h" in sys.argv or "--help" in sys.argv:
        print(__doc__.strip())
        return
    parser = argparse.ArgumentParser(add_help=False, usage=__doc__.split("\n")[2].removeprefix("usage: "))
    parser.add_argument("file")
    parser.add_argument("--under")
    parser.add_argument("--top", type=int, default=20)
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as file:
        rows = summarise(json.load(file)["traceEvents"], options.under)
    whole = sum(row.own for row in rows.values())
    if whole <= 0:
        sys.exit(f"error: {options.file}: nothing ran" + (f" under {options.under}" if options.under else ""))
    print(f"{'':44} {'count':>8} {'total/s':>10} {'own/s':>10} {'share':>7}")
    for name, row in sorted(rows.items(), key=lambda item: -item[1].own)[: options.top]:
        print(f"{name:44} {row.count:8} {row.total:10.3f} {row.own:10.3f} {100 * row.own / whole:5.1f} %")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that goes away (head) is no error
    main()
