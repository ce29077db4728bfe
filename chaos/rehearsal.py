"""Rehearsal: one fault after the other, each followed by recovery and a complete comparison with the ledgers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from chaos import judgement
from chaos.asking import HANGS
from chaos.faults import KILLS, OTHERS, Fault, Length
from chaos.kinds import COLLECTION
from chaos.load import Kind, Load, Outcome
from chaos.services import Exit
from chaos.world import READER, WRITER, World

_ERROR_S = 60.0  # most time to an error, beside that for which a process was halted: the sidecar's own limits, three times over
_QUIET_S = 150.0  # for requests under way to be answered
_READ_S = 60.0  # for a sidecar that was disturbed to answer the judge, and for a reader to follow
_TOLD = 5  # errors of a kind that are told


@dataclass(frozen=True)
class Rehearsed:
    """One fault, as it went.

    Attributes:
        began, ended, recovered: by the monotonic clock.
        waits: seconds by kind of request from its end to the first right answer; 0 where no request failed.
        errors: requests that failed, as they may, by status.
        slowest_error_s: longest time to an error.
        wrong: all that went wrong.
    """

    fault: str
    began: float
    ended: float
    recovered: float
    waits: dict[str, float | None]
    errors: dict[str, int]
    slowest_error_s: float
    wrong: list[str]

    @property
    def recovery_s(self) -> float:
        """Time till the last kind of request was answered rightly."""
        return max((wait for wait in self.waits.values() if wait is not None), default=0.0)

    @property
    def slowest(self) -> str:
        """Kind of request that came back last; empty if none was disturbed."""
        kind = max(self.waits, key=lambda kind: self.waits[kind] or 0.0)
        return kind if self.waits[kind] else ""


@dataclass
class Rehearsal:
    """Faults in an order drawn from a seed."""

    world: World
    load: Load
    length: Length
    seed: int
    rehearsed: list[Rehearsed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._kinds: dict[tuple[str, str], Kind] = {(kind.name, kind.door): kind for kind in self.load.kinds}
        self._seen = self._ended = 0
        self._draw = random.Random(self.seed)

    def quiet(self) -> None:
        """Let the load run without a fault; errors then are faults of ours."""
        self._rehearse(Fault("none", lambda world, draw, length: time.monotonic()))

    def run(self, faults: Iterable[Fault]) -> Iterator[Rehearsed]:
        """Make faults, one after the other."""
        for fault in faults:
            yield self._rehearse(fault)

    def _rehearse(self, fault: Fault) -> Rehearsed:
        began, since = time.monotonic(), len(self.load.outcomes)
        ended = fault.make(self.world, self._draw, self.length)
        waits = self.load.waits(since, began, ended, fault.recovery_s)
        recovered = time.monotonic()
        wrong = [f"{kind}: no right answer within {fault.recovery_s:g} s" for kind, wait in waits.items() if wait is None]
        wrong += self._judged()
        outcomes, exits = self.load.outcomes[self._seen :], self.world.exits()[self._ended :]
        self._seen, self._ended = self._seen + len(outcomes), self._ended + len(exits)
        wrong += self._unexcused(fault, outcomes, began, recovered) + _unasked(fault, exits)
        errors = [one for one in outcomes if not one.is_right]
        wrong += _late(errors, _ERROR_S + ended - began)
        slowest = max((one.ended - one.began for one in errors), default=0.0)
        told = Rehearsed(fault.name, began, ended, recovered, waits, _counted(errors), slowest, wrong)
        self.rehearsed.append(told)
        return told

    def _judged(self) -> list[str]:
        """Compare everything with the ledgers while the load pauses; now and then have all indexed anew after that."""
        with self.load.paused(_QUIET_S) as is_quiet:
            if not is_quiet:
                return [f"requests are under way for {_QUIET_S:g} s"]
            world, wrong = self.world, list[str]()
            for name, ledger in world.ledgers.items():
                wrong += judgement.differences(world.doors[name], ledger, world.samples, _READ_S)
            wrong += judgement.lag(world.doors[READER], world.ledgers[WRITER], world.samples, _READ_S)
        if self._draw.random() < 0.5:
            world.doors[WRITER].ask("POST", f"{COLLECTION}/rebuild?wait=false")
        return wrong

    def feedback(self) -> list[str]:
        """Compare the feedback that is kept with the ledgers."""
        with self.load.paused(_QUIET_S):
            doors = self.world.doors
            return [one for name, ledger in self.world.ledgers.items() for one in judgement.lost_feedback(doors[name], ledger)]

    def _unexcused(self, fault: Fault, outcomes: Sequence[Outcome], began: float, recovered: float) -> list[str]:
        """Name errors that the fault doesn't excuse, and those before it and after its recovery."""
        wrong = list[str]()
        for one in outcomes:
            is_then = one.ended >= began and one.began <= recovered
            kind = self._kinds[one.kind, one.door]
            if not (one.is_right or (is_then and any(excuse.covers(one, kind) for excuse in fault.excuses))):
                when = f"{one.began - began:.1f} s after the fault began, {one.ended - one.began:.1f} s long"
                wrong.append(f"{kind.key}: {one.what}, Retry-After {one.retry_after or '-'}, {when}: {one.told}")
        return wrong[:_TOLD] + [f"and {len(wrong) - _TOLD} more of these"] * (len(wrong) > _TOLD)


def wanted(names: Sequence[str], with_long: bool) -> list[Fault]:
    """Return the kinds of faults whose names begin so; without names all, those of a long recovery if they are wanted, too."""
    every = (*KILLS, *OTHERS)
    return [fault for fault in every if (fault.name.startswith(tuple(names)) if names else with_long or not fault.is_long)]


def plan(seed: int, kinds: Sequence[Fault]) -> Iterator[list[Fault]]:
    """Yield rounds of faults for ever, each kind once, in an order drawn anew."""
    draw = random.Random(f"{seed} plan")
    while True:
        yield draw.sample(kinds, len(kinds))


def _unasked(fault: Fault, exits: Sequence[Exit]) -> list[str]:
    return [f"{end.service} ended with {end.status}" for end in exits if end.service not in fault.exits]


def _late(errors: Sequence[Outcome], most_s: float) -> list[str]:
    late = [one for one in errors if one.ended - one.began > most_s or one.what == HANGS]
    return [
        f"{one.kind} ({one.door}): {one.what} after {one.ended - one.began:.0f} s, more than {most_s:.0f}"
        for one in late[:_TOLD]
    ]


def _counted(errors: Sequence[Outcome]) -> dict[str, int]:
    statuses = sorted({one.what for one in errors})
    return {status: sum(one.what == status for one in errors) for status in statuses}
