"""Items of parts that were listed while planning: kept beside the manifest, so that each part is read by itself."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import InvalidInput
from clip_embed.inputs.base import PartOf
from clip_embed.places import OWN, Place

FOLDER = f"{OWN}/items"
NUMBER = "list"
"""Key of a listed part: the number of its list."""


def store(place: Place, lists: Iterable[pa.Table]) -> str:
    """Write the items of each part; return the digest of all."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="items-") as folder:
        for number, table in enumerate(lists):
            file = Path(folder) / "items.parquet"
            pq.write_table(table, file)
            digest.update(file.read_bytes())
            place.take(file, f"{FOLDER}/{number}.parquet")
    return digest.hexdigest()


def load(place: Place, part: PartOf) -> pa.Table:
    """Return the items of a part."""
    content = place.read(f"{FOLDER}/{part[NUMBER]}.parquet")
    if content is None:
        raise InvalidInput(f"{place.name} lacks the list of a part, {FOLDER}/{part[NUMBER]}.parquet: choose another output")
    return pq.read_table(pa.BufferReader(content))
