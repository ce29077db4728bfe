"""Folder of pictures with captions, in folders by class, or without any labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clip_client.captions import CAPTION_TABLES, TABLES, Table, caption_list, is_caption, read_table
from clip_client.counting import counted
from clip_client.errors import InvalidInput
from clip_client.file_names import Names, as_id
from clip_client.picture_files import Scan, scan

_TRAIN, _PARTS = "train", ("train", "test", "val", "validation")
_MISSING = ("file that isn't there,", "files that aren't there, the first is")
_SET_ASIDE = 256
_SPLIT_FROM = 72  # smaller folders are judged whole


@dataclass(frozen=True)
class Picture:
    """One file with its captions, or the name of its class, or neither.

    Attributes:
        problems: unusable captions of it, or unusable rows of the table that they come from.
    """

    file: Path
    captions: tuple[str, ...] = ()
    label: str = ""
    problems: tuple[str, ...] = ()


def read(folder: Path) -> list[Picture]:
    """Return all pictures of a folder, unreadable ones too; where there is a file of captions, those that it names.

    Raises:
        InvalidInput: if there is no such folder, or the captions can't be read or name none of its files.
    """
    files = scan(folder)
    if pictures := _captioned(folder, files):
        return pictures
    names = [file.name for file in files.pictures]
    labels = [_class(Path(name)) for name in names]
    classified = len(set(labels)) > 1 and all(labels)
    left_out = [Picture(folder / name) for name in sorted(files.left_out)]
    return [
        Picture(folder / name, label=label if classified else "") for name, label in zip(names, labels, strict=True)
    ] + left_out


def split(pictures: Sequence[Picture], folder: Path) -> tuple[list[Picture], list[Picture]]:
    """Return (evaluation, calibration): the latter is ``train/``, else a seeded third of a larger folder."""
    training = [picture for picture in pictures if picture.file.relative_to(folder).parts[:1] == (_TRAIN,)]
    if not training and len(pictures) >= _SPLIT_FROM:
        count = min(len(pictures) // 3, _SET_ASIDE)
        positions = np.random.default_rng(0).permutation(len(pictures))[:count]
        training = [pictures[position] for position in sorted(positions)]
    aside = {picture.file for picture in training}
    return [picture for picture in pictures if picture.file not in aside], training


def _class(path: Path) -> str:
    """Return the class that a picture's folder names; empty for a picture that lies in none."""
    folders = [part for part in path.parts[:-1] if part not in _PARTS]
    return folders[0].replace("_", " ") if folders else ""


def _captioned(folder: Path, files: Scan) -> list[Picture]:
    """Return the pictures that a table of captions names; none where there is no such table."""
    tables = ((folder / name, _table(folder / name)) for name in TABLES if (folder / name).exists())
    path, table = next(((path, table) for path, table in tables if table), (folder, None))
    if table is None:
        return []
    names = Names([*(file.name for file in files.pictures), *files.left_out], folder)
    captions: dict[str, list[Mapping[str, Any]]] = {}
    for written, rows in table.rows.items():
        captions.setdefault(table.file(written, names) or below(written), []).extend(rows)
    missing = [name for name in captions if not os.path.lexists(folder / name)]
    if len(missing) == len(captions):
        raise InvalidInput(f"the captions in {folder} name {counted(len(missing), *_MISSING)} {missing[0]}")
    texts = {name: caption_list(rows) for name, rows in captions.items()}
    problems = [f"{path.name}: {problem}" for problem in table.problems]
    problems += [f"{as_id(name)}: it has no caption, or an empty one" for name in texts if not texts[name]]
    pictures = [Picture(folder / name, texts[name]) for name in texts if texts[name]]
    if not pictures:
        raise InvalidInput(f"none of the captions in {path} can be used: {problems[0]}")
    return [replace(pictures[0], problems=tuple(problems)), *pictures[1:]]


def _table(path: Path) -> Table | None:
    """Read a table with a caption in one row at least; return None for a table of other things."""
    expected = '[{"file": …, "captions": […]}, …]' if path.suffix == ".json" else "the columns file_name and caption"
    try:
        table = read_table(path)
    except InvalidInput as problem:
        raise InvalidInput(f"{path}: expected {expected}: {problem}") from problem
    if any(any(map(is_caption, row)) for rows in table.rows.values() for row in rows):
        return table
    if path.name in CAPTION_TABLES:
        raise InvalidInput(f"{path}: expected {expected}, got no row with both; {'; '.join(table.problems[:3])}")
    return None


def below(written: str) -> str:
    """Return a name that can't lead out of the folder."""
    return os.path.normpath(f"/{written.lstrip('/')}")[1:] or written
