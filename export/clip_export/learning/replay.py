"""Texts that keep their meaning while a tower learns: of a file, the collection's captions, else made ones."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Texts, and for each the number of the picture that it describes; -1 for none.

    Attributes:
        source: their name in the lineage.
    """

    source: str
    texts: Sequence[str]
    pictures: Sequence[int]


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
        return Replay("generated texts", made, [-1] * len(made))
    return Replay("captions of the collection", [caption for caption, _ in described], [number for _, number in described])


def _of_file(file: Path, pictures: Pictures) -> Replay:
    table = columns(file, {"text": pa.string()}, {"id": pa.string()}, _EXPECTED)
    listed = table["text"].to_pylist()
    ids = table["id"].to_pylist() if "id" in table.column_names else [None] * len(listed)
    kept = [(text, pictures.numbers.get(id or "", -1)) for text, id in zip(listed, ids, strict=True) if text and text.strip()]
    if not kept:
        raise InvalidInput(f"{file} holds no texts: {_EXPECTED}")
    return Replay(file.name, [text for text, _ in kept], [number for _, number in kept])
