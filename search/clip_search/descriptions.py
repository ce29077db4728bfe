"""Metadata of a folder's pictures: from the .txt and .json beside each, and from tables."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clip_client.captions import CAPTION, TABLES, Table, merged, read_table
from clip_client.errors import InvalidInput
from clip_client.file_names import Names, as_id
from clip_client.picture_files import PictureFile, Scan
from clip_client.text_files import read_fields, read_text
from clip_search.books import Books
from clip_search.fields import Fields

_BESIDE = (".json", ".txt")
Values = dict[str, Any]


@dataclass(frozen=True)
class Description:
    """What is known of one picture.

    Attributes:
        own: values by column, from the folder.
        given: from the other table, which goes first; None where there is none.
        whole: false where a part couldn't be read, so that what is missing needn't be gone.
    """

    own: Values
    given: Values | None = None
    whole: bool = True


@dataclass
class Beside:
    """Texts and fields by the picture's path without its ending; in NFC, since programs don't agree on the form of accents."""

    files: dict[str, dict[str, str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, names: Iterable[str]) -> Beside:
        """Those among the files of a folder."""
        found = cls()
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending.lower() in _BESIDE:
                found.files.setdefault(_composed(stem), {}).setdefault(ending.lower(), name)
        return found

    def take(self, name: str) -> dict[str, str]:
        """Names by ending of the files beside a picture."""
        found = self.files.get(_composed(os.path.splitext(name)[0]), {})
        self.used.update(found.values())
        return found


class Descriptions:
    """Reader of all that a folder says of its pictures.

    Args:
        folder: with the pictures.
        found: what is in it.
        metadata: one more table; None for none.
        fields: columns that the values go into.
        books: notes what couldn't be read.
    """

    def __init__(self, folder: Path, found: Scan, metadata: Path | None, fields: Fields, books: Books) -> None:
        self._folder, self._fields, self._books = folder, fields, books
        self._beside = Beside.of(found.others)
        self._names = Names([file.name for file in found.pictures], folder)
        self._known = set(found.left_out)
        own = [name for name in TABLES if name in found.others and not self._is_beside(name, found.pictures)]
        self._rows: dict[str, Values] = {}
        for name in own:
            if table := self._table(folder / name):
                self._take_table(name, table, self._rows)
        self._given: dict[str, Values] | None = {} if metadata else None
        if metadata and self._given is not None:
            self._take_table(str(metadata), read_table(metadata), self._given)
        self.tables = set(own)

    def of(self, file: PictureFile) -> Description:
        """All that is said of one picture."""
        problems: list[str] = []
        rows = [self._read(name, ending, problems) for ending, name in sorted(self._beside.take(file.name).items())]
        beside = {name: value for row in rows for name, value in merged([row]).items()}
        own = self._fields.take(beside | self._rows.get(file.name, {}), problems.append)
        given = None if self._given is None else self._fields.take(self._given.get(file.name, {}), problems.append)
        self._note(file, problems)
        return Description(own, given, not problems)

    def fitted(self, file: PictureFile, said: Description) -> Description:
        """What was said of a picture, as far as it fits the columns; asked once all has been read."""
        problems: list[str] = []
        own = self._fields.fit(said.own, problems.append)
        given = None if said.given is None else self._fields.fit(said.given, problems.append)
        self._note(file, problems)
        return Description(own, given, said.whole and not problems)

    def used(self) -> set[str]:
        """Files that aren't pictures and were read all the same."""
        return self._beside.used | self.tables

    @property
    def has_rows(self) -> bool:
        """True if a table names one of the pictures."""
        return bool(self._rows or self._given)

    def _note(self, file: PictureFile, problems: Iterable[str]) -> None:
        for problem in problems:
            self._books.note(as_id(file.name), problem)

    def _is_beside(self, name: str, pictures: Sequence[PictureFile]) -> bool:
        stem = os.path.splitext(name)[0]
        return name.endswith(".json") and any(os.path.splitext(one.name)[0] == stem for one in pictures)

    def _table(self, path: Path) -> Table | None:
        try:
            return read_table(path)
        except InvalidInput as problem:
            self._books.note(path.name, f"the pictures go in without it, it {_without_path(problem, path)}")
            return None

    def _take_table(self, place: str, table: Table, found: dict[str, Values]) -> None:
        """Give a table's rows to the pictures that they name; several rows of a picture become one."""
        for problem in table.problems:
            self._books.note(place, problem)
        rows: dict[str, list[Values]] = {}
        for written, several in table.rows.items():
            if name := self._names.match(written):
                rows.setdefault(name, []).extend(several)
            elif written not in self._known:
                self._books.note(place, f"{written!r} is no picture in {self._folder}: check the name")
        joined = {name: merged(several) for name, several in rows.items()}
        lists = {column for values in joined.values() for column, value in values.items() if isinstance(value, list)}
        for name, values in joined.items():
            same = {
                column: [value] if column in lists and not isinstance(value, list) else value
                for column, value in values.items()
            }
            found[name] = found.get(name, {}) | same

    def _read(self, name: str, ending: str, problems: list[str]) -> dict[str, Any]:
        """The caption in a .txt, the fields in a .json."""
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


def _without_path(problem: InvalidInput, path: Path) -> str:
    return str(problem).removeprefix(f"{path} ")


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
