"""Watch over a folder: when it is time for a sync, and which rows go then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from clip_client.counting import counted
from clip_serve.up.snapshot import Snapshot, gone, identity, taken, written

_STAYING = ("picture isn't, and its row stays", "pictures aren't, and their rows stay")
_PATIENCE_S = 3.0  # of finished files with those beside them that are still being written


@dataclass(frozen=True)
class Sync:
    """Changes that are whole.

    Attributes:
        now: the folder.
        gone: paths of pictures that were taken out, by name.
        changed: names of what came, changed or went, unfinished ones not.
        is_removal: nothing else has changed.
        unfinished: names of files that are still being written.
    """

    now: Snapshot
    gone: Mapping[str, str]
    changed: set[str]
    is_removal: bool
    unfinished: set[str]


class Watcher:
    """Decides when a folder is synced.

    Args:
        folder: is watched.
        synced: snapshot from before the last sync.
        tell: gets lines for the user.

    Attributes:
        root: device and inode of the folder at the last look; None where it wasn't there.
    """

    def __init__(self, folder: Path, synced: Snapshot, tell: Callable[[str], None]) -> None:
        self._folder, self._tell = folder, tell
        self._synced = self._last = synced
        self.root: tuple[int, int] | None = synced.folders[""]
        self._waiting_since: float | None = None

    def look(self) -> Sync | None:
        """Look at the folder; return what is to be synced now, if anything."""
        now = taken(self._folder)
        if now is None:
            self._leave()
            return None
        if now.folders[""] != self.root:
            self._return(now)
        last, self._last = self._last, now
        changed = self._synced.changed(now)
        if not changed:
            self._waiting_since = None
            return None
        unfinished = (changed & last.changed(now)) | self._written(changed, now)
        return self._due(now, changed, unfinished)

    def synced(self, sync: Sync) -> None:
        """Note that a sync is through; unfinished files stay to be synced."""
        states = {name: state for name, state in sync.now.states.items() if name not in sync.unfinished}
        self._synced, self._waiting_since = replace(sync.now, states=states), None

    @property
    def is_waiting(self) -> bool:
        """Tell if there is something to sync that wasn't whole at the last look."""
        return self.root is not None and bool(self._synced.changed(self._last))

    def has_moved(self) -> bool:
        """Tell if the folder came, went, or became another one since the last look."""
        return identity(self._folder) != self.root

    def _due(self, now: Snapshot, changed: set[str], unfinished: set[str]) -> Sync | None:
        if changed == unfinished:
            self._waiting_since = None
            return None
        since = self._waiting_since = self._waiting_since or time.monotonic()
        if unfinished and time.monotonic() - since < _PATIENCE_S:
            return None
        taken_out = gone(self._synced, now, self._folder)
        return Sync(now, taken_out, changed - unfinished, changed <= taken_out.keys(), unfinished)

    def _written(self, changed: set[str], now: Snapshot) -> set[str]:
        root = self._folder.resolve()
        return written({name: now.pictures.get(name, str(root / name)) for name in changed & now.states.keys()})

    def _leave(self) -> None:
        if self.root:
            self._tell(f"{self._folder} isn't there, or can't be read: its rows stay, and it is looked for again")
        self.root = None

    def _return(self, now: Snapshot) -> None:
        """Start anew: what is missing since the folder was away isn't gone, it may be another disk."""
        missing = len(self._synced.pictures.keys() - now.pictures.keys())
        kept = f"; {counted(missing, *_STAYING)}" if missing else ""
        self._tell(f"{self._folder} is there again{kept}")
        self.root = now.folders[""]
        self._synced = self._last = Snapshot({}, {}, now.folders)
