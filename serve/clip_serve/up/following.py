"""Following of pictures: the collection is brought in line with each change until the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clip_client.counting import counted
from clip_client.errors import ClipError
from clip_client.file_names import as_id, as_source, source_path
from clip_client.search import Search
from clip_client.terminal import printable
from clip_serve.up.adding import Books, Job, add
from clip_serve.up.events import Events
from clip_serve.up.messages import remark, say
from clip_serve.up.parts import ignore
from clip_serve.up.servers import Served
from clip_serve.up.snapshot import Snapshot
from clip_serve.up.stop import Stop
from clip_serve.up.watcher import Sync, Watcher

_TICK_S = 0.1
_SETTLE_S = 0.5  # between two looks that must agree
_RESCAN_S, _RESCAN_SHARE = 30.0, 50  # between looks without an event, at least; and in times of a look
_POLL_S, _POLL_SHARE = 1.0, 10  # the same where the system sends no events
_RETRY_S = 10.0  # after an adding that failed
_DELETED = 100  # sources in a request
_LEFT_OUT = "left out "
_KNOWN = ("notice: ", "adding: ")  # starts of remarks that say nothing new while pictures are followed
_REMOVED = ("row removed whose file is gone", "rows removed whose files are gone")
_NAMED = 3  # files in a line
_PAGE = 5_000  # rows in an answer, some megabytes


@dataclass(frozen=True)
class Followed:
    """Pictures to follow.

    Attributes:
        job: adds them.
        state: before they were added.
        left_out: number of files that weren't added then.
        refresh: is called all the time; a list's folder follows the list there.
        has_events: the system tells of changes in the folder itself; it doesn't of those behind links.
    """

    job: Job
    state: Snapshot
    left_out: int
    refresh: Callable[[], None]
    has_events: bool


def follow(followed: Followed, served: Served, search: Search, stop: Stop) -> None:
    """Follow until a signal, which raises Stopped; raise Unavailable once a server has ended."""
    watcher, syncs = (
        Watcher(followed.job.folder, followed.state, say),
        _Syncs(followed.job, served, search, stop, followed.left_out),
    )
    events, due = Events(followed.job.folder if followed.has_events else None), 0.0
    try:
        syncs.catch_up(followed.state)
        while True:
            stop.wait(_TICK_S)
            served.check()
            followed.refresh()
            events.listen(watcher.root)
            if time.monotonic() >= due or events.have_come() or watcher.has_moved():
                due = _looked(watcher, syncs, events.work)
    finally:
        events.close()


def _looked(watcher: Watcher, syncs: _Syncs, has_events: bool) -> float:
    """Look, and sync what is whole; return the time of the next look."""
    started = time.monotonic()
    sync = watcher.look()
    took = time.monotonic() - started
    if sync and not syncs.through(sync):
        return time.monotonic() + _RETRY_S
    if sync:
        watcher.synced(sync)
    least, share = (_RESCAN_S, _RESCAN_SHARE) if has_events else (_POLL_S, _POLL_SHARE)
    return time.monotonic() + (_SETTLE_S if watcher.is_waiting else max(least, share * took))


class _Syncs:
    """Syncs of a collection, with a line for each; a remark is made once."""

    def __init__(self, job: Job, served: Served, search: Search, stop: Stop, left_out: int) -> None:
        self._job, self._served, self._search, self._stop = job, served, search, stop
        self._remarks, self._left_out = set[str](), left_out

    def catch_up(self, state: Snapshot) -> None:
        """Remove rows whose files went before this run from folders that still hold pictures; others may be on a disk."""
        root = os.path.realpath(self._job.folder)
        paths = [source_path(row["source"] or "") for row in self._search.rows(self._job.collection, page=_PAGE)]
        below = {os.path.relpath(path, root): path for path in paths if path.startswith(f"{root}/")}
        is_lost = {name for name in below if name not in state.pictures and os.path.dirname(name) in state.folders}
        if state.pictures and (removed := self._remove({name: below[name] for name in is_lost})):
            say(f"{counted(removed, *_REMOVED)}")

    def through(self, sync: Sync) -> bool:
        """Add what is new or has changed, and remove what is gone; return false if that has to be tried again."""
        try:
            books = None if sync.is_removal or sync.now.is_empty else self._added(sync)
            removed = self._remove(sync.gone) if sync.gone else 0
        except ClipError as problem:
            self._served.check()
            remark(f"{problem}; it is tried again")
            return False
        self._tell(sync, books, removed)
        return True

    def _tell(self, sync: Sync, books: Books | None, removed: int) -> None:
        """Print what a sync did, and to which files; one that did nothing isn't told."""
        is_news = removed or (books and (books.added or books.replaced or books.left_out != self._left_out))
        self._left_out = books.left_out if books else self._left_out
        if not is_news:
            return
        parts = [books.line] if books else []
        parts += [f"{removed} removed"] if sync.gone else []
        say(f"{time.strftime('%H:%M:%S')}  {'; '.join(parts)}: {_listed(sync.changed)}")

    def _added(self, sync: Sync) -> Books:
        """Add, and return the books."""
        news = tuple(f"{_LEFT_OUT}{printable(as_id(name))}: " for name in sync.changed)
        return add(self._job, self._served, self._stop, out=ignore, err=lambda line: self._remark(line, news))

    def _remove(self, lost: Mapping[str, str]) -> int:
        """Remove the rows of pictures, by name, unless something has the name again; return their number."""
        removed, paths = 0, [path for name, path in lost.items() if not os.path.lexists(self._job.folder / name)]
        for first in range(0, len(paths), _DELETED):
            sources = ["'" + as_source(path).replace("'", "''") + "'" for path in paths[first : first + _DELETED]]
            where = f"source IN ({', '.join(sources)})"
            ids = [row["id"] for row in self._search.rows(self._job.collection, where=where) if self._is_own(row)]
            removed += self._search.delete(self._job.collection, ids) if ids else 0
        return removed

    def _is_own(self, row: Mapping[str, Any]) -> bool:
        """Tell if a row goes with its name: its file isn't there, or no other folder has it too."""
        if not os.path.lexists(source_path(row["source"])):
            return True
        try:
            state = json.loads(row.get("source_state") or "{}")
            return bool(state["folder"] == as_source(os.path.realpath(self._job.folder)))
        except (ValueError, KeyError, TypeError):
            return False

    def _remark(self, line: str, news: tuple[str, ...]) -> None:
        """Print a remark once; what is left out is told where it is new."""
        is_known = line.startswith(_KNOWN) or (line.startswith(_LEFT_OUT) and not line.startswith(news))
        if line not in self._remarks and not is_known:
            self._remarks.add(line)
            remark(line)


def _listed(names: set[str]) -> str:
    """Return the first few names, and the number of others."""
    first = sorted(names)[:_NAMED]
    others = [f"{len(names) - _NAMED:,} more"] if len(names) > _NAMED else []
    return ", ".join([*map(as_id, first), *others])
