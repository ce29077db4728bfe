"""Folder of pictures, with a ``.txt`` and a ``.json`` beside some of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from clip_client.errors import InvalidInput
from clip_client.file_names import as_id, as_source, source_path
from clip_client.picture_files import ENDINGS, PictureFile, scan
from clip_client.text_files import read_fields, read_text
from clip_embed import fields
from clip_embed.chunks import ROWS, Chunk, text_of
from clip_embed.inputs import lists
from clip_embed.inputs.base import PartOf, Plan
from clip_embed.places import Place

_SEEN = 1_000  # pictures whose JSON tells the columns
_RESERVED = ("image_path", "caption", "image", "text")
_LIST = pa.schema([(name, pa.string()) for name in ("name", "path", ".txt", ".json")])
"""Columns of a list: name of a picture, and sources of its file and of those beside it."""


@dataclass(frozen=True)
class Folder:
    """Pictures of a folder and of those below it.

    Attributes:
        location: path of the folder.
    """

    location: str

    kind = "files"

    @property
    def settings(self) -> dict[str, Any]:
        """Return the attributes."""
        return asdict(self)

    def plan(self, part_items: int) -> Plan:
        """List the pictures in the order of their names."""
        found = scan(Path(self.location))
        if not found.pictures:
            raise InvalidInput(f"no pictures in {self.location}: expected files that end in {', '.join(sorted(ENDINGS))}")
        rows = [*_rows(Path(self.location), found.pictures, found.others)]
        described = islice((row[".json"] for row in rows if row[".json"]), _SEEN)
        return Plan(
            [{lists.NUMBER: number} for number in range(-(-len(rows) // part_items))],
            fields.schema_of((_fields(path, []) for path in described), _RESERVED),
            has_pictures=True,
            has_texts=any(row[".txt"] for row in rows),
            lists=(pa.Table.from_pylist(rows[n : n + part_items], _LIST) for n in range(0, len(rows), part_items)),
            left_out={as_id(name): reason for name, reason in found.left_out.items()},
        )

    def chunks(self, part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
        """Read what lies beside the pictures of a part; the pictures are read later, side by side."""
        if not os.path.isdir(self.location):  # or all its pictures would be left out for good
            raise FileNotFoundError(f"{self.location} isn't there any more, or not on this machine")
        rows = lists.load(place, part)
        for start in range(0, len(rows), ROWS):
            yield _chunk(rows.slice(start, ROWS).to_pylist(), schema)


def _rows(folder: Path, pictures: Sequence[PictureFile], others: Iterable[str]) -> Iterator[dict[str, str | None]]:
    beside: dict[str, dict[str, str]] = {}
    for name in others:
        stem, ending = os.path.splitext(name)
        if ending.lower() in (".txt", ".json"):
            beside.setdefault(stem, {}).setdefault(ending.lower(), as_source(str(folder.absolute() / name)))
    for file in pictures:
        own = beside.get(os.path.splitext(file.name)[0], {})
        yield {"name": as_id(file.name), "path": as_source(file.path), ".txt": own.get(".txt"), ".json": own.get(".json")}


def _chunk(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> Chunk:
    notes: dict[int, str] = {}
    texts, objects = [], []
    for n, row in enumerate(rows):
        reasons: list[str] = []
        texts.append(_text(row[".txt"], reasons))
        objects.append(_fields(row[".json"], reasons))
        if reasons:
            notes[n] = f"{'; '.join(reasons)}; the picture goes in without it"
    pictures = [source_path(row["path"]) for row in rows]
    return Chunk([row["name"] for row in rows], pictures, texts, fields.batch_of(objects, schema), {}, notes)


def _text(source: str | None, reasons: list[str]) -> str | None:
    try:
        return text_of(read_text(Path(source_path(source)))[0]) if source else None
    except InvalidInput as problem:
        reasons.append(f"its .txt {problem}")
        return None


def _fields(source: str | None, reasons: list[str]) -> dict[str, Any]:
    try:
        return read_fields(Path(source_path(source))) if source else {}
    except InvalidInput as problem:
        reasons.append(f"its .json {problem}")
        return {}
