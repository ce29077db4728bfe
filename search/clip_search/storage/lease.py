"""Lease on a database in an object store: an object there names the owner until a time, and is changed by conditional puts."""

import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone

from clip_client.errors import Unavailable
from clip_search.errors import cleaned
from clip_search.storage.object_store import Cell, Stored, Version

_LOG = logging.getLogger(__name__)
_TRIES = 3  # a put whose answer is lost is read back, then tried again


@dataclass(frozen=True)
class Times:
    """Seconds of a lease."""

    lease_s: float = 40.0  # how long others leave the database to an owner that says nothing
    renew_s: float = 10.0  # how often the owner says that it is there
    again_s: float = 1.0  # pause before it is tried again: two requests that time out shall not end the lease
    margin_s: float = 10.0  # how long before that the owner stops writing, since a write takes a while


@dataclass(frozen=True)
class Note:
    """Content of the object."""

    owner: str  # for people
    token: str  # tells one owner from every other
    until: str  # when others may take the database, RFC 3339, by the owner's clock
    released: bool = False

    @property
    def time(self) -> datetime:
        """``until`` in UTC; raises ValueError if it is no time, or one without a zone."""
        time = datetime.fromisoformat(self.until)
        if not time.tzinfo:
            raise ValueError(f"{self.until} has no zone")
        return time.astimezone(timezone.utc)


class Lease:
    """Ownership of a database, renewed by a thread until it is closed, or lost.

    Args:
        cell: the object.
        database: its name, for messages.

    Raises:
        Unavailable: another sidecar has it, or the store can't be used.
    """

    def __init__(self, cell: Cell, database: str, times: Times = Times()) -> None:
        self._cell, self._database, self._times = cell, database, times
        self._owner = f"sidecar {os.getpid()} on {socket.gethostname()}"
        self._token = secrets.token_hex(16)
        self._version: Version | None = None
        self._sure_until = 0.0
        self._lost = self._problem = ""
        self._closing = threading.Event()
        self._take()
        self._renewing = threading.Thread(target=self._renew_forever, name=f"lease of {database}", daemon=True)
        self._renewing.start()

    def check(self) -> None:
        """Raise Unavailable, so that nothing is written, if the lease is lost or couldn't be renewed in time."""
        if reason := self.trouble():
            raise Unavailable(f"nothing is written: {reason}")

    def trouble(self) -> str:
        """Why nothing may be written; empty while it is ours."""
        if self._lost or _now_s() < self._sure_until:
            return self._lost
        return f"the lease on {self._database} can't be renewed ({self._problem or 'no answer'}): it is tried again and again"

    def close(self) -> None:
        """Give the database away at once."""
        self._closing.set()
        self._renewing.join()
        if self._lost:
            return
        try:
            self._put(released=True)
        except Exception as problem:  # obstore's, of any kind
            _LOG.warning("the lease on %s couldn't be given away (%s): it ends by itself", self._database, cleaned(problem))

    def _take(self) -> None:
        try:
            stored = self._cell.read()
            if stored and not self._note(stored).released:
                stored = self._abandoned(stored)
            self._version = stored.version if stored else None
            self._put()
            self._check_store()
        except Unavailable:
            raise
        except Exception as problem:  # obstore's, of any kind
            reason = f"{self._database} can't be reserved ({cleaned(problem)}): look at its address and credentials"
            raise Unavailable(reason) from problem

    def _abandoned(self, stored: Stored) -> Stored | None:
        """Return the object of an owner that is gone: its time is over, and it says nothing while somebody listens.

        Raises:
            Unavailable: the owner is there. Its clock may be another than ours.
        """
        note = self._note(stored)
        if note.time > _clock():
            raise self._taken(note)
        patience_s = self._times.renew_s + self._times.margin_s
        told = "%s was left by its owner (%s): it is taken over in %g s unless that one answers"
        _LOG.warning(told, self._database, note.token[:8], patience_s)
        time.sleep(patience_s)
        again = self._cell.read()
        if again and again.version != stored.version and not self._note(again).released:
            raise self._taken(self._note(again))
        return again

    def _put(self, released: bool = False) -> None:
        """Write the object with another time; raise Unavailable if it is somebody else's, obstore's errors if nobody knows."""
        asked_s = _now_s()
        until = _clock() + timedelta(seconds=0 if released else self._times.lease_s)
        content = json.dumps(asdict(Note(self._owner, self._token, until.isoformat(), released))).encode()
        for _ in range(_TRIES):
            version = self._cell.write(content, self._version)
            if version is None:
                version = self._own(content)
            if version is not None:
                self._version = version
                self._sure_until = asked_s + self._times.lease_s - self._times.margin_s
                return
        raise Unavailable(f"the lease on {self._database} is changed by somebody all the time: look who writes there")

    def _own(self, content: bytes) -> Version | None:
        """Return the version of what was written although the store said no; None if an earlier put of ours is there.

        Raises:
            Unavailable: somebody else's is there, or nothing.
        """
        stored = self._cell.read()
        if stored is None:
            raise Unavailable(f"the note of who owns {self._database} was removed: start the sidecar again")
        note = self._note(stored)
        if note.token != self._token:
            raise self._taken(note)
        self._version = stored.version
        return stored.version if stored.content == content else None

    def _check_store(self) -> None:
        """Raise Unavailable for a store that overwrites the object where it should make it: all would get the lease."""
        stored = self._cell.read()
        if stored is None or self._note(stored).token != self._token or self._cell.write(stored.content, None) is not None:
            raise Unavailable(
                f"the store of {self._database} doesn't keep the conditions of puts, so a second sidecar couldn't be kept "
                "away: use one that does, or a folder"
            )

    def _renew_forever(self) -> None:
        while not self._lost and not self._closing.wait(self._times.again_s if self._problem else self._times.renew_s):
            try:
                self._put()
                self._problem = ""
            except Unavailable as problem:
                self._lost = str(problem)
                _LOG.error("this sidecar no longer writes: %s", problem)
            except BaseException as problem:  # panics of Rust code aren't Exceptions
                before, self._problem = self._problem, cleaned(problem)
                if self._problem != before:
                    _LOG.warning("the lease on %s couldn't be renewed: %s", self._database, self._problem)

    def _note(self, stored: Stored) -> Note:
        try:
            note = Note(**json.loads(stored.content))
            if not all(isinstance(text, str) for text in (note.owner, note.token)) or note.time.year < 2000:
                raise ValueError("expected an owner, a token and a time")
            return note
        except (ValueError, TypeError, OverflowError, RecursionError) as problem:
            reason = f"the note of who owns {self._database} can't be read ({problem}): remove it if no sidecar runs there"
            raise Unavailable(reason) from problem

    def _taken(self, note: Note) -> Unavailable:
        owner = "".join(filter(str.isprintable, note.owner))[:200]
        until = f"{note.time:%Y-%m-%d %H:%M:%S} UTC"
        return Unavailable(
            f"{self._database} is in use by {owner} until {until}, and longer if that one goes on: stop it, or "
            "wait until then if it is gone"
        )


def _clock() -> datetime:
    return datetime.now(timezone.utc)


def _now_s() -> float:
    """Time that goes on while the machine sleeps, as the usual clock of macOS does."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
