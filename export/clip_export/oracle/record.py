"""Keep the oracle's verdict in the checkpoint's folder of artefacts until anything that it depends on changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import clip_client
from clip_client.spec import TOWERS, Tower
from clip_export import json_record
from clip_export.artifact_files import LIBRARY_RECORD
from clip_export.builds import build_key
from clip_export.builds.judge import Artifacts
from clip_export.checkpoints.checkpoint import Checkpoint, Paired
from clip_export.checkpoints.file_names import SETTINGS
from clip_export.families.base import Family
from clip_export.libraries.base import Library, NotCompared
from clip_export.oracle import comparison, items
from clip_export.oracle.comparison import Compared, Difference
from clip_export.variants import REFERENCE
from clip_export.variants.base import Artefact, Encoder

_OWN = ("oracle/*.py", "libraries/*.py")


def compared(checkpoint: Checkpoint, family: Family, artifacts: Artifacts, folder: Path | None) -> dict[Tower, Compared]:
    """Compare a checkpoint with its library, or return the verdict of an earlier run if nothing has changed.

    Args:
        checkpoint: to compare.
        family: of the checkpoint.
        artifacts: of the checkpoint; their torch tower is our side.
        folder: of the evaluation; some of its items are compared too.
    """
    spec, path = artifacts.spec, artifacts.folder / LIBRARY_RECORD
    compared_items = items.collect(folder, spec, checkpoint.tokenizer_json)
    ours = comparison.Ours(spec, checkpoint.tokenizer_json, partial(_encoder, artifacts))
    libraries, given = family.libraries(checkpoint), ours.given(compared_items)
    key = _digest(_inputs(checkpoint, libraries, compared_items.digest(), given, spec.fingerprint))
    if (kept := json_record.read(path)).get("key") == key and {*TOWERS} <= kept.keys():
        return {tower: _restored(kept[tower]) for tower in TOWERS}
    artifacts.progress("comparing with the checkpoint's own library")
    verdicts = comparison.compare(libraries, compared_items, given, ours, spec)
    if not any(verdict.missing for verdict in verdicts.values()):
        fields: dict[str, Any] = {tower: dataclasses.asdict(verdict) for tower, verdict in verdicts.items()}
        json_record.write(path, {"key": key, **fields})
    return verdicts


def _encoder(artifacts: Artifacts, tower: Tower) -> Encoder:
    return REFERENCE.load(Artefact(artifacts.folder, tower, artifacts.module(tower)))


def _inputs(
    checkpoint: Checkpoint, libraries: Mapping[Tower, Library], items: str, given: Mapping[Tower, Mapping[str, Any]], spec: str
) -> Iterator[bytes]:
    """Yield everything that a verdict depends on."""
    yield json.dumps(
        [spec, items, version("clipserve"), build_key.builders_digest(), *map(_versions, libraries.values())]
    ).encode()
    for tower in TOWERS:
        for row in given[tower].values():
            yield row.encode() if isinstance(row, str) else row.tobytes()
    for part in (checkpoint.image, checkpoint.text) if isinstance(checkpoint, Paired) else (checkpoint,):
        yield from _settings(part.folder)
    for folder in (Path(__file__).parents[1], Path(clip_client.__file__).parent):
        for pattern in (*_OWN, "preprocess.py", "naflex.py", "tokens.py"):
            yield from (path.read_bytes() for path in sorted(folder.glob(pattern)))


def _versions(library: Library) -> list[str]:
    try:
        return library.versions()
    except NotCompared as problem:
        return [str(problem)]


def _settings(folder: Path) -> Iterator[bytes]:
    """Yield names and contents of the settings in a folder and in its folders."""
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if path.is_file() and path.suffix in SETTINGS:
            yield str(path.relative_to(folder)).encode("utf-8", "surrogateescape")
            yield path.read_bytes()


def _digest(parts: Iterator[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _restored(fields: dict[str, Any]) -> Compared:
    differences = tuple(Difference(**difference) for difference in fields["differences"])
    return Compared(**{**fields, "differences": differences, "notes": tuple(fields["notes"])})
