"""Metadata of a folder's pictures, from the .txt and .json beside each, and from tables."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clip_client.captions import CAPTION, read_table
from clip_client.errors import InvalidInput
from clip_client.file_names import as_id
from clip_client.folder_tables import Beside, FolderTables, Values, stems, together
from clip_client.picture_files import PictureFile, Scan
from clip_client.text_files import read_fields, read_text
from clip_search.cli.books import Books
from clip_search.cli.folder.fields import Fields
from clip_search.cli.folder.sync import State, described


@dataclass(frozen=True)
class Description:
    """Caption and fields of one picture."""

    own: Values  # values by column, from the folder
    given: Values | None = None  # from the other table, which goes first; None where there is none
    whole: bool = True  # false where a part couldn't be read, so that what is missing needn't be gone


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
        self._beside = Beside.of(scan.others, stems(scan))
        self._tables = FolderTables(folder, scan, books.note)
        self._given: dict[str, Values] | None = {} if metadata else None
        if metadata and self._given is not None:
            self._tables.take("", read_table(metadata), self._given, str(metadata))

    def of(self, file: PictureFile) -> Description:
        """Return the description of one picture."""
        problems: list[str] = []
        rows = [self._read(name, ending, problems) for ending, name in sorted(self._beside.take(file.name).items())]
        own = self._fields.take(together([*rows, self._tables.rows.get(file.name, {})]), problems.append)
        table = None if self._given is None else together([self._given.get(file.name, {})])
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
        return self._beside.used | self._tables.names

    @property
    def has_rows(self) -> bool:
        """Tell if a table names one of the pictures."""
        return bool(self._tables.rows or self._given)

    def _note(self, file: PictureFile, problems: Iterable[str]) -> None:
        for problem in problems:
            self._books.note(as_id(file.name), problem)

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
