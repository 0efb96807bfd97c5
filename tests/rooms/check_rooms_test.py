#!/usr/bin/env python3
"""scripts/check_rooms.py on small trees, each with one thing that is not as its table says."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/check_rooms.py"
TREE = {
    "src/README.md": "| room | what it holds | may include from |\n| --- | --- | --- |\n"
                     "| `src/main.cpp` | The start. | `upper` |\n"
                     "| `src/upper/` | One. | `lower`, `opensora` |\n"
                     "| `src/lower/` | Another. | `opensora` |\n"
                     "| `include/opensora/` | The outside. | nothing |\n\n"
                     "`run()` (`upper/a.cpp`) calls `lower::work()`.\n",
    "include/opensora/error.h": "#include <string>\n",
    "src/main.cpp": '#include "upper/a.h"\n',
    "src/upper/a.h": "void run();\n",
    "src/upper/a.cpp": '#include "upper/a.h"\n\n#include <sys/stat.h>\n\n#include "lower/b.h"\n'
                       '#include "opensora/error.h"\n'
                       "void run() { work(); }\n",
    "src/lower/b.h": '#include "opensora/error.h"\nvoid work();\n',
}


class CheckRooms(unittest.TestCase):
    def problems(self, name="src/README.md", text=TREE["src/README.md"]):
        """The lines that the script prints for TREE with one file more, or another."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**TREE, name: text}.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            done = subprocess.run([sys.executable, SCRIPT, folder], stdout=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1 if done.stdout else 0)
        return done.stdout.splitlines()

    def with_table(self, old, new):
        text = TREE["src/README.md"]
        self.assertIn(old, text)
        return self.problems(text=text.replace(old, new))

    def test_a_tree_that_is_as_its_table_says(self):
        self.assertEqual(self.problems(), [])

    def test_an_include_that_is_not_allowed(self):
        self.assertEqual(self.problems("src/lower/b.cpp", '#  include "upper/a.h"\n'),
                         ["src/lower/b.cpp: includes upper/a.h, but lower may not include from upper"])
        self.assertEqual(self.problems("src/lower/b.cpp", "#include <upper/a.h>\n"),
                         ["src/lower/b.cpp: includes upper/a.h, but lower may not include from upper"])
        self.assertEqual(self.problems("src/lower/b.cpp", '#include "../upper/a.h"\n'),
                         ["src/lower/b.cpp: includes ../upper/a.h, but lower may not include from .."])

    def test_a_room_without_a_row(self):
        self.assertEqual(self.problems("src/cellar/c.cu", "int x;\n"), ["cellar: has no row in the table"])

    def test_a_row_without_a_room(self):
        self.assertEqual(self.with_table("| `include/", "| `src/cellar/` | Wine. | nothing |\n| `include/"),
                         ["cellar: has a row in the table, but there is no such room"])

    def test_an_allowed_room_that_is_never_included(self):
        self.assertEqual(self.with_table("The start. | `upper`", "The start. | `upper`, `lower`"),
                         ["main.cpp: may include from lower, but does not"])

    def test_an_allowed_room_that_stands_above(self):
        rows = TREE["src/README.md"].splitlines(keepends=True)
        rows[3], rows[4] = rows[4], rows[3]
        self.assertEqual(self.problems(text="".join(rows)),
                         ["upper: may include from lower, whose row is not below"])

    def test_names_that_are_not_there(self):
        self.assertEqual(self.with_table("`upper/a.cpp`", "`upper/old.cpp`"),
                         ["src/README.md: names upper/old.cpp, which is not there"])
        self.assertEqual(self.with_table("`run()` (`upper/a.cpp`)", "`run()` (`lower/b.h`)"),
                         ["src/README.md: looks for run() in lower/b.h, which does not have it"])
        self.assertEqual(self.with_table("`lower::work()`", "`lower::rest()`"),
                         ["src/README.md: names lower::rest(), which is not there"])


if __name__ == "__main__":
    unittest.main()
