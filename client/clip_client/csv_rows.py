"""Rows of CSV as programs and people write it; a stray quote costs its own line, never the ones after it."""

import csv
import io
import re
from collections.abc import Iterator
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
    csv.field_size_limit(_LONGEST_CELL)  # the file is bounded already
    said = _SAYS.match(text)
    text = text[said.end() :] if said else text
    first = text.partition("\n")[0]
    reader = _Reader(text, said[1] if said else max(_SEPARATORS, key=first.count))
    rows = [row for row in reader if row]
    return CsvRows(rows, reader.problems)


class _Reader:
    """Reader of quoted cells, also over several lines; a badly quoted line is read again by itself."""

    def __init__(self, text: str, delimiter: str) -> None:
        self._lines = io.StringIO(text, newline="").readlines()
        self._at = 0
        self._read = partial(csv.reader, delimiter=delimiter, skipinitialspace=True)
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[list[str]]:
        rows = self._strict()
        while True:
            start = self._at
            try:
                row = next(rows, None)
            except csv.Error:
                self._at, rows = start + 1, self._strict()
                row = self._alone(start)
            if row is None:
                return
            yield row

    def _strict(self) -> Iterator[list[str]]:
        return self._read(self._following(), strict=True)

    def _following(self) -> Iterator[str]:
        while self._at < len(self._lines):
            self._at += 1
            yield self._lines[self._at - 1]

    def _alone(self, number: int) -> list[str]:
        """Return the cells of one line; quotes that don't come in pairs are characters like others."""
        self.problems.append(
            f"line {number + 1} has a quote in the middle of a cell, or one that isn't closed: check its cells"
        )
        line = self._lines[number].rstrip("\r\n")
        quoting: Any = csv.QUOTE_NONE if line.count('"') % 2 else csv.QUOTE_MINIMAL
        return next(iter(self._read([line], quoting=quoting)), [])
