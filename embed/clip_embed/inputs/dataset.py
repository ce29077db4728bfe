"""Data sets of Hugging Face: folders of ``save_to_disk``, and names for ``load_dataset``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_embed.chunks import ROWS, Chunk
from clip_embed.inputs.base import PartOf, Plan
from clip_embed.inputs.columns import Named, chosen
from clip_embed.inputs.references import References
from clip_embed.inputs.table_rows import TableRows
from clip_embed.locations import opened_url, remote_errors, shown, told
from clip_embed.places import Place

MARKS = ("dataset_info.json", "dataset_dict.json", "state.json")
"""Files that folders of ``save_to_disk`` have."""


@dataclass(frozen=True)
class DataSet:
    """Rows of one split.

    Attributes:
        location: folder, or name as ``NAME`` or ``NAME:CONFIGURATION``.
        image_column, caption_column: None for a usual name.
        split: None for the only one.
    """

    location: str
    image_column: str | None = None
    caption_column: str | None = None
    split: str | None = None

    kind = "dataset"

    @property
    def settings(self) -> dict[str, Any]:
        """Return the attributes."""
        return asdict(self)

    def plan(self, part_items: int) -> Plan:
        """Make parts of rows that follow each other."""
        rows = _loaded(self.location, self.split)
        schema = rows.data.schema
        try:
            columns = chosen(schema, self._named)
        except InvalidInput as problem:
            raise InvalidInput(f"{shown(self.location)} {problem}") from problem
        if not len(rows):
            raise InvalidInput(f"{shown(self.location)} has no rows: name another one, or another --split")
        parts: list[PartOf] = [
            {"first": first, "last": min(first + part_items, len(rows)), "of": len(rows)}
            for first in range(0, len(rows), part_items)
        ]
        return Plan(parts, columns.schema(schema), columns.image is not None, columns.caption is not None)

    def chunks(self, part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
        """Read some rows; they are mapped, not held in memory."""
        rows = _loaded(self.location, self.split)
        if len(rows) != part["of"]:
            raise Unavailable(
                f"{shown(self.location)} has {len(rows):,} rows, not {part['of']:,} as planned: choose another output"
            )
        label = os.path.basename(self.location.rstrip("/")) + (f"[{self.split}]" if self.split else "")
        made = TableRows(label, chosen(rows.data.schema, self._named), schema, _references(self.location))
        for first in range(part["first"], part["last"], ROWS):
            last = min(first + ROWS, part["last"])
            try:
                yield made.chunk(rows[first:last].combine_chunks().to_batches()[0], first + 1)
            except pa.ArrowException as problem:
                yield made.lost(first + 1, last - first, f"can't be read ({told(problem)}): save the data set again")

    @property
    def _named(self) -> Named:
        return Named(self.image_column, self.caption_column)


@lru_cache(maxsize=1)
def _loaded(location: str, split: str | None) -> Any:
    """Return the rows as Arrow has them, pictures not decoded.

    Raises:
        InvalidInput: it is damaged, there is no such data set, or the split isn't told.
        Unavailable: a package isn't installed, or the hub can't be reached.
    """
    try:
        import datasets
    except ImportError as problem:
        raise Unavailable(f"{shown(location)} needs another package: pip install 'clipserve[datasets]'") from problem
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_from_disk(location) if _is_saved(location) else _by_name(location)
    except ClipError:
        raise
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as problem:
        raise InvalidInput(
            f"{shown(location)} can't be loaded ({told(problem)}): expected a folder of save_to_disk, or a name on a hub "
            "that can be reached or is in its cache"
        ) from problem
    except Exception as problem:  # of any library that reads one
        raise InvalidInput(f"{shown(location)} can't be loaded ({told(problem)}): look at it with datasets itself") from problem
    return _of_split(loaded, split, location).with_format("arrow")


def _by_name(location: str) -> Any:
    import datasets

    name, _, configuration = location.partition(":")
    return datasets.load_dataset(name, configuration or None)


def _of_split(loaded: Any, split: str | None, location: str) -> Any:
    import datasets

    if not isinstance(loaded, datasets.DatasetDict):
        if split and str(loaded.split or split) != split:
            raise InvalidInput(f"{shown(location)} is the split {loaded.split}, not {split}: leave --split away")
        return loaded
    if split is None and len(loaded) == 1:
        return next(iter(loaded.values()))
    if split not in loaded:
        other = f", not {split}" if split else ""
        raise InvalidInput(f"{shown(location)} has the splits {', '.join(loaded)}{other}: pass --split with one of them")
    return loaded[split]


def _is_saved(location: str) -> bool:
    if "://" not in location:
        return any(os.path.exists(os.path.join(location, mark)) for mark in MARKS)
    files, path = opened_url(location)
    with remote_errors(location):
        return any(files.exists(f"{path}/{mark}") for mark in MARKS)


def _references(location: str) -> References:
    """Return what a data set may name: one from a hub names files that the libraries have downloaded, and no others."""
    if "://" in location or os.path.isdir(location):
        return References(location)
    import datasets
    from huggingface_hub import constants

    caches = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, constants.HF_HUB_CACHE)
    return References(str(datasets.config.HF_DATASETS_CACHE), tuple(map(str, caches)))
