"""Tables of a report: on a terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from clip_client.terminal import Console, blocks

Cells = Sequence[Sequence[str]]
"""Heading and rows; the first column names the row, and a last one without a heading is prose."""


def show(cells: Cells, console: Console) -> None:
    """Print a table; one that is wider than the console in parts."""
    for block in blocks([[*row] for row in cells], console.width):
        console.print(_table([[row[number] for number in block] for row in cells]))


def markdown(cells: Cells) -> list[str]:
    """Return the lines of a table."""
    heading, *rows = cells
    rule = ["---", *["---:"] * (len(heading) - 2), "---"]
    return [f"| {' | '.join(row)} |" for row in (heading, rule, *rows)]


def _table(cells: Cells) -> Table:
    """Return a table whose last column wraps if it is prose, which the verdicts are."""
    heading, *rows = cells
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, name in enumerate(heading):
        is_prose = not name
        table.add_column(name, justify="right" if number and not is_prose else "left", no_wrap=not is_prose, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table
