"""List of paths and URLs, a line each; blank lines and lines that begin with ``#`` are passed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from clip_client.errors import InvalidInput
from clip_embed.chunks import Chunk, SourceProblem
from clip_embed.inputs.base import PartOf, Plan
from clip_embed.inputs.listing import Item, Listing, listed_chunks
from clip_embed.inputs.references import References
from clip_embed.inputs.table_files import NOTHING, folder_of, label_of, table_files
from clip_embed.inputs.table_rows import picture_of, row_name
from clip_embed.inputs.text_lines import TextLines
from clip_embed.locations import shown
from clip_embed.places import Place

ENDINGS = tuple(f"{ending}{packed}" for ending in (".txt", ".lst", ".list") for packed in ("", ".gz", ".bz2", ".xz"))
_QUOTES = ('"', "'")


@dataclass(frozen=True)
class UrlList:
    """Lists of pictures.

    Attributes:
        location: file or pattern.
    """

    location: str

    kind = "list"

    @property
    def settings(self) -> dict[str, Any]:
        """Return the attributes."""
        return asdict(self)

    def plan(self, part_items: int) -> Plan:
        """Read the files once; their lines become lists."""
        listing: Listing[None] = Listing(part_items, _no_columns)
        left_out: dict[str, str] = {}
        for file in table_files(self.location, ENDINGS):
            label = label_of(file, self.location)
            try:
                for item, size in _items(file, label):
                    listing.add(item, None, size)
            except FileNotFoundError:
                left_out[label] = NOTHING
            except (InvalidInput, SourceProblem) as problem:
                left_out[label] = getattr(problem, "reason", str(problem))
        parts = listing.end()
        if not parts:
            reasons = [f"{name} {reason}" for name, reason in left_out.items()]
            raise InvalidInput(reasons[0] if reasons else f"{shown(self.location)} names no picture: expected one a line")
        return Plan(parts, pa.schema([]), True, False, listing.tables(lambda own: own), left_out)

    def chunks(self, part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
        """Read a list."""
        return listed_chunks(part, schema, place)


def _items(file: str, label: str) -> Iterator[tuple[Item, int]]:
    lines, references = TextLines(file), References(folder_of(file))
    for number, line in enumerate(lines, 1):
        written, problem = line.strip(), lines.bad.pop(number, None)
        if problem is None and (not written or written.startswith("#")):
            continue
        if len(written) > 1 and written[0] in _QUOTES and written[-1] == written[0]:
            written = written[1:-1]
        name = row_name(label, number)
        try:
            picture, told = picture_of(written, references, name)
            yield Item(told if problem is None else name, picture, None, problem), len(line)
        except InvalidInput as told_problem:
            yield Item(name, None, None, problem or str(told_problem)), len(line)


def _no_columns(rows: Sequence[None]) -> list[pa.Array]:
    return []
