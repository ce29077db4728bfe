"""House rules: violations are named with their line, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RULES = Path(__file__).parents[1] / ".ci" / "house_rules.py"
GOOD = '''"""Rows of a table."""

LIMIT = 3
"""Most rows."""


def load(a, b, c, d, e, f):
    """Return what was asked for, whether or not it is there."""
    return [found_row for found_row in (a, b, c, d, e, f)]
'''


def checked(file: Path, source: str, *options: str) -> tuple[int, list[str]]:
    file.write_text(source)
    run = subprocess.run([sys.executable, RULES, *options, file], capture_output=True, text=True, check=False)
    return run.returncode, [line.removeprefix(f"{file}:") for line in run.stdout.splitlines()]


def test_good_sources_pass(tmp_path: Path) -> None:
    assert checked(tmp_path / "good.py", GOOD, "--names") == (0, [])


def test_docstrings_that_open_with_a_question_are_named(tmp_path: Path) -> None:
    source = '''"""What a table holds."""
LIMIT = 3
"""How many, at most."""
class Table:
    """*Where* rows are."""
    async def rows(self):
        """whether there are any"""
'''
    status, lines = checked(tmp_path / "bad.py", source)
    assert status == 1
    assert [line.split(":")[0] for line in lines] == ["1", "3", "5", "7"]
    assert lines[1] == "3: docstring opens with 'How': open with a verb or a noun"


def test_sizes_have_limits(tmp_path: Path) -> None:
    long = "def long():\n" + 40 * "    pass\n"
    many = "def many(self, a, b, c, d, e, *f, g): pass\n"
    status, lines = checked(tmp_path / "bad.py", long + many + 260 * "\n")
    assert status == 1
    assert lines == [
        "1: long has 41 lines, at most 40: divide it",
        "1: the file has 302 lines, at most 300: divide it",
        "42: many takes 7 parameters, at most 6: use a dataclass",
    ]


def test_names_that_say_nothing_are_refused_if_asked_for(tmp_path: Path) -> None:
    source = "def f(one):\n    found = [done for done in one]\n    return found\n"
    assert checked(tmp_path / "bad.py", source) == (0, [])
    status, lines = checked(tmp_path / "bad.py", source, "--names")
    assert (status, [line.split(": ")[0] for line in lines]) == (1, ["1", "2", "2"])
    assert "the name 'one' says nothing" in lines[0]
