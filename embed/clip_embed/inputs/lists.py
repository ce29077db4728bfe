"""Items of parts that were listed while planning: kept beside the manifest, so that each part is read by itself."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import InvalidInput
from clip_embed.inputs.base import PartOf, Plan
from clip_embed.places import OWN, Place

FOLDER = f"{OWN}/items"
NUMBER = "list"
"""Key of a listed part: the number of its list, and in a manifest the list's name."""


def store(place: Place, plan: Plan) -> list[PartOf]:
    """Write the lists of a plan, named by their content; return the parts, which refer to them.

    Several processes may plan at once, each as the input is at that moment: none writes over another's lists.
    """
    names: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix="items-") as folder:
        for number, table in enumerate(plan.lists):
            file = Path(folder) / "items.parquet"
            pq.write_table(table, file)
            names[number] = f"{number}-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
            place.take(file, f"{FOLDER}/{names[number]}.parquet")
    return [{**part, NUMBER: names[part[NUMBER]]} if NUMBER in part else part for part in plan.parts]


def load(place: Place, part: PartOf) -> pa.Table:
    """Return the items of a part."""
    content = place.read(f"{FOLDER}/{part[NUMBER]}.parquet")
    if content is None:
        raise InvalidInput(f"{place.name} lacks the list of a part, {FOLDER}/{part[NUMBER]}.parquet: choose another output")
    return pq.read_table(pa.BufferReader(content))
