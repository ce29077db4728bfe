"""Rows that aren't in a set of vectors, with the reasons, in a file that outlives the process."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clip_search.arrays import Rows
from clip_search.errors import disk_problem

_FILE = "left-out.jsonl"


class LeftOut:
    """Rows by number; safe to use from several threads.

    The file is derived: without it the rows are tried again.

    Args:
        folder: of the indexes of the set.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._lock = folder / _FILE, threading.Lock()
        self._rows: dict[int, tuple[str, str]] = {}
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            lines = []
        for line in lines:
            try:
                told = json.loads(line)
                self._rows[int(told["row"])] = str(told["id"]), str(told["reason"])
            except (ValueError, KeyError, TypeError):  # a kill tore the last line
                continue
        self.is_there = self._path.exists()

    def __len__(self) -> int:
        return len(self._rows)

    def begin(self) -> None:
        """Make the file anew, with nothing in it; raise Unavailable or StorageFull if it can't be written."""
        with self._lock:
            self._rows = {}
            self._write("w", "")
            self.is_there = True

    def note(self, rows: Mapping[int, tuple[str, str]]) -> None:
        """Note rows, each with its id and the reason; raises as :meth:`begin`."""
        if not rows:
            return
        told = [{"row": row, "id": id, "reason": reason} for row, (id, reason) in rows.items()]
        with self._lock:
            self._write("a", "".join(json.dumps(each) + "\n" for each in told))
            self._rows.update(rows)

    def numbers(self) -> Rows:
        """Return their numbers, ascending."""
        with self._lock:
            return np.array(sorted(self._rows), np.int64)

    def keep(self, rows: Rows) -> None:
        """Forget those that aren't among these; the file goes on naming them, which does no harm."""
        there = set(rows.tolist())
        with self._lock:
            self._rows = {row: told for row, told in self._rows.items() if row in there}

    def page(self, after: int, limit: int) -> list[dict[str, object]]:
        """Return the first behind a row, by number."""
        with self._lock:
            rows = sorted(row for row in self._rows if row > after)[:limit]
            return [{"row": row, "id": self._rows[row][0], "reason": self._rows[row][1]} for row in rows]

    def _write(self, mode: str, text: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as problem:
            raise disk_problem(problem, f"{self._path} can't be written") from problem
