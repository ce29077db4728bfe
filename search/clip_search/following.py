"""Follower: a thread that keeps up with what another process writes, and tells how far behind it is."""

import logging
import threading
import time
from collections.abc import Callable

from clip_client.errors import NotFound
from clip_search.errors import cleaned

_LOG = logging.getLogger(__name__)
PAUSE_S = 1.0  # between two looks; one asks an object store for a list of names
_WORKING_SHARE = 4  # looks that find much take a fifth of the time at most
_LATE_S = 60.0  # above this, searches answer with what was there a minute ago: not ready

_TOLD_AT = 2  # failures one after the other: a collection that was dropped fails once before its follower is closed


class Follower:
    """Thread that looks again and again; failures are told once, and don't end it.

    Args:
        subject: what is followed, for the log.
        look: looks once, and takes in whatever is new; raises if it can't.
    """

    def __init__(self, subject: str, look: Callable[[], object]) -> None:
        self._subject, self._look = subject, look
        self._seen_at = time.monotonic()  # start of the last look that succeeded: whatever was there then is known
        self._failures, self._problem = 0, ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"following {subject}", daemon=True)
        self._thread.start()

    @property
    def behind_s(self) -> float:
        """Time for which changes may have gone unseen; a second or two while all is well."""
        return round(time.monotonic() - self._seen_at, 1)

    def trouble(self) -> str:
        """Return the reason why it is too far behind; empty while it isn't."""
        if self.behind_s <= _LATE_S:
            return ""
        reason = self._problem or "catching up"
        return f"{self.behind_s:.0f} s behind the sidecar that writes ({reason}): searches go on without its latest changes"

    def close(self) -> None:
        """Look no more; a look under way is waited for a moment."""
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2)

    def _run(self) -> None:
        pause_s = PAUSE_S
        while not self._closing.wait(pause_s):
            start = time.monotonic()
            try:
                self._look()
                self._seen_at = start
                if self._failures >= _TOLD_AT:
                    _LOG.warning("%s is followed again", self._subject)
                self._failures, self._problem = 0, ""
            except BaseException as problem:  # panics of LanceDB's Rust code aren't Exceptions
                self._failed(problem)
            share = 1 if self._failures else _WORKING_SHARE
            pause_s = max(PAUSE_S, share * (time.monotonic() - start))

    def _failed(self, problem: BaseException) -> None:
        if self._closing.is_set() or isinstance(problem, NotFound):
            return  # of a collection that is closed, or was dropped
        self._failures += 1
        if self._failures == _TOLD_AT:
            _LOG.warning("%s can't be followed, searches go on with what is known: %s", self._subject, problem)
        self._problem = cleaned(problem)
