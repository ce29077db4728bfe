"""Filling of a second set of vectors: rows that it lacks are embedded and written, in batches, as often as it takes."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from clip_client.errors import ClipError, Timeout, Unavailable
from clip_client.spec import TOWERS, Tower
from clip_search.arrays import Floats, Rows
from clip_search.budget import Share
from clip_search.errors import Busy
from clip_search.reembedding import inputs
from clip_search.reembedding.inputs import CAPTION, Inputs
from clip_search.reembedding.left_out import LeftOut
from clip_search.reembedding.second_set import SecondSet
from clip_search.storage.schema import tower_column
from clip_search.storage.table import Table

_ROWS = 500  # rows that are written in one commit: each makes a file
_TOGETHER = 16  # pictures that are in memory, and are embedded, at once: what searches wait for
_READERS = 4  # threads that read or fetch
_AGAIN_S = 2.0  # pause while the model can't be asked
_HEAVY = {tower_column(tower) for tower in TOWERS}
_Row = Mapping[str, Any]


class Stopped(Exception):
    """Sidecar that stops, or a set that is dropped."""


class Filling:
    """Work that brings a set up to another one.

    Args:
        second: the set.
        serving: table of the other one.
        left_out: takes the rows that can't be embedded.
        source: of their pictures.
        cores: share of the time in which it works; it rests for the others.
        stop: ends it.
    """

    def __init__(
        self, second: SecondSet, serving: Table, left_out: LeftOut, source: Inputs, cores: float, stop: threading.Event
    ) -> None:
        self._second, self._serving, self._left_out, self._source = second, serving, left_out, source
        self._cores, self._stop = cores, stop
        self._is_patient = True
        self.settle: Callable[[], object] = lambda: None  # waits for the change that is being made
        self.waiting = ""  # why it doesn't go on at the moment

    def pending(self) -> Rows:
        """Return the rows that are neither in the set nor left out, ascending."""
        return np.setdiff1d(self._second.missing(), self._left_out.numbers(), assume_unique=True)

    def run(self, most: int | None = None) -> int:
        """Embed what is pending; return how many rows that were. At most so many are done at once, without a pause.

        Raises:
            Stopped: it is to end.
            Unavailable, Timeout: the model can't be asked; without ``most`` it is waited for.
            ContractMismatch: the model is of another space.
            ClipError: the set can't be written.
        """
        if self._stop.is_set():
            raise Stopped
        self._is_patient = most is None
        rows = self.pending()[:most]
        for start in range(0, len(rows), _ROWS):
            self._batch(rows[start : start + _ROWS])
        return len(rows)

    def _batch(self, rows: Rows) -> None:
        begin = time.monotonic()
        columns = [name for name in self._serving.schema.names if name not in _HEAVY]
        read = self._serving.read(rows, columns)
        seen = ["row", "id", "source", "thumbnail", "has_image", "has_text", *([CAPTION] if CAPTION in columns else [])]
        values: list[dict[str, Any]] = read.select(seen).to_pylist()
        vectors: dict[int, dict[Tower, Floats]] = {}
        reasons: dict[int, tuple[str, str]] = {}
        self._rest(begin)
        try:
            for start in range(0, len(values), _TOGETHER):
                self._part(values[start : start + _TOGETHER], vectors, reasons)
        finally:
            begin = time.monotonic()
            self._write(read, values, vectors, reasons)
        self._second.compact()
        self._rest(begin)

    def _rest(self, begin: float) -> None:
        """Rest after work since ``begin`` as the share of the cores asks for, unless changes wait for the last rows."""
        if self._is_patient:
            self._stop.wait((time.monotonic() - begin) * (1 / self._cores - 1))

    def _write(
        self,
        read: pa.Table,
        values: Sequence[_Row],
        vectors: Mapping[int, Mapping[Tower, Floats]],
        reasons: Mapping[int, tuple[str, str]],
    ) -> None:
        """Write the rows that have vectors, and the others into the books."""
        good = [n for n, row in enumerate(values) if row["row"] in vectors]
        if good:
            self._second.fill(read.take(pa.array(good)), vectors)
        self._leave_out(reasons)

    def _leave_out(self, reasons: Mapping[int, tuple[str, str]]) -> None:
        """Note rows in the books, but for those that a change has just written into both sets."""
        if not reasons:
            return
        if self._is_patient:  # else no change is made
            self.settle()
        there = set(self._second.table.there(np.array(sorted(reasons), np.int64)).tolist())
        self._left_out.note({row: told for row, told in reasons.items() if row not in there})

    def _part(
        self,
        rows: Sequence[_Row],
        vectors: dict[int, dict[Tower, Floats]],
        reasons: dict[int, tuple[str, str]],
    ) -> None:
        """Embed some rows, then rest as long as the share of the cores asks for; wait while the model can't be asked."""
        while True:
            if self._stop.is_set():
                raise Stopped
            begin = time.monotonic()
            try:
                found, failed = self._embedded(rows)
                break
            except (Unavailable, Timeout) as problem:
                if not self._is_patient:
                    raise
                self.waiting = str(problem)
                self._stop.wait(_AGAIN_S)
        self.waiting = ""
        vectors.update(found)
        reasons.update(failed)
        self._rest(begin)

    def _embedded(self, rows: Sequence[_Row]) -> tuple[dict[int, dict[Tower, Floats]], dict[int, tuple[str, str]]]:
        """Return the vectors of rows by number, and the ids and reasons of those that lack one."""
        reasons: dict[int, str] = {}
        own: dict[int, dict[Tower, Floats]] = {row["row"]: {} for row in rows}
        texts = self._texts([row for row in rows if row["has_text"]], reasons)
        with Share(self._source.fetched) as share:
            read = partial(self._source.picture, share=share)
            pictures = _attempted([row for row in rows if row["has_image"] and row["row"] not in reasons], read, reasons)
            images = self._images(pictures, {row["row"]: row for row in rows}, reasons)
        for tower, made in (("image", images), ("text", texts)):
            for number, vector in made.items():
                own[number][tower] = vector  # type: ignore[index]
        reasons.update({number: "it has no vector" for number, made in own.items() if not made and number not in reasons})
        ids = {row["row"]: row["id"] for row in rows}
        told = {number: (ids[number], reason) for number, reason in reasons.items()}
        return {number: made for number, made in own.items() if number not in reasons}, told

    def _texts(self, rows: Sequence[_Row], reasons: dict[int, str]) -> dict[int, Floats]:
        texts = _sorted_out(rows, [_attempt(inputs.text, row) for row in rows], reasons)
        made, failed = self._asked(self._second.model.texts, texts)
        reasons.update(failed)
        return made

    def _images(self, pictures: dict[int, bytes], rows: Mapping[int, _Row], reasons: dict[int, str]) -> dict[int, Floats]:
        made, failed = self._asked(self._second.model.images, pictures)
        small = {number: file for number in failed if (file := self._source.small(rows[number]))}
        if small:
            again, _ = self._asked(self._second.model.images, small)
            made.update(again)
        reasons.update({number: reason for number, reason in failed.items() if number not in made})
        return made

    def _asked(
        self, embed: Callable[[Sequence[Any]], Any], given: Mapping[int, Any]
    ) -> tuple[dict[int, Floats], dict[int, str]]:
        """Return the vectors by number, and the reasons of those that can't be embedded."""
        if not given:
            return {}, {}
        numbers, made = list(given), embed(list(given.values()))
        failed = {numbers[n]: reason for n, reason in made.errors.items()}
        return {number: vector for number, vector in zip(numbers, made, strict=True) if vector is not None}, failed


def _attempted(rows: Sequence[_Row], read: Callable[[_Row], Any], reasons: dict[int, str]) -> dict[int, Any]:
    """Return what is read of each row by number, side by side; note the reasons of the others."""
    if not rows:
        return {}
    with ThreadPoolExecutor(_READERS) as pool:
        return _sorted_out(rows, pool.map(partial(_attempt, read), rows), reasons)


def _sorted_out(rows: Sequence[_Row], outcomes: Iterable[Any], reasons: dict[int, str]) -> dict[int, Any]:
    """Return the outcomes by row number that aren't errors; note the reasons of the others."""
    found: dict[int, Any] = {}
    for row, outcome in zip(rows, outcomes, strict=True):
        if isinstance(outcome, ClipError):
            reasons[row["row"]] = str(outcome)
        else:
            found[row["row"]] = outcome
    return found


def _attempt(read: Callable[[_Row], Any], row: _Row) -> Any:
    try:
        return read(row)
    except Busy:  # no fault of the row: it is tried again
        raise
    except ClipError as problem:
        return problem
