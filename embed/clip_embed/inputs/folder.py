"""Folder of pictures, with captions and fields in files beside them and in tables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from clip_client.captions import CAPTION
from clip_client.errors import InvalidInput
from clip_client.file_names import as_id, as_source, source_path
from clip_client.folder_tables import Beside, FolderTables, Values, stems, together
from clip_client.picture_files import ENDINGS, Scan, scan
from clip_client.regular_files import read_regular
from clip_client.text_files import decoded, parsed_json
from clip_embed import fields
from clip_embed.chunks import ROWS, Chunk, text_of
from clip_embed.inputs import lists
from clip_embed.inputs.base import PartOf, Plan
from clip_embed.inputs.columns import RESERVED
from clip_embed.inputs.remote_folder import contents, read_remote_table, scan_remote
from clip_embed.places import Place

_SEEN = 1_000  # pictures whose fields tell the columns
_MOST_TEXT = 2**20  # bytes of a caption or of JSON
_BESIDE = (".json", ".txt")
_LIST = pa.schema([(name, pa.string()) for name in ("name", "path", *_BESIDE, "row")])
"""Columns of a list: name of a picture, sources of its file and of those beside it, its fields in tables as JSON."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """Pictures of a folder and of those below it.

    Attributes:
        location: path or URL of the folder.
    """

    location: str

    kind = "files"

    @property
    def settings(self) -> dict[str, Any]:
        """Return the attributes."""
        return asdict(self)

    def plan(self, part_items: int) -> Plan:
        """List the pictures in the order of their names."""
        listing = scan_remote(self.location) if self._is_remote else scan(Path(self.location))
        if not listing.pictures:
            raise InvalidInput(f"no pictures in {self.location}: expected files that end in {', '.join(sorted(ENDINGS))}")
        left_out = {as_id(name): reason for name, reason in listing.left_out.items()}
        rows = [*self._rows(listing, left_out)]
        described = list(islice((row for row in rows if row[".json"] or row["row"]), _SEEN))
        told = [_described(described[n : n + ROWS], {}) for n in range(0, len(described), ROWS)]
        return Plan(
            [{lists.NUMBER: number} for number in range(-(-len(rows) // part_items))],
            fields.schema_of((own for values in told for own in map(_own, values)), RESERVED),
            has_pictures=True,
            has_texts=any(row[".txt"] for row in rows) or any(CAPTION in own for values in told for own in values),
            lists=(pa.Table.from_pylist(rows[n : n + part_items], _LIST) for n in range(0, len(rows), part_items)),
            left_out=left_out,
        )

    def chunks(self, part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
        """Read what lies beside the pictures of a part; the pictures are read later, side by side."""
        if not self._is_remote and not os.path.isdir(self.location):  # or all its pictures would be left out for good
            raise FileNotFoundError(f"{self.location} isn't there any more, or not on this machine")
        rows = lists.load(place, part)
        for start in range(0, len(rows), ROWS):
            yield _chunk(rows.slice(start, ROWS).to_pylist(), schema)

    @property
    def _is_remote(self) -> bool:
        return "://" in self.location

    def _rows(self, listing: Scan, left_out: dict[str, str]) -> Iterator[Row]:
        read = (lambda name: read_remote_table(self.location, name)) if self._is_remote else None

        def note(name: str, reason: str) -> None:
            written, is_row, _ = reason.partition(" is no picture")
            left_out[f"{name}: {written}" if is_row else f"{name}: {reason}" if name in left_out else name] = reason

        tables = FolderTables(Path(self.location), listing, note, read)
        beside = Beside.of(listing.others, stems(listing))
        for file in listing.pictures:
            names = beside.take(file.name)
            row = tables.rows.get(file.name)
            yield {
                "name": as_id(file.name),
                "path": as_source(file.path),
                **{ending: self._source(names[ending]) if ending in names else None for ending in _BESIDE},
                "row": json.dumps(row, default=str) if row else None,
            }

    def _source(self, name: str) -> str:
        if self._is_remote:
            return f"{self.location.rstrip('/')}/{name}"
        return as_source(os.path.join(os.path.abspath(self.location), name))


def _chunk(rows: Sequence[Row], schema: pa.Schema) -> Chunk:
    reasons: dict[int, str] = {}
    values = _described(rows, reasons)
    notes = {n: f"{reason}; the picture goes in without it" for n, reason in reasons.items()}
    pictures = [source_path(row["path"]) for row in rows]
    texts = [text_of(value.get(CAPTION)) for value in values]
    return Chunk([row["name"] for row in rows], pictures, texts, fields.batch_of([*map(_own, values)], schema), {}, notes)


def _own(values: Values) -> Values:
    return {name: value for name, value in values.items() if name != CAPTION}


def _described(rows: Sequence[Row], reasons: dict[int, str]) -> list[Values]:
    """Return fields and captions, from the ``.json``, the ``.txt`` and the tables: the last that has a field goes first."""
    urls = [row[ending] for row in rows for ending in _BESIDE if row[ending] and _is_remote(row[ending])]
    fetched = contents(urls)
    described = []
    for n, row in enumerate(rows):
        values = [_read(row[ending], ending, n, fetched, reasons) for ending in _BESIDE if row[ending]]
        described.append(together([*values, json.loads(row["row"] or "{}")]))
    return described


def _read(
    source: str, ending: str, number: int, fetched: Mapping[str, bytes | InvalidInput], reasons: dict[int, str]
) -> Values:
    """Return the caption in a ``.txt`` or the fields in a ``.json``; note the reason if it can't be read."""
    try:
        content = fetched[source] if _is_remote(source) else read_regular(source_path(source), _MOST_TEXT)[0]
        if isinstance(content, InvalidInput):
            raise content
        text = decoded(content)[0]
        if ending == ".txt":
            return {CAPTION: text.strip()} if text.strip() else {}
        parsed = parsed_json(text)
        if not isinstance(parsed, dict):
            raise InvalidInput(f"holds a {type(parsed).__name__}: expected an object, {{name: value}}")
        return parsed
    except InvalidInput as problem:
        before = f"{reasons[number]}; " if number in reasons else ""
        reasons[number] = f"{before}its {ending} {problem}"
        return {}


def _is_remote(source: str) -> bool:
    return "://" in source and not source.startswith("file://")
