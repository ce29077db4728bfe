"""The memory of a collection's process stays below what was promised, whatever it does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = Path(__file__).parent / "lib" / "memory_steps.py"
ROWS, SIZE, MEMORY = 100_000, 256, 420 * 2**20
"""The vectors are a quarter of the memory; half of that is the process without them."""


@pytest.mark.long
def test_imports_builds_changes_and_compactions_stay_within_the_memory(tmp_path: Path) -> None:
    command = [sys.executable, STEPS, tmp_path, str(ROWS), str(SIZE), str(MEMORY)]
    result = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout)
    assert list(result["peaks"]) == ["import", "rebuild", "changes", "compaction", "opening", "searches"]
    assert {step: peak for step, peak in result["peaks"].items() if peak > MEMORY / 10**6} == {}
    assert result["hit"]
