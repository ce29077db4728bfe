"""Kills at each step of a re-embedding, under changes: nothing acknowledged is lost, and no vector is of another space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "lib" / "killed_reembedding.py"
DEATHS = (
    *(
        "create:1:before",
        "create:1:after",
        "append:1:before",
        "fill:1:after",
        "take:3:before",
        "take:4:after",
        "remove:1:before",
    ),
    *("index:1:before", "index:1:after", "commit:1:before", "commit:1:after", "shown:1:after", "drop:1:before", "drop:1:after"),
)


@pytest.mark.long
def test_no_kill_loses_a_change_or_mixes_spaces(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, tmp_path, *DEATHS], capture_output=True, text=True, timeout=500, check=False)
    lines = done.stdout.splitlines()
    assert [line for line in lines[:-2] if not line.endswith(": killed")] == [], done.stderr[-3000:]
    assert lines[-2].endswith("differences: [] []"), done.stdout
