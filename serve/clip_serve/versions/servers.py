"""Servers of a repository, as far as a roll waits for them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clip_client import model_versions
from clip_client.errors import InvalidInput, Timeout, Unavailable
from clip_serve.http_gateway import VERSIONS
from clip_serve.versions.roller import identity

_LOOK_S = 0.1
_ANSWER_S = 10.0
_GONE_S = 60.0  # patience with a server that doesn't answer any more: a supervisor starts it again


class Servers:
    """Launchers that were named, by the addresses of their HTTP; none means that nothing is waited for.

    Args:
        addresses: such as ``http://127.0.0.1:8000``.
        timeout_s: bound on each wait.
    """

    def __init__(self, addresses: Sequence[str], timeout_s: float) -> None:
        self._stamp = ""
        self._addresses, self._timeout_s = [address.rstrip("/") for address in addresses], timeout_s
        for address in self._addresses:
            if not address.startswith(("http://", "https://")):
                raise InvalidInput(f"--server is {address!r}: expected the HTTP address of a clipserve serve, http://host:8000")

    def check(self, repository: Path) -> None:
        """Raise InvalidInput for a server of another repository, Unavailable for one that doesn't answer."""
        for address in self._addresses:
            told = _versions(address)
            if told["repository"] != identity(repository):
                raise InvalidInput(f"{address} serves another repository than {repository}: name the server of this one")

    def follow(self, repository: Path) -> None:
        """Believe a server from now on once it has met the repository's latest wishes."""
        self._stamp = model_versions.stamp(repository)

    def wait_loaded(self, name: str, number: int) -> None:
        """Return once a version is loaded everywhere; raise Unavailable with the reason where it can't be."""
        self._wait(name, lambda told: number in told["loaded"], number, f"version {number} isn't loaded")

    def wait_serving(self, name: str, number: int) -> None:
        """Return once the plain name leads to a version everywhere and the one before has no request left."""
        self._wait(name, lambda told: (told["serving"], told["loaded"]) == (number, [number]), number, "the roll goes on")

    def wait_unloaded(self, name: str, numbers: set[int]) -> None:
        """Return once none of these versions is loaded anywhere."""
        self._wait(name, lambda told: not numbers & set(told["loaded"]), 0, "versions are being unloaded")

    def _wait(self, name: str, holds: Callable[[Any], bool], number: int, otherwise: str) -> None:
        deadline = time.monotonic() + self._timeout_s
        for address in self._addresses:
            last = time.monotonic()
            while True:
                try:
                    told, last = _versions(address), time.monotonic()
                except Unavailable:
                    if time.monotonic() - last > _GONE_S:
                        raise
                    told = {}
                state = told["names"].get(name) if told.get("stamp") == self._stamp else None
                if state and (reason := state["trouble"].get(str(number))):
                    raise Unavailable(f"{address}: version {number} of {name} can't be loaded: {reason}")
                if state and not told["rolling"] and holds(state):
                    break
                if time.monotonic() > deadline:
                    raise Timeout(f"{address}: {otherwise} after {self._timeout_s:g} s: see its log")
                time.sleep(_LOOK_S)


def _versions(address: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"{address}{VERSIONS}", timeout=_ANSWER_S) as answer:  # noqa: S310  (http and https alone)
            told = json.loads(answer.read())
    except urllib.error.HTTPError as problem:
        raise Unavailable(f"{address} answers {problem.code}: is it a clipserve serve of this version?") from problem
    except (OSError, ValueError) as problem:
        raise Unavailable(
            f"{address} doesn't answer ({problem}): start the server, or pass --no-server to change the repository alone"
        ) from problem
    if not isinstance(told, dict) or "repository" not in told:
        raise Unavailable(f"{address} loads its models still: wait until it is ready")
    return told
