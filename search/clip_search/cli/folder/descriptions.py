"""Metadata of a folder's pictures, from the .txt and .json beside each, and from tables."""

from __future__ import annotations

import os
import unicodedata
from bisect import bisect_left
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clip_client.captions import CAPTION, TABLES, Table, caption_list, merged, read_table
from clip_client.errors import InvalidInput
from clip_client.file_names import Names, as_id
from clip_client.picture_files import PictureFile, Scan
from clip_client.text_files import read_fields, read_text
from clip_search.cli.books import Books
from clip_search.cli.folder.fields import Fields
from clip_search.cli.folder.sync import State, described

_BESIDE = (".json", ".txt")
Values = dict[str, Any]


@dataclass(frozen=True)
class Description:
    """Caption and fields of one picture."""

    own: Values  # values by column, from the folder
    given: Values | None = None  # from the other table, which goes first; None where there is none
    whole: bool = True  # false where a part couldn't be read, so that what is missing needn't be gone


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


@dataclass(frozen=True)
class _Place:
    """Name of a table, and the folder that its names start at."""

    name: str
    folder: str = ""


class Descriptions:
    """Reader of a folder's descriptions of its pictures.

    Args:
        folder: with the pictures.
        found: what is in it.
        metadata: one more table; None for none.
        fields: columns that the values go into.
        books: notes what couldn't be read.
    """

    def __init__(self, folder: Path, scan: Scan, metadata: Path | None, fields: Fields, books: Books) -> None:
        self._folder, self._fields, self._books = folder, fields, books
        self._pictures = [file.name for file in scan.pictures]
        stems = {os.path.splitext(name)[0] for name in self._pictures}
        self._beside = Beside.of(scan.others, stems)
        self._known = set(scan.left_out)
        self.tables = {
            name
            for name in scan.others
            if os.path.basename(name) in TABLES and not (name.endswith(".json") and os.path.splitext(name)[0] in stems)
        }
        self._rows: dict[str, Values] = {}
        for name in sorted(self.tables, key=lambda name: (name.count("/"), TABLES.index(os.path.basename(name)), name)):
            if table := self._table(name):
                self._take_table(_Place(as_id(name), os.path.dirname(name)), table, self._rows)
        self._given: dict[str, Values] | None = {} if metadata else None
        if metadata and self._given is not None:
            self._take_table(_Place(str(metadata)), read_table(metadata), self._given)

    def of(self, file: PictureFile) -> Description:
        """Return the description of one picture."""
        problems: list[str] = []
        rows = [self._read(name, ending, problems) for ending, name in sorted(self._beside.take(file.name).items())]
        own = self._fields.take(_together([*rows, self._rows.get(file.name, {})]), problems.append)
        table = None if self._given is None else _together([self._given.get(file.name, {})])
        given = None if table is None else self._fields.take(table, problems.append)
        self._note(file, problems)
        return Description(own, given, not problems)

    def fitted(self, file: PictureFile, said: Description) -> Description:
        """Return a picture's description as far as it fits the columns, once all descriptions are read."""
        problems: list[str] = []
        own = self._fields.fit(said.own, problems.append)
        given = None if said.given is None else self._fields.fit(said.given, problems.append)
        self._note(file, problems)
        return Description(own, given, said.whole and not problems)

    def used(self) -> set[str]:
        """Return the files read besides pictures."""
        return self._beside.used | self.tables

    @property
    def has_rows(self) -> bool:
        """Tell if a table names one of the pictures."""
        return bool(self._rows or self._given)

    def _note(self, file: PictureFile, problems: Iterable[str]) -> None:
        for problem in problems:
            self._books.note(as_id(file.name), problem)

    def _table(self, name: str) -> Table | None:
        path = self._folder / name
        try:
            return read_table(path)
        except InvalidInput as problem:
            told = str(problem).removeprefix(f"{path} ")
            self._books.note(as_id(name), f"the pictures go in without it, it {told}")
            return None

    def _names(self, folder: str) -> Names:
        """Return the pictures below a folder, as a table in it names them."""
        before = f"{folder}/" if folder else ""
        first, end = bisect_left(self._pictures, before), bisect_left(self._pictures, f"{folder}0") if folder else None
        return Names([name.removeprefix(before) for name in self._pictures[first:end]], self._folder / folder)

    def _take_table(self, place: _Place, table: Table, named: dict[str, Values]) -> None:
        """Assign a table's rows to the pictures that they name; several rows of a picture become one."""
        for problem in table.problems:
            self._books.note(place.name, problem)
        rows, names = dict[str, list[Values]](), self._names(place.folder)
        for written, several in table.rows.items():
            if name := table.file(written, names):
                rows.setdefault(os.path.join(place.folder, name), []).extend(several)
            elif os.path.join(place.folder, written) not in self._known:
                self._books.note(place.name, f"{written!r} is no picture in {self._folder / place.folder}: check the name")
        joined = {name: merged(several) for name, several in rows.items()}
        lists = {column for values in joined.values() for column, value in values.items() if isinstance(value, list)}
        for name, values in joined.items():
            same = {
                column: [value] if column in lists and not isinstance(value, list) else value
                for column, value in values.items()
            }
            before = named.get(name, {})
            named[name] = before | same | {CAPTION: [*before.get(CAPTION, ()), *caption_list(rows[name])]}

    def _read(self, name: str, ending: str, problems: list[str]) -> dict[str, Any]:
        """Return the caption in a .txt and the fields in a .json."""
        path = self._folder / name
        try:
            if ending == ".json":
                return read_fields(path)
            text, remark = read_text(path)
        except InvalidInput as problem:
            problems.append(f"{os.path.basename(as_id(name))} {problem}; the picture goes in without it")
            return {}
        if remark:
            self._books.note(as_id(name), remark)
        return {CAPTION: text} if text else {}


def metadata_of(said: Description, before: State | None) -> dict[str, Any]:
    """Return values by column; None for one that the folder gave before and no longer does.

    What another table gave goes first, also where it isn't named this time.
    """
    others = before.given_fields if before and said.given is None else ()
    values = {name: value for name, value in said.own.items() if name not in others} | (said.given or {})
    lost = before.fields if before and said.whole else ()
    return dict.fromkeys(name for name in lost if name not in others) | values


def with_description(state: State, said: Description, before: State | None) -> State:
    """Return a state with the file's description; keep the former one of what couldn't be read this time."""
    before = before or State("", 0, 0)
    fields = {*said.own, *(() if said.whole else before.fields)}
    return replace(
        state,
        described=described(said.own),
        fields=tuple(sorted(fields)),
        given=before.given if said.given is None else described(said.given),
        given_fields=tuple(sorted({*(said.given or ()), *before.given_fields})),
    )


def _together(rows: Sequence[Values]) -> Values:
    """Return the fields of the last row, and the captions of all."""
    fields = {name: value for row in rows for name, value in merged([row]).items()}
    return fields | merged([{CAPTION: [*caption_list(rows)]}])


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
