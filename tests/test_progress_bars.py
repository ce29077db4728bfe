"""Progress bars: bars in terminals, few lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest
from terminals import run_in_terminal

from clip_client import progress_bars
from clip_client.progress_bars import ProgressBar


def test_short_work_leaves_no_line_in_a_log() -> None:
    log = io.StringIO()
    with ProgressBar(desc="adding", total=10, file=log) as bar:
        for _ in range(10):
            bar.update(1)
    assert log.getvalue() == ""


def test_a_log_of_long_work_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_bars, "_LINE_S", 0.1)
    log, start = io.StringIO(), time.monotonic()
    with ProgressBar(desc="adding", total=100, file=log) as bar:
        for _ in range(100):
            time.sleep(0.005)
            bar.update(1)
    lines = log.getvalue().splitlines()
    assert 2 <= len(lines) <= (time.monotonic() - start) / 0.1 + 1
    assert all(line.startswith("adding: ") and " of 100, " in line for line in lines)
    assert "\r" not in log.getvalue()


def test_work_without_a_known_end_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_bars, "_LINE_S", 0.1)
    log = io.StringIO()
    with ProgressBar(desc="part 1 of 4", unit=" items", file=log) as bar:
        for _ in range(60):
            time.sleep(0.005)
            bar.update(8)
    lines = log.getvalue().splitlines()
    assert lines
    assert all(re.fullmatch(r"part 1 of 4: \d+ items, [\d.k]+ items/s", line) for line in lines)


def test_a_terminal_has_a_bar_and_remarks_above_it() -> None:
    code = (
        "from clip_client.progress_bars import ProgressBar, say\n"
        "with ProgressBar(desc='adding', total=3) as bar:\n"
        "    for n in range(3): say(f'left out {n}'); bar.update(1)"
    )
    status, shown = run_in_terminal([sys.executable, "-c", code])
    assert status == 0
    assert "\radding: 100%" in shown
    assert all(f"left out {n}\r\n" in shown for n in range(3))
