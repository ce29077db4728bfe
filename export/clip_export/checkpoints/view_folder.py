"""View folders: a checkpoint's small files, copied, with converted weights in the place of its pickles."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from clip_client.errors import InvalidInput
from clip_client.hard_links import link
from clip_export.checkpoints.conversion import RECORD, Conversion
from clip_export.checkpoints.file_names import SAFETENSORS, SETTINGS
from clip_export.checkpoints.weight_formats import INDEX

_LARGEST = 2**28  # bytes of a settings file; the largest tokenizers have 40 MB
_DEPTHS = ("*", "*/*", "*/*/*")  # sentence-transformers keeps a folder for each module, Multilingual-CLIP its base's config


def made(folder: Path, source: Path | None, weights: Mapping[Path, tuple[Path, Conversion]]) -> Path:
    """Return the view of a checkpoint's present files in a folder of views; one of the same files isn't made again.

    Args:
        folder: of all views.
        source: the checkpoint's folder; None for weights alone.
        weights: converted files by their place in the view.

    Raises:
        InvalidInput: if it can't be written.
    """
    files = _files(source, folder) if source else {}
    settings = {place: file for place, file in files.items() if place.suffix in SETTINGS and _is_kept(place, file)}
    linked = {place: path for place, (path, _) in weights.items()}
    converted = {place.parent for place in weights}
    linked |= {place: file for place, file in files.items() if place.suffix == SAFETENSORS and place.parent not in converted}
    records = json.dumps({str(place): dataclasses.asdict(conversion) for place, (_, conversion) in weights.items()}, indent=1)
    view = folder / _key(settings, linked, records)
    if view.is_dir():
        return view
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".view-") as scratch:
            new = Path(scratch) / "new"
            _write(new, settings, linked, records)
            _settle(new, view)
    except OSError as problem:
        raise InvalidInput(f"{view} can't be written ({problem}): make room there") from problem
    return view


def _files(source: Path, folder: Path) -> dict[Path, Path]:
    """Return a checkpoint's files by place, without hidden ones and without the artefacts, where they lie in its folder."""
    source = source.resolve()
    artefacts = folder.relative_to(source).parts[0] if folder.is_relative_to(source) else ""
    files = {file.relative_to(source): file for depth in _DEPTHS for file in sorted(source.glob(depth)) if file.is_file()}
    shown = {place: file for place, file in files.items() if not any(part.startswith(".") for part in place.parts)}
    return {place: file.resolve() for place, file in shown.items() if place.parts[0] != artefacts}


def _is_kept(place: Path, file: Path) -> bool:
    """Return whether a small file describes the checkpoint, not the parts that its weights were in."""
    return not place.name.endswith(INDEX) and place.name != RECORD and file.stat().st_size <= _LARGEST


def _key(settings: Mapping[Path, Path], linked: Mapping[Path, Path], records: str) -> str:
    parts = [f"{place}\0{hashlib.sha256(file.read_bytes()).hexdigest()}" for place, file in settings.items()]
    for place, file in linked.items():
        about = file.stat()
        parts.append(f"{place}\0{file.name}\0{about.st_size}\0{about.st_mtime_ns}")
    whole = "\n".join([*sorted(parts), records]).encode("utf-8", "surrogateescape")
    return hashlib.sha256(whole).hexdigest()


def _write(new: Path, settings: Mapping[Path, Path], linked: Mapping[Path, Path], records: str) -> None:
    for place, file in settings.items():
        (new / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, new / place)  # the original may be edited in place
    for place, file in linked.items():
        (new / place).parent.mkdir(parents=True, exist_ok=True)
        link(file, new / place)
    (new / RECORD).write_text(records + "\n", encoding="utf-8")


def _settle(new: Path, view: Path) -> None:
    try:
        new.rename(view)
    except OSError:
        if not view.is_dir():  # else another export was first, with the same files
            raise
