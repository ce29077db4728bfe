"""Terminals and pipes: printable texts, tables that fold or become lines; needs rich, which the extras of commands bring."""

import sys
from collections.abc import Collection, Iterator, Sequence
from itertools import chain

from rich import console as rich_console
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from clip_client.command_runner import is_terminal
from clip_client.printable_text import printable as printable

_PADDING = 3  # columns between two cells: a blank on either side, and the divider
_LEAST_PROSE = 40  # columns that a cell of prose gets at least


class Console(rich_console.Console):
    """Console that takes a terminal alone for one, whatever FORCE_COLOR says; rich itself heeds NO_COLOR."""

    @property
    def is_terminal(self) -> bool:
        """Tell if the output goes to a terminal."""
        return self.file.isatty()

    def on_broken_pipe(self) -> None:
        """Let the command see that nobody reads any more."""
        raise  # rich calls this while it handles the BrokenPipeError


def print_table(heading: Sequence[str], rows: Sequence[Sequence[str]], *, figures: Collection[str] = ()) -> None:
    """Print a table to standard output: folded to a terminal's width, elsewhere a line a row with tabs between the cells.

    Args:
        heading: names of the columns, the first line.
        rows: cells; nothing of them is cut off, and none moves the cursor.
        figures: names of columns that are aligned to the right.
    """
    if not is_terminal(sys.stdout):
        print("\n".join("\t".join(map(printable, row)) for row in (heading, *rows)))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in heading:
        table.add_column(name, overflow="fold", justify="right" if name in figures else "left", no_wrap=name in figures)
    for row in rows:
        table.add_row(*(Text(printable(cell, keep="\n")) for cell in row))
    Console().print(table)


def blocks(cells: Sequence[Sequence[str]], width: int) -> Iterator[list[int]]:
    """Divide the columns of a wide table among tables that fit; each begins with the first column.

    Args:
        cells: rows, heading included; the last cell of each is prose, which wraps.
        width: of the terminal, in characters.

    Yields:
        Numbers of the columns of a table.
    """
    widths = [max(map(len, column)) + _PADDING for column in zip(*cells, strict=True)]
    prose = min(widths[-1], _LEAST_PROSE)
    block, used = [0], widths[0]
    for number, own in chain(enumerate(widths[1:-1], 1), [(len(widths) - 1, prose)]):
        if used + own > width and len(block) > 1:
            yield block
            block, used = [0], widths[0]
        block.append(number)
        used += own
    yield block
