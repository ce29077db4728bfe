"""Rows of CSV as programs and people write it; a stray quote costs its own line, never the ones after it."""

import csv
import io
import itertools
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

_SEPARATORS = ",;\t|"
_SAYS = re.compile(r'"?sep=(.)"?\r?\n')  # first line of Excel's CSV files
_LONGEST_CELL = 2**31 - 1


@dataclass
class CsvRows:
    """Rows of cells, and the problems of some lines."""

    rows: list[list[str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def csv_rows(text: str) -> CsvRows:
    """Cut a text into rows; the separator is the candidate that its first line has most of."""
    lines = io.StringIO(text, newline="")
    delimiter, first = separator(lines.readline())
    reader = CsvReader(itertools.chain(first, lines), delimiter)
    rows = [row for row in reader if row]
    return CsvRows(rows, reader.problems)


def separator(first: str) -> tuple[str, list[str]]:
    """Return the separator that the first line of CSV has or says, and that line if it is a row."""
    said = _SAYS.fullmatch(first)
    return (said[1], []) if said else (max(_SEPARATORS, key=first.count), [first])


class CsvReader:
    """Reader of quoted cells, also over several lines; a badly quoted line is read again by itself.

    Args:
        lines: with their endings; they are read as far as the rows are.
        delimiter: between cells.
        longest: lines that one row may take.

    Attributes:
        line: number of the last row's first line, from 1 on.
        last_line: number of its last line.
        problems: of badly quoted lines.
    """

    def __init__(self, lines: Iterable[str], delimiter: str, longest: float = math.inf) -> None:
        self._lines, self._again, self._row = iter(lines), deque[str](), list[str]()
        self._longest = longest
        self._read = partial(csv.reader, delimiter=delimiter, skipinitialspace=True)
        self.line, self.last_line = 1, 0
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[list[str]]:
        csv.field_size_limit(_LONGEST_CELL)  # lines are bounded already
        rows = self._strict()
        while True:
            self._row.clear()
            self.line = self.last_line + 1
            try:
                row = next(rows, None)
            except csv.Error:
                self._again.extendleft(reversed(self._row[1:]))
                self.last_line = self.line
                row, rows = self._alone(self._row[0]), self._strict()
            if row is None:
                return
            yield row

    def _strict(self) -> Iterator[list[str]]:
        return self._read(self._following(), strict=True)

    def _following(self) -> Iterator[str]:
        while True:
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                return
            self._row.append(line)
            self.last_line += 1
            if len(self._row) > self._longest:
                raise csv.Error("a quote that isn't closed")
            yield line

    def _alone(self, line: str) -> list[str]:
        """Return the cells of one line; quotes that don't come in pairs are characters like others."""
        self.problems.append(f"line {self.line} has a quote in the middle of a cell, or one that isn't closed: check its cells")
        quoting: Any = csv.QUOTE_NONE if line.count('"') % 2 else csv.QUOTE_MINIMAL
        return next(iter(self._read([line.rstrip("\r\n")], quoting=quoting)), [])
