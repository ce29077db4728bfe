"""Tables in terminals and pipes."""

from __future__ import annotations

import pytest

from clip_client.terminal import blocks, print_table

HEADING = ["variant", *(f"column {n}" for n in range(9)), ""]
ROWS = [HEADING, ["onnx-fp32", *("0.99999",) * 9, "below the gate: " + "reason " * 30], ["torch-fp32", *("",) * 9, ""]]


@pytest.mark.parametrize("width", [1, 20, 40, 80, 120, 400])
def test_a_wide_table_is_divided_and_each_part_names_its_rows(width: int) -> None:
    parts = list(blocks(ROWS, width))
    assert [part[0] for part in parts] == [0] * len(parts)
    assert [number for part in parts for number in part[1:]] == list(range(1, len(HEADING)))
    assert all(len(part) == 2 or sum(len(HEADING[n]) + 3 for n in part) <= width for part in parts)
    assert (len(parts) == 1) == (width >= 400)


def test_cells_in_a_pipe_have_no_tabs_and_no_line_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("one\ttwo\nthree", "\x1b[31m"), ("", "x" * 500), ("caf\udce9", "\u200d")])
    assert capsys.readouterr().out.splitlines() == [
        "a\tb",
        "one\\ttwo\\nthree\t\\x1b[31m",
        f"\t{'x' * 500}",
        "caf\\udce9\t\u200d",
    ]
