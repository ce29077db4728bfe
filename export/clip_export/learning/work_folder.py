"""Work folder of a run: inputs as they were at its start, the state of the training, the result until it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clip_client.errors import InvalidInput

_RUN, _LOCK = "run.json", "lock"


class WorkFolder:
    """Folder beside the output, which takes the output's place when all is done.

    Args:
        output: of the run.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self.folder = output.with_name(f"{output.name}.unfinished")
        self.feedback = self.folder / "feedback.parquet"
        self.pictures = self.folder / "pictures.parquet"
        self.state = self.folder / "state.pt"
        self.result = self.folder / "result"

    @contextmanager
    def begun(self, identity: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for a run, which goes on if it was begun with the same settings.

        Raises:
            InvalidInput: if another process works there, or other settings began it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / _LOCK, blocking=False)
        try:
            lock.acquire()
        except Timeout as problem:
            raise InvalidInput(f"another run works in {self.folder}: wait for it, or name another --output") from problem
        try:
            self._refuse_others(identity)
            yield
        finally:
            lock.release()

    def _refuse_others(self, identity: Mapping[str, Any]) -> None:
        path = self.folder / _RUN
        if not path.exists():
            write_json(path, identity)
            return
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            begun = {}
        if different := [name for name in identity if begun.get(name) != identity[name]]:
            name = different[0]
            raise InvalidInput(
                f"{self.folder} was begun with {name} {begun.get(name)}, this run has {identity[name]}: give the same options, "
                "name another --output, or remove that folder"
            )

    def fresh_result(self) -> Path:
        """Return the folder for the result, empty."""
        shutil.rmtree(self.result, ignore_errors=True)
        self.result.mkdir()
        return self.result

    def finish(self) -> None:
        """Put the result in the output's place, and remove the rest."""
        os.replace(self.result, self._output)
        shutil.rmtree(self.folder, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON; the file is there whole, or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(new, path)


def digest(path: Path | None) -> str:
    """Return a digest of a file's content; empty for none.

    Raises:
        InvalidInput: if it can't be read.
    """
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise InvalidInput(f"{path} can't be read ({problem.strerror}): name a parquet file") from problem
