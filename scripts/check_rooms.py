#!/usr/bin/env python3
"""Holds src/README.md against the code: its table of rooms against the includes, its names against what is there.

usage: scripts/check_rooms.py [ROOT]

A room is a folder of src/ or include/, or a file that lies in src/ itself. Prints a line for each

  include that the table does not allow,
  room without a row, and row without a room,
  allowed room that is never included from, or whose row is not below (the order of the rows rules out circles),
  `file.cpp` or `function()` of the text that the code does not have, and `function()` (`file.cpp`) that is elsewhere.

Exit status 1 if there is any.
"""
import re
import sys
from pathlib import Path


def read_rows(text):
    """Room -> the rooms that it may include from, in the table's order."""
    rows = re.findall(r"^\| `(?:src|include)/([\w.]+)/?` \|.*\| ([^|]*) \|$", text, re.MULTILINE)
    return {room: re.findall(r"`([\w.]+)`", allowed) for room, allowed in rows}


def check_includes(files, rows, used):
    """Adds to `used` each pair of rooms of which the first includes from the second."""
    rooms = {path.parts[1] for path in files}
    for path, code in files.items():
        room = path.parts[1]
        for mark, name in re.findall(r'^\s*#\s*include\s*(["<])([^">]+)', code, re.MULTILINE):
            other = name.split("/")[0]
            if other not in rooms and mark == "<":  # a library's
                continue
            used.add((room, other))
            if other != room and other not in rows.get(room, [other]):
                yield f"{path}: includes {name}, but {room} may not include from {other}"


def check_table(rooms, rows, used):
    yield from (f"{room}: has no row in the table" for room in sorted(rooms - rows.keys()))
    above = set()
    for room, allowed in rows.items():
        above.add(room)
        if room not in rooms:
            yield f"{room}: has a row in the table, but there is no such room"
        yield from (f"{room}: may include from {other}, but does not" for other in allowed if (room, other) not in used)
        yield from (f"{room}: may include from {other}, whose row is not below" for other in allowed if other in above)


def check_names(text, files, root):
    words = set(re.findall(r"\w+", " ".join(files.values())))
    for name in dict.fromkeys(re.findall(r"`([\w./]+\.(?:h|cpp|cu|py|sh|json|md)|[\w:]+\(\))`", text)):
        is_there = name[:-2].split("::")[-1] in words if name.endswith("()") else any(
            (root / folder / name).exists() for folder in (".", "src", "include"))
        if not is_there:
            yield f"src/README.md: names {name}, which is not there"
    for name, file in re.findall(r"`([\w:]+)\(\)`\s+\(`([\w./]+)`\)", text):
        code = files.get(Path("src", file), files.get(Path(file), ""))
        if code and not re.search(rf"\b{name.split('::')[-1]}\(", code):
            yield f"src/README.md: looks for {name}() in {file}, which does not have it"


def main(root):
    text = (root / "src/README.md").read_text("utf-8")
    files = {path.relative_to(root): path.read_text("utf-8") for base in ("src", "include")
             for path in sorted((root / base).rglob("*")) if path.suffix in (".h", ".cpp", ".cu")}
    rows, used = read_rows(text), set()
    problems = [*check_includes(files, rows, used), *check_table({path.parts[1] for path in files}, rows, used),
                *check_names(text, files, root)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]))
