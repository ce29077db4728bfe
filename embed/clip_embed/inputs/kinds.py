"""Kinds of inputs: told by what the location names, or by the user."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from clip_client.errors import InvalidInput
from clip_client.file_names import source_path
from clip_client.picture_files import is_picture_name
from clip_embed.inputs import csv_table, dataset, json_lines, parquet, url_list
from clip_embed.inputs.base import Input
from clip_embed.inputs.csv_table import Csv
from clip_embed.inputs.dataset import DataSet
from clip_embed.inputs.folder import Folder
from clip_embed.inputs.json_lines import JsonLines
from clip_embed.inputs.options import InputOptions
from clip_embed.inputs.parquet import Parquet
from clip_embed.inputs.url_list import UrlList
from clip_embed.inputs.webdataset import PIPE, WebDataset
from clip_embed.locations import opened_url, remote_errors, shown

KINDS: Mapping[str, Any] = {kind.kind: kind for kind in (Folder, WebDataset, Parquet, Csv, JsonLines, UrlList, DataSet)}

_TAR = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz)$", re.I)
_TABLES: Mapping[str, tuple[str, ...]] = {
    Parquet.kind: parquet.ENDINGS,
    Csv.kind: csv_table.ENDINGS,
    JsonLines.kind: json_lines.ENDINGS,
    UrlList.kind: url_list.ENDINGS,
}
_LOOKED_AT = 10_000  # files of a folder that tell its kind
_STATS = "_stats.json"  # behind the name of a table: img2dataset's record of it
_TAKEN = "a folder of pictures, shards (.tar), a table (.parquet, .csv, .tsv, .jsonl), a list (.txt) or a data set on disk"


def of_settings(kind: str, settings: Mapping[str, Any]) -> Input:
    """Return the input that another process described."""
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    made: Input = KINDS[kind](**tuples)
    return made


def source_of(location: str, options: InputOptions) -> Input:
    """Return the input of a location.

    Raises:
        InvalidInput: nothing is there, or its kind can't be told.
    """
    if location.lower().startswith("file://"):
        location = source_path(f"file://{location[7:].removeprefix('localhost')}")
    kind = options.kind or _kind(location)
    if kind == DataSet.kind and not os.path.exists(os.path.expanduser(location)):
        return DataSet(location, options.image_column, options.caption_column, options.split)
    return _MAKERS[kind](_absolute(location), options)


_MAKERS: Mapping[str, Callable[[str, InputOptions], Input]] = {
    Folder.kind: lambda location, options: Folder(location),
    WebDataset.kind: lambda location, options: WebDataset(_shards(location), options.image_keys, options.caption_keys),
    Parquet.kind: lambda location, options: Parquet(location, options.image_column, options.caption_column),
    Csv.kind: lambda location, options: Csv(location, options.image_column, options.caption_column),
    JsonLines.kind: lambda location, options: JsonLines(location, options.image_column, options.caption_column),
    UrlList.kind: lambda location, options: UrlList(location),
    DataSet.kind: lambda location, options: DataSet(location, options.image_column, options.caption_column, options.split),
}


def _kind(location: str) -> str:
    name = location.partition("?")[0] if "://" in location else location
    if location.startswith(PIPE) or _TAR.search(name):
        return WebDataset.kind
    if _is_folder(location):
        with remote_errors(location):
            return _kind_of_folder(location)
    if kind := _table(name):
        return kind
    if "://" not in location and not os.path.lexists(location):
        raise InvalidInput(
            f"nothing is at {location}: expected {_TAKEN}; for a data set's name pass --input-format {DataSet.kind} too"
        )
    if is_picture_name(name):
        raise InvalidInput(f"{shown(location)} is a picture: expected {_TAKEN}")
    raise InvalidInput(f"the kind of {shown(location)} can't be told: pass --input-format, one of {', '.join(sorted(KINDS))}")


def _table(name: str) -> str | None:
    """Return the kind of a table or a list by its ending."""
    return next((kind for kind, endings in _TABLES.items() if name.lower().endswith(endings)), None)


def _kind_of_folder(location: str) -> str:
    """Tell the kind of a folder by the files in it."""
    counts = Counter[str]()
    names = list(islice(_names(location), _LOOKED_AT))
    tables = {name.removesuffix(ending) for name in names for ending in parquet.ENDINGS if name.endswith(ending)}
    for name in names:
        base = name.rpartition("/")[2]
        if base in dataset.MARKS and base == name:
            return DataSet.kind
        if is_picture_name(base):
            counts[Folder.kind] += 1
        elif _TAR.search(base):
            counts[WebDataset.kind] += 1
        elif name.endswith(_STATS) and name.removesuffix(_STATS) in tables:
            continue
        elif not any(part.startswith((".", "_")) for part in name.split("/")) and (kind := _table(base)):
            counts[kind] += 1
    # Texts and tables describe the pictures and shards that they lie beside.
    several = {kind for kind in (Folder.kind, WebDataset.kind) if counts[kind]} or {kind for kind in counts if counts[kind]}
    if len(several) > 1:
        told = ", ".join(f"{_NOUNS[kind]} ({counts[kind]:,})" for kind in sorted(several))
        raise InvalidInput(
            f"{shown(location)} is a mixture of {told}: pass --input-format, one of {', '.join(sorted(several))}"
        )
    return next(iter(several), Folder.kind)


_NOUNS = {
    **{Folder.kind: "pictures", WebDataset.kind: "shards", Parquet.kind: "parquet files", Csv.kind: "csv files"},
    **{JsonLines.kind: "files of JSON", UrlList.kind: "texts"},
}


def _names(location: str) -> Iterator[str]:
    """Yield the names of files below a folder, those of the folder itself first."""
    if "://" not in location:
        for folder, folders, names in os.walk(location):
            folders.sort()
            yield from (os.path.relpath(os.path.join(folder, name), location) for name in sorted(names))
        return
    files, path = opened_url(location)
    root = path.strip("/")
    for folder, _, names in files.walk(path):
        below = folder.strip("/").removeprefix(root).strip("/")
        yield from (f"{below}/{name}" if below else name for name in sorted(names))


def _is_folder(location: str) -> bool:
    if "://" not in location:
        return os.path.isdir(os.path.expanduser(location))
    if location.lower().startswith(("http://", "https://")) or set("*?[{") & set(location):
        return False
    files, path = opened_url(location)
    with remote_errors(location):
        return bool(files.isdir(path))


def _shards(location: str) -> str:
    """Return the pattern of the shards in a folder of a store; other locations as they are."""
    if "://" in location and not _TAR.search(location.partition("?")[0]) and _is_folder(location):
        return f"{location.rstrip('/')}/**/*.tar*"
    return location


def _absolute(location: str) -> str:
    """Return a location that another process finds, from whatever folder it starts in."""
    return location if "://" in location or location.startswith(PIPE) else os.path.abspath(os.path.expanduser(location))
