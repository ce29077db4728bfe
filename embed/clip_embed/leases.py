"""Leases in an object store: whoever does a part renews an object; one that stands still belongs to nobody any more."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

RENEW_S, AGAIN_S, STALE_S = 15.0, 2.0, 60.0
"""Between two renewals, after one that failed, and after the last that others have seen; each by its own clock."""


class Leases:
    """Leases under one prefix.

    Args:
        store: obstore's.
        folder: the prefix.
    """

    def __init__(self, store: Any, folder: str) -> None:
        self._store, self._folder = store, folder
        self._token = secrets.token_hex(8)  # tells a put of ours from others'
        self._seen: dict[str, tuple[str, float]] = {}  # by name: tag, and the time when it was first seen

    @contextmanager
    def lease(self, name: str) -> Iterator[bool]:
        """Give false where another process has the lease; raises what obstore does."""
        path = f"{self._folder}/{name}"
        tag = self._taken(path)
        if tag is None:
            yield False
            return
        ended = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(path, tag, ended), name="lease", daemon=True)
        renewal.start()
        try:
            yield True
        finally:
            ended.set()
            renewal.join()
            self._delete(path)

    def _taken(self, path: str) -> str | None:
        """Take a lease that nobody has, or whose holder has ended; return its tag."""
        with suppress(*_refusals()):
            return self._put(path, "create")
        there = self._current(path)
        if there is None:  # given back just now: the next look will tell
            return None
        tag, holder = there
        seen, since = self._seen.setdefault(path, (tag, time.monotonic()))
        if seen != tag:
            self._seen[path] = (tag, time.monotonic())
        elif time.monotonic() - since > STALE_S:
            return self._taken_over(path, tag)
        return self._taken_over(path, tag) if _has_ended(holder) else None

    def _taken_over(self, path: str, tag: str) -> str | None:
        with suppress(*_refusals()):
            return self._put(path, {"e_tag": tag})
        return None

    def _renew(self, path: str, tag: str, ended: threading.Event) -> None:
        """Renew until the end, or until another process has taken it."""
        pause_s = RENEW_S
        while not ended.wait(pause_s):
            try:
                tag = self._renewed(path, tag)
                pause_s = RENEW_S
            except _refusals():
                return
            except Exception:  # the store is away: the part itself meets that, and tells it
                pause_s = AGAIN_S

    def _renewed(self, path: str, tag: str) -> str:
        """Renew a lease; return its new tag. A refusal is looked into: a put may be done although its answer was lost."""
        try:
            return self._put(path, {"e_tag": tag})
        except _refusals():
            there = self._current(path)
            if there is None or there[1].get("token") != self._token:
                raise
            return self._put(path, {"e_tag": there[0]})

    def _put(self, path: str, mode: Any) -> str:
        import obstore

        content = json.dumps({**_self(), "token": self._token, "nonce": secrets.token_hex(8)}).encode()
        return str(obstore.put(self._store, path, content, mode=mode)["e_tag"])  # a digest of the content: hence the nonce

    def _current(self, path: str) -> tuple[str, Mapping[str, Any]] | None:
        import obstore

        try:
            answer = obstore.get(self._store, path)
            return str(answer.meta["e_tag"]), json.loads(bytes(answer.bytes()))
        except FileNotFoundError:
            return None

    def _delete(self, path: str) -> None:
        import obstore

        with suppress(Exception):  # others wait for its age instead
            obstore.delete(self._store, path)


def _refusals() -> tuple[type[Exception], ...]:
    """Return the errors of a condition that doesn't hold."""
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    return AlreadyExistsError, PreconditionError, FileNotFoundError


def _self() -> dict[str, Any]:
    """Return this process as others on its machine would know it; less elsewhere than on Linux."""
    pid = os.getpid()
    return {"machine": _machine(), "pid": pid, "began": _began(pid)}


def _has_ended(holder: Mapping[str, Any]) -> bool:
    """Tell if a holder was a process of this machine that is no more."""
    machine = _machine()
    return bool(machine) and holder["machine"] == machine and holder["began"] != _began(holder["pid"])


def _machine() -> str:
    """Return this boot and its namespace of processes; a container has its own."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id") as boot:
        return f"{boot.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _began(pid: int) -> str:
    """Return the time when a process began, in ticks since the boot; empty if it isn't there, or only waits to be buried."""
    with suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""
