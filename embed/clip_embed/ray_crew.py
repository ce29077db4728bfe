"""Crew of workers on Ray: a part is given to whoever is free; one whose worker ended is given to another."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clip_client.errors import Unavailable
from clip_embed.attempts import Attempt
from clip_embed.ray_session import Room
from clip_embed.ray_worker import Order, Report, Worker
from clip_embed.run import Progress

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LOOK_S = 1.0  # between two looks at how far the workers are
_SAY_S = 15.0  # before the user is told that no worker has a machine yet
_TRIES = 3  # of a part whose workers end while they are at it
_ENDS = 3  # of each worker, on the average, in a row without any part done


@dataclass
class _Hand:
    """A worker, and what it is at."""

    actor: Any
    number: int | None = None  # of its part; None while it opens
    counted: int = 0  # items that the progress knows of
    looking: Any = None  # answer on its items, on its way


class RayCrew:
    """Workers of a run on Ray.

    Args:
        connect: called before the first part; gives the module ``ray`` and the room for workers.
        order: to the workers.
        patience_s: bound on the wait for the first of them.
    """

    def __init__(self, connect: Callable[[], tuple[Any, Room]], order: Order, patience_s: float) -> None:
        self._connect, self._order, self._patience_s = connect, order, patience_s
        self._free, self._busy = list[_Hand](), dict[Any, _Hand]()
        self._queue, self._crashes, self._ends = deque[int](), Counter[int](), 0
        self._ray: Any = None

    def attempts(self, numbers: Sequence[int], progress: Progress) -> Iterator[Attempt]:
        """Attempt parts on all workers at once.

        Raises:
            ClipError: no worker gets a machine, or one of them can do no part.
        """
        self._begin()
        self._queue.extend(numbers)
        for _ in range(min(self._room.workers, len(numbers)) - len(self._free) - len(self._busy)):
            self._start()
        idle_since, told = time.monotonic(), False
        while self._queue or any(hand.number is not None for hand in self._busy.values()):
            self._assign()
            ready, _ = self._ray.wait([*self._busy], timeout=_LOOK_S)
            for answer in ready:
                yield from self._ended(answer, progress)
            self._look(progress)
            if self._free or any(hand.number is not None for hand in self._busy.values()):
                idle_since = time.monotonic()
            told = self._check_patience(time.monotonic() - idle_since, told, progress)

    def _begin(self) -> None:
        if self._ray:
            return
        self._ray, self._room = self._connect()
        room, engine = self._room, self._order.engine
        self._order = replace(self._order, engine=replace(engine, threads=engine.threads or room.cpus))
        self._kind = self._ray.remote(
            num_cpus=room.cpus, num_gpus=room.gpus, concurrency_groups={"look": 1}, max_restarts=0, max_task_retries=0
        )(Worker)

    def _start(self) -> None:
        actor = self._kind.remote(self._order)
        self._busy[actor.open.remote()] = _Hand(actor)

    def _assign(self) -> None:
        while self._free and self._queue:
            hand = self._free.pop()
            hand.number = self._queue.popleft()
            self._busy[hand.actor.attempt.remote(hand.number)] = hand

    def _ended(self, answer: Any, progress: Progress) -> Iterator[Attempt]:
        """Take the answer of a worker, or its end."""
        hand = self._busy.pop(answer)
        try:
            report: Report = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as problem:
            raise problem.cause or problem from None
        except self._ray.exceptions.RayError as problem:
            yield from self._replaced(hand, _reason(problem), progress)
            return
        if report.problem:
            raise report.problem
        progress.items(max(0, report.items - hand.counted))
        hand.counted, hand.number = max(report.items, hand.counted), None
        self._free.append(hand)
        if report.attempt:
            self._ends = 0
            yield report.attempt

    def _replaced(self, hand: _Hand, reason: str, progress: Progress) -> Iterator[Attempt]:
        """Start another worker for one that ended; its part comes first, a few times."""
        self._ends += 1
        if self._ends > _ENDS * self._room.workers:
            raise Unavailable(f"{self._ends} workers ended in a row, none with a part done; the last one: {reason}")
        self._start()
        if hand.number is None:
            return
        self._crashes[hand.number] += 1
        if self._crashes[hand.number] < _TRIES:
            progress.say(f"a worker ended in part {hand.number}, which another one does: {reason}")
            self._queue.appendleft(hand.number)
        else:
            yield Attempt(hand.number, reason=f"its worker ended {_TRIES} times; the last time: {reason}")

    def _look(self, progress: Progress) -> None:
        """Tell of the items that workers have read of their parts."""
        for hand in self._busy.values():
            if hand.number is None:
                continue
            if hand.looking is None:
                hand.looking = hand.actor.items.options(concurrency_group="look").remote()
            elif self._ray.wait([hand.looking], timeout=0)[0]:
                progress.items(self._counted(hand))

    def _counted(self, hand: _Hand) -> int:
        """Return the items that a worker has read since the last look; its end is told by its part."""
        answer, hand.looking = hand.looking, None
        try:
            items = max(int(self._ray.get(answer)), hand.counted)
        except self._ray.exceptions.RayError:
            return 0
        news, hand.counted = items - hand.counted, items
        return news

    def _check_patience(self, waited_s: float, told: bool, progress: Progress) -> bool:
        """Say that no worker has a machine; raise Unavailable once that has lasted too long."""
        if waited_s <= min(_SAY_S, self._patience_s):
            return told
        gpus = f" and {self._room.gpus:g} GPUs" if self._room.gpus else ""
        wanted = f"a worker of {self._room.cpus} CPUs{gpus}"
        resources = self._ray.cluster_resources()
        has = f"the cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
        if waited_s > self._patience_s:
            raise Unavailable(
                f"no machine took {wanted} within {self._patience_s:g} s, {has}: pass fewer --worker-cpus or --worker-gpus, "
                "or wait until others have ended"
            )
        if not told:
            progress.say(f"waiting for a machine that takes {wanted}; {has}")
        return True


def _reason(problem: Exception) -> str:
    """Return the line of Ray's report that has the reason."""
    text = _COLOUR.sub("", str(problem))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(problem).__name__]
    if lacking := next((line for line in lines if line.startswith(("ModuleNotFoundError", "ImportError"))), ""):
        return f"its machine lacks this version of clipserve, or a package ({lacking[:200]}): install clipserve[ray] there"
    return next((line for line in lines if line.startswith("The actor is dead because")), lines[0])[:300]
