"""Events of the system about changes in a folder."""

from __future__ import annotations

import threading
from pathlib import Path

from watchfiles import watch

_GATHERED_MS = 200  # events in this time are one


class Events:
    """Listener to one folder at a time; where the system sends no events, or no more, its user looks more often.

    Args:
        folder: None for a folder of links, whose targets change without an event.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._root: tuple[int, int] | None = None
        self._listener: _Listener | None = None

    @property
    def work(self) -> bool:
        """Tell if changes are told."""
        return self._listener is not None and not self._listener.has_ended

    def listen(self, root: tuple[int, int] | None) -> None:
        """Listen to the folder, which is another one if device and inode are others; None where it isn't there."""
        if root != self._root and self._folder:
            self.close()
            self._root, self._listener = root, _Listener(self._folder) if root else None

    def have_come(self) -> bool:
        """Tell if something changed since the last call."""
        if self._listener is None or not self._listener.news.is_set():
            return False
        self._listener.news.clear()
        return True

    def close(self) -> None:
        """Stop listening."""
        if self._listener:
            self._listener.close()


class _Listener:
    """Thread that waits for events."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._end = folder, threading.Event()
        self.news, self.has_ended = threading.Event(), False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join(2)

    def _listen(self) -> None:
        events = watch(
            self._folder,
            watch_filter=None,
            debounce=_GATHERED_MS,
            rust_timeout=_GATHERED_MS,
            stop_event=self._end,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        try:
            for _ in events:
                self.news.set()
        except (OSError, RuntimeError):  # no such folder any more, or more folders than the system watches
            self.news.set()
        self.has_ended = True
