"""The oracle's verdict, kept in the checkpoint's folder of artefacts until anything that it depends on changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import clip_client
from clip_client.spec import TOWERS, Tower
from clip_export import oracle, oracle_items
from clip_export.artifacts import Artifacts, builders_digest
from clip_export.checkpoint import Checkpoint, Paired
from clip_export.families.base import Family
from clip_export.libraries.base import Library, NotCompared
from clip_export.oracle import Compared, Difference
from clip_export.variants import REFERENCE
from clip_export.variants.base import Artefact, Encoder

RECORD_FILE = "library.json"

_SETTINGS = (".json", ".txt", ".model")
"""Files of a checkpoint, besides its weights, that its library may read."""
_OWN = ("oracle*.py", "libraries/*.py")


def compared(checkpoint: Checkpoint, family: Family, artifacts: Artifacts, folder: Path | None) -> dict[Tower, Compared]:
    """Compare a checkpoint with its library, unless that was done before and nothing has changed.

    Args:
        checkpoint: whose library is asked.
        family: of the checkpoint.
        artifacts: of the checkpoint; our side is what variants will be judged by.
        folder: of the evaluation, some of whose items are compared too.
    """
    spec, path = artifacts.spec, artifacts.folder / RECORD_FILE
    items = oracle_items.collect(folder, spec, checkpoint.tokenizer_json)
    ours = oracle.Ours(spec, checkpoint.tokenizer_json, partial(_encoder, artifacts))
    libraries, given = family.libraries(checkpoint), ours.given(items)
    key = _digest(_inputs(checkpoint, libraries, items.digest(), given, spec.fingerprint))
    if (kept := _read(path)).get("key") == key:
        return {tower: _restored(kept[tower]) for tower in TOWERS}
    artifacts.step("comparing with the checkpoint's own library")
    found = oracle.compare(libraries, items, given, ours, spec)
    if not any(one.missing for one in found.values()):
        _write(path, {"key": key, **{tower: dataclasses.asdict(one) for tower, one in found.items()}})
    return found


def _encoder(artifacts: Artifacts, tower: Tower) -> Encoder:
    return REFERENCE.load(Artefact(artifacts.folder, tower, artifacts.module(tower)))


def _inputs(
    checkpoint: Checkpoint, libraries: Mapping[Tower, Library], items: str, given: Mapping[Tower, Mapping[str, Any]], spec: str
) -> Iterator[bytes]:
    """All that a verdict depends on."""
    yield json.dumps([spec, items, version("clipserve"), builders_digest(), *map(_versions, libraries.values())]).encode()
    for tower in TOWERS:
        for row in given[tower].values():
            yield row.encode() if isinstance(row, str) else row.tobytes()
    for one in (checkpoint.image, checkpoint.text) if isinstance(checkpoint, Paired) else (checkpoint,):
        yield from _contents(one.folder, lambda path: path.suffix in _SETTINGS)
    for folder in (Path(__file__).parent, Path(clip_client.__file__).parent):
        for pattern in (*_OWN, "preprocess.py", "tokens.py"):
            yield from (path.read_bytes() for path in sorted(folder.glob(pattern)))


def _versions(library: Library) -> list[str]:
    try:
        return library.versions()
    except NotCompared as problem:
        return [str(problem)]


def _contents(folder: Path, wanted: Callable[[Path], bool]) -> Iterator[bytes]:
    """The files of a folder and of those in it."""
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if path.is_file() and wanted(path):
            yield str(path.relative_to(folder)).encode("utf-8", "surrogateescape")
            yield path.read_bytes()


def _digest(parts: Iterator[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _restored(fields: dict[str, Any]) -> Compared:
    differences = tuple(Difference(**one) for one in fields["differences"])
    return Compared(**{**fields, "differences": differences, "notes": tuple(fields["notes"])})


def _read(path: Path) -> dict[str, Any]:
    """A record; empty where there is none, or half of one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and {*TOWERS} <= content.keys() else {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
