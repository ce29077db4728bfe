"""Descriptions of a folder's pictures: files beside them, and tables that name them."""

from __future__ import annotations

import os
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clip_client.captions import CAPTION, TABLES, Table, caption_list, merged, read_table
from clip_client.errors import InvalidInput
from clip_client.file_names import Names, as_id
from clip_client.picture_files import Scan

_BESIDE = (".json", ".txt")
Values = dict[str, Any]
"""Fields of a picture; its caption is :data:`clip_client.captions.CAPTION`."""


@dataclass
class Beside:
    """Texts and fields by the picture's path without its ending; in NFC too, since programs write accents in two forms."""

    files: dict[str, dict[str, str]] = field(default_factory=dict)
    composed: dict[str, dict[str, str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, names: Iterable[str], stems: Container[str] = ()) -> Beside:
        """Return the companions among a folder's files; ``stems`` are the pictures' names without endings."""
        beside = cls()
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending.lower() in _BESIDE:
                beside.files.setdefault(stem, {}).setdefault(ending.lower(), name)
            if ending.lower() in _BESIDE and stem not in stems:
                beside.composed.setdefault(_composed(stem), {}).setdefault(ending.lower(), name)
        return beside

    def take(self, name: str) -> dict[str, str]:
        """Return the names by ending of the files beside a picture."""
        stem = os.path.splitext(name)[0]
        names = self.composed.get(_composed(stem), {}) | self.files.get(stem, {})
        self.used.update(names.values())
        return names


class FolderTables:
    """Rows of the tables in a folder, by the picture that each names.

    Args:
        folder: with the pictures.
        scan: what is in it.
        note: told a table and a reason, of each row and table that can't be used.
        read: reads a table by its name below the folder.

    Attributes:
        names: of the tables.
        rows: fields by the name of the picture.
    """

    def __init__(
        self, folder: Path, scan: Scan, note: Callable[[str, str], object], read: Callable[[str], Table] | None = None
    ) -> None:
        self._folder, self._note = folder, note
        self._read_table = read or (lambda name: read_table(folder / name))
        self._pictures = [file.name for file in scan.pictures]
        self._known = set(scan.left_out)
        own = stems(scan)
        self.names = {
            name
            for name in scan.others
            if os.path.basename(name) in TABLES and not (name.endswith(".json") and os.path.splitext(name)[0] in own)
        }
        self.rows: dict[str, Values] = {}
        for name in sorted(self.names, key=lambda name: (name.count("/"), TABLES.index(os.path.basename(name)), name)):
            if table := self._read(name):
                self.take(os.path.dirname(name), table, self.rows, as_id(name))

    def take(self, folder: str, table: Table, named: dict[str, Values], name: str) -> None:
        """Assign a table's rows to the pictures that they name; several rows of a picture become one.

        Args:
            folder: that the names in the table start at, below this one.
            table: with the rows.
            named: gets the fields by the name of the picture.
            name: of the table in messages.
        """
        for problem in table.problems:
            self._note(name, problem)
        rows, names = dict[str, list[Values]](), self._names(folder)
        for written, several in table.rows.items():
            if picture := table.file(written, names):
                rows.setdefault(os.path.join(folder, picture), []).extend(several)
            elif os.path.join(folder, written) not in self._known:
                self._note(name, f"{written!r} is no picture in {self._folder / folder}: check the name")
        joined = {picture: merged(several) for picture, several in rows.items()}
        lists = {column for values in joined.values() for column, value in values.items() if isinstance(value, list)}
        for picture, values in joined.items():
            same = {
                column: [value] if column in lists and not isinstance(value, list) else value
                for column, value in values.items()
            }
            before = named.get(picture, {})
            named[picture] = before | same | {CAPTION: [*before.get(CAPTION, ()), *caption_list(rows[picture])]}

    def _read(self, name: str) -> Table | None:
        try:
            return self._read_table(name)
        except InvalidInput as problem:
            told = str(problem).removeprefix(f"{self._folder / name} ")
            self._note(as_id(name), f"the pictures go in without it, it {told}")
            return None

    def _names(self, folder: str) -> Names:
        """Return the pictures below a folder, as a table in it names them."""
        before = f"{folder}/" if folder else ""
        first, end = bisect_left(self._pictures, before), bisect_left(self._pictures, f"{folder}0") if folder else None
        return Names([name.removeprefix(before) for name in self._pictures[first:end]], self._folder / folder)


def stems(scan: Scan) -> set[str]:
    """Return the names of pictures without their endings."""
    return {os.path.splitext(file.name)[0] for file in scan.pictures}


def together(rows: Sequence[Values]) -> Values:
    """Return the fields of the last row, and the captions of all."""
    fields = {name: value for row in rows for name, value in merged([row]).items()}
    return fields | merged([{CAPTION: [*caption_list(rows)]}])


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
