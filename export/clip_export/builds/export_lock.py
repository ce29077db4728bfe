"""Lock that admits one export at a time to a folder of artefacts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from clip_client.errors import InvalidInput
from clip_export.artifact_files import LOCK


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the artefacts' folder, so that two exports of one checkpoint don't overwrite each other's files."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout as problem:
        raise InvalidInput(f"another export works in {folder}: wait for it, or pass --artifacts OTHER") from problem
    try:
        yield
    finally:
        lock.release()
