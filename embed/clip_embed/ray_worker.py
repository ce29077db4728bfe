"""Worker on a machine of a cluster: an engine, and the parts that it is told to do."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass

from clip_client.errors import ClipError, ContractMismatch, InvalidInput
from clip_embed import manifest as manifests
from clip_embed.attempts import Attempt, Attempts
from clip_embed.engines.base import EngineOptions
from clip_embed.engines.kinds import opened
from clip_embed.fetch import FetchOptions
from clip_embed.places import OWN, Place, place


@dataclass(frozen=True)
class Order:
    """All that a worker needs to know, wherever it is.

    Attributes:
        output: path or URL.
        needed: paths that lie on the machine which gives the order, and have to on the worker's.
        engine: of each worker.
        fetch: bounds on fetching pictures.
    """

    output: str
    needed: tuple[str, ...]
    engine: EngineOptions
    fetch: FetchOptions


@dataclass(frozen=True)
class Report:
    """Answer of a worker.

    Attributes:
        attempt: None where it couldn't be made, or where none was asked for.
        problem: no part can be done.
        items: that the worker has read since it began.
    """

    attempt: Attempt | None = None
    problem: ClipError | None = None
    items: int = 0


class Worker:
    """Process on a machine of a cluster; Ray makes an actor of it."""

    def __init__(self, order: Order) -> None:
        self._order, self._node, self._items = order, platform.node(), 0
        self._stack = contextlib.ExitStack()

    def open(self) -> Report:
        """Open the engine, once everything is there that is needed."""
        try:
            self._attempts = self._opened()
        except ClipError as problem:
            return Report(problem=self._told(problem))
        return Report()

    def attempt(self, number: int) -> Report:
        """Attempt a part."""
        try:
            attempt = self._attempts.attempt(number, self._count)
        except ClipError as problem:
            return Report(problem=self._told(problem), items=self._items)
        if attempt.reason:
            attempt = Attempt(number, reason=f"on {self._node}: {attempt.reason}")
        return Report(attempt, items=self._items)

    def items(self) -> int:
        """Return the number of items read so far; called beside :meth:`attempt`."""
        return self._items

    def _opened(self) -> Attempts:
        for path in self._order.needed:
            if not os.path.exists(path):
                raise InvalidInput(f"{path} isn't there: name a path that every machine of the cluster has, or a bucket")
        target = _place(self._order.output)
        manifest = manifests.read(target)
        if manifest is None:
            raise InvalidInput(
                f"{target.name} is another folder here, without the run: name one that every machine of the cluster mounts"
            )
        engine = self._stack.enter_context(opened(self._order.engine))
        if engine.spec.fingerprint != manifest.identity.fingerprint:
            raise ContractMismatch(
                f"the checkpoint here is {engine.spec.fingerprint}, the run's {manifest.identity.fingerprint}: "
                "publish the same one everywhere"
            )
        return self._stack.enter_context(Attempts(target, manifest, self._order.fetch, engine))

    def _count(self, items: int) -> None:
        self._items += items

    def _told(self, problem: ClipError) -> ClipError:
        """Return the problem with the name of the machine."""
        return type(problem)(f"on {self._node}: {problem}")


def _place(output: str) -> Place:
    """Return the place of an output that was begun elsewhere; a folder isn't made."""
    if "://" not in output and not os.path.isdir(os.path.join(output, OWN)):
        raise InvalidInput(f"{output} isn't there: name a folder that every machine of the cluster mounts, or a bucket")
    return place(output)
