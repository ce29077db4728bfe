"""Texts that keep their meaning while a tower learns: of a file, the collection's captions, else made ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from clip_client.errors import InvalidInput
from clip_export.baseline.clicks import columns
from clip_export.evaluation import generated
from clip_export.learning.pictures import Pictures

_LEAST_CAPTIONS = 20
_EXPECTED = "expected a parquet file with a column text, and perhaps id: of the picture that the text describes"


@dataclass(frozen=True)
class Replay:
    """Different texts, and for each the numbers of the pictures that it describes.

    Attributes:
        source: their name in the lineage.
    """

    source: str
    texts: Sequence[str]
    pictures: Sequence[Sequence[int]]


def texts(file: Path | None, pictures: Pictures) -> Replay:
    """Return the texts of a file, else the captions of the pictures, else made ones.

    Raises:
        InvalidInput: if the file isn't there, or holds no texts.
    """
    if file:
        return _of_file(file, pictures)
    described = [(caption, number) for number, caption in enumerate(pictures.captions) if caption.strip()]
    if len({caption for caption, _ in described}) < _LEAST_CAPTIONS:
        made = [text for text in generated.texts() if text]
        return _joined("generated texts", [(text, None) for text in made])
    return _joined("captions of the collection", described)


def _of_file(file: Path, pictures: Pictures) -> Replay:
    table = columns(file, {"text": pa.string()}, {"id": pa.string()}, _EXPECTED)
    listed = table["text"].to_pylist()
    ids = table["id"].to_pylist() if "id" in table.column_names else [None] * len(listed)
    kept = [(text, pictures.numbers.get(id or "")) for text, id in zip(listed, ids, strict=True) if text and text.strip()]
    if not kept:
        raise InvalidInput(f"{file} holds no texts: {_EXPECTED}")
    return _joined(file.name, kept)


def _joined(source: str, pairs: Iterable[tuple[str, int | None]]) -> Replay:
    """Join the pictures of each text, in the order in which texts came first."""
    pictures: dict[str, dict[int, None]] = {}
    for text, number in pairs:
        pictures.setdefault(text, {}).update({} if number is None else {number: None})
    return Replay(source, [*pictures], [[*some] for some in pictures.values()])
