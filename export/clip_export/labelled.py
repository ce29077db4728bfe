"""A folder of pictures as its owner labelled it: with captions, in folders by class, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.errors import InvalidInput

CAPTIONS_JSON, CAPTIONS_PARQUET = "captions.json", "captions.parquet"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_TRAIN, _PARTS = "train", ("train", "test", "val", "validation")
_SET_ASIDE = 256
_SPLIT_FROM = 72  # smaller folders are judged whole


@dataclass(frozen=True)
class Picture:
    """One file and what is known of it: captions, or the name of its class, or neither."""

    file: Path
    captions: tuple[str, ...] = ()
    label: str = ""


def read(folder: Path) -> list[Picture]:
    """All pictures of a folder; where there is a file of captions, those that it names.

    Raises:
        InvalidInput: no such folder, captions that name missing files or can't be read.
    """
    if not folder.is_dir():
        raise InvalidInput(f"no folder {folder}: expected a folder of pictures")
    if captions := _captions(folder):
        return [Picture(folder / name, tuple(texts)) for name, texts in captions.items()]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    labels = [_class(file.relative_to(folder)) for file in files]
    classified = len(set(labels)) > 1 and all(labels)
    return [Picture(file, label=label if classified else "") for file, label in zip(files, labels, strict=True)]


def split(pictures: Sequence[Picture], folder: Path) -> tuple[list[Picture], list[Picture]]:
    """(to judge on, to calibrate with): what lies in ``train/`` is for the latter, else a seeded third of a larger folder."""
    training = [one for one in pictures if one.file.relative_to(folder).parts[0] == _TRAIN]
    if not training and len(pictures) >= _SPLIT_FROM:
        count = min(len(pictures) // 3, _SET_ASIDE)
        positions = np.random.default_rng(0).permutation(len(pictures))[:count]
        training = [pictures[position] for position in sorted(positions)]
    aside = {one.file for one in training}
    return [one for one in pictures if one.file not in aside], training


def _class(path: Path) -> str:
    """The class that a picture's folder names; empty for a picture that lies in none."""
    folders = [part for part in path.parts[:-1] if part not in _PARTS]
    return folders[0].replace("_", " ") if folders else ""


def _captions(folder: Path) -> dict[str, list[str]]:
    """Captions by file name, from either of the two files; empty where there is neither."""
    if (folder / CAPTIONS_PARQUET).exists():
        captions = _from_parquet(folder / CAPTIONS_PARQUET)
    elif (folder / CAPTIONS_JSON).exists():
        captions = _from_json(folder / CAPTIONS_JSON)
    else:
        return {}
    if missing := [name for name in captions if not (folder / name).is_file()]:
        raise InvalidInput(f"the captions in {folder} name {len(missing)} files that aren't there, the first is {missing[0]}")
    return captions


def _from_json(path: Path) -> dict[str, list[str]]:
    """``[{"file": "a.jpg", "captions": ["…"]}]``."""
    try:
        return {row["file"]: list(_as_list(row["captions"])) for row in json.loads(path.read_text(encoding="utf-8"))}
    except (ValueError, TypeError, KeyError) as problem:
        raise InvalidInput(f'{path}: expected [{{"file": …, "captions": […]}}, …], got {problem!r}') from problem


def _from_parquet(path: Path) -> dict[str, list[str]]:
    """Columns ``file_name`` and ``caption``."""
    try:
        rows = pq.read_table(path, columns=["file_name", "caption"]).to_pylist()
    except (pa.ArrowException, KeyError) as problem:
        raise InvalidInput(f"{path}: expected the columns file_name and caption: {problem}") from problem
    return {row["file_name"]: [row["caption"]] for row in rows}


def _as_list(captions: Any) -> Iterator[str]:
    yield from [captions] if isinstance(captions, str) else captions
