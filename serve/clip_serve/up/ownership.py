"""Owner of a database: one run at a time; others read who has it, and where."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from clip_client.errors import InvalidInput

_FOLDER = ".clipserve-up"  # in the database, a name that no collection can have
_LOCK, _OWNER, _SHOWN = "lock", "owner.json", "shown.json"
_PRIVATE = 0o700


@dataclass(frozen=True)
class Owner:
    """Run that has a database; the URL is empty while it starts."""

    pid: int
    url: str
    model: str
    fingerprint: str


class Place:
    """Folder of a run's own files in a database."""

    def __init__(self, data: Path) -> None:
        self.folder = data / _FOLDER
        try:
            if not data.exists():
                data.mkdir(_PRIVATE, parents=True)
            self.folder.mkdir(_PRIVATE, exist_ok=True)
        except OSError as problem:
            raise InvalidInput(
                f"--data {data} can't be used ({problem.strerror}): name a folder that can be written"
            ) from problem

    @contextlib.contextmanager
    def owned(self) -> Iterator[bool]:
        """Own the database; gives False where another run has it."""
        lock = FileLock(self.folder / _LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        except OSError as problem:
            raise InvalidInput(f"{self.folder} can't be locked ({problem}): name another --data") from problem
        try:
            self.tell(Owner(os.getpid(), "", "", ""))
            yield True
        finally:
            (self.folder / _OWNER).unlink(missing_ok=True)
            lock.release()

    def tell(self, owner: Owner) -> None:
        """Write who has the database, in one step."""
        self._write(_OWNER, asdict(owner))

    def owner(self) -> Owner | None:
        """Return the run that has the database; None if none says so."""
        content = self._read(_OWNER)
        if not isinstance(content, dict):
            return None
        with contextlib.suppress(TypeError, ValueError, KeyError):
            return Owner(int(content["pid"]), *(str(content[name]) for name in ("url", "model", "fingerprint")))
        return None

    def shown(self, paths: Sequence[Path]) -> list[Path]:
        """Return what the page may show in full, files and folders: these, and those of former runs that are still there."""
        every = dict.fromkeys([*map(str, paths), *self.shown_before()])
        there = [Path(path) for path in every if os.path.exists(path)]
        self._write(_SHOWN, list(map(str, there)))
        return there

    def shown_before(self) -> list[str]:
        """Return the paths of former runs."""
        content = self._read(_SHOWN)
        return [path for path in content if isinstance(path, str)] if isinstance(content, list) else []

    def _read(self, name: str) -> object:
        try:
            return json.loads((self.folder / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _write(self, name: str, content: object) -> None:
        aside = self.folder / f"{name}.{os.getpid()}"
        try:
            aside.write_text(json.dumps(content), encoding="ascii")
            os.replace(aside, self.folder / name)
        except OSError as problem:
            raise InvalidInput(f"{self.folder} can't be written ({problem.strerror}): name another --data") from problem
