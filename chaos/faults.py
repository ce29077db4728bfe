"""Kinds of faults: each is made, lasts for a while, is mended, and excuses certain errors meanwhile."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import psutil

from chaos import rooms
from chaos.asking import NO_ANSWER
from chaos.damage import damage
from chaos.load import Kind, Outcome
from chaos.relay import Mood
from chaos.world import LAUNCHER, READER, STORED, WRITER, World

_BUSY = ("503", "504")  # Triton can't be had, or not in time; the storage can't
_GONE = (NO_ANSWER, "503")  # the sidecar is away, or opens its collections
_HELD = (NO_ANSWER, "408", "503", "504")  # it stood still, beyond the limits of bodies, turns and Triton
_FULL = ("503", "507")
_SIDECARS = (WRITER, READER, STORED)
_CLOCK_S = (-86_400, -3_600, -60, 60, 3_600, 86_400, 10 * 365 * 86_400)
_MOST_DAMAGED = 4  # files
_STORE_MOODS: tuple[Mood, ...] = ("answers 503", "loses answers", "slow", "refuses", "silent")
_NETWORK_MOODS: tuple[Mood, ...] = ("refuses", "silent")


@dataclass(frozen=True)
class Length:
    """Seconds that faults last."""

    least_s: float
    most_s: float

    def drawn(self, draw: random.Random) -> float:
        """Return one."""
        return draw.uniform(self.least_s, self.most_s)


@dataclass(frozen=True)
class Excuse:
    """Errors that a fault may cause; all others are faults of ours.

    Attributes:
        doors: of these sidecars.
        needs: of requests that need one of these parts; of all requests without any.
    """

    doors: Sequence[str]
    statuses: Sequence[str]
    needs: frozenset[str] = frozenset()

    def covers(self, outcome: Outcome, kind: Kind) -> bool:
        """Tell if an error is one of them; a 503 says when to come back."""
        is_here = (
            outcome.door in self.doors and outcome.what in self.statuses and bool(not self.needs or self.needs & kind.needs)
        )
        return is_here and (outcome.what != "503" or bool(outcome.retry_after))


@dataclass(frozen=True)
class Fault:
    """Kind of fault.

    Attributes:
        make: makes it, waits and mends it; returns the time of its end by the monotonic clock.
        exits: servers that may end by it.
        recovery_s: most seconds till each kind of request is answered rightly again.
    """

    name: str
    make: Callable[[World, random.Random, Length], float]
    excuses: Sequence[Excuse] = ()
    exits: frozenset[str] = frozenset()
    recovery_s: float = 120.0
    needs_room: bool = False
    needs_clock: bool = False
    is_long: bool = False  # recovery takes a minute by design: left out of short rehearsals

    def lacks(self, world: World) -> str:
        """Return the thing that this machine lacks for it; empty if it can be made."""
        if self.needs_room and not world.has_rooms:
            return "a mount namespace (root, or user namespaces)"
        return "a C compiler (cc)" if self.needs_clock and not world.clocks else ""


def _killed(world: World, draw: random.Random, length: Length, who: str) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        world.member(who, draw).kill()
    return time.monotonic()


def _halted(world: World, draw: random.Random, length: Length, who: str) -> float:
    process, seconds = world.member(who, draw), length.drawn(draw)
    with contextlib.suppress(psutil.NoSuchProcess):  # the launcher ends what stands still
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
    return time.monotonic()


def _lasting(
    world: World, draw: random.Random, length: Length, made: Callable[[World, random.Random], AbstractContextManager[None]]
) -> float:
    with made(world, draw):
        time.sleep(length.drawn(draw))
    return time.monotonic()


def _full_disk(world: World, draw: random.Random) -> AbstractContextManager[None]:
    return rooms.full(world.data)


def _full_shared_memory(world: World, draw: random.Random) -> AbstractContextManager[None]:
    return rooms.full(rooms.SHARED_MEMORY)


def _no_memory_to_start(world: World, draw: random.Random, length: Length) -> float:
    """Have Triton started while there is no shared memory for its Python processes."""
    with rooms.full(rooms.SHARED_MEMORY):
        _killed(world, draw, length, "tritonserver")
        time.sleep(length.drawn(draw))
    return time.monotonic()


def _failing_store(mood: Mood) -> Callable[[World, random.Random], AbstractContextManager[None]]:
    return lambda world, draw: world.store.relay.failing(mood)


def _lost_triton(mood: Mood) -> Callable[[World, random.Random], AbstractContextManager[None]]:
    return lambda world, draw: world.triton.failing(mood)


def _set_clock(world: World, draw: random.Random) -> AbstractContextManager[None]:
    return world.clocks[draw.choice(sorted(world.clocks))].jumped(draw.choice(_CLOCK_S))


def _damaged(world: World, draw: random.Random, length: Length, restart: bool) -> float:
    """Damage derived files while they are served; with a restart, the sidecar finds more damage as it opens them."""
    folder = world.data / "indexes" / "chaos"
    for _ in range(draw.randint(1, _MOST_DAMAGED)):
        damage(folder, draw)
    if restart:
        process = world.member(WRITER, draw)
        process.kill()
        damage(folder, draw)
    return time.monotonic()


_TRITON = Excuse(_SIDECARS, _BUSY, frozenset({"triton"}))
_STORE = Excuse((STORED,), _BUSY, frozenset({"storage"}))
_TRITON_ENDS = frozenset({LAUNCHER})  # for its supervisor to start again


def _of(who: str) -> tuple[Sequence[Excuse], frozenset[str]]:
    return ((Excuse((who,), _GONE),), frozenset({who})) if who in _SIDECARS else ((_TRITON,), _TRITON_ENDS)


def _kills(who: str) -> Fault:
    return Fault(f"kill -9: {who}", partial(_killed, who=who), *_of(who))


def _halts(who: str) -> Fault:
    excuses, exits = ((Excuse((who,), _HELD),), frozenset[str]()) if who in _SIDECARS else ((_TRITON,), _TRITON_ENDS)
    return Fault(f"SIGSTOP: {who}", partial(_halted, who=who), excuses, exits)


KILLS = tuple(map(_kills, (LAUNCHER, "tritonserver", "stub", WRITER, READER)))
OTHERS = (
    *map(_halts, (LAUNCHER, "tritonserver", "stub", WRITER, READER)),
    Fault("full disk", partial(_lasting, made=_full_disk), [Excuse((WRITER,), _FULL, frozenset({"room"}))], needs_room=True),
    Fault("full /dev/shm", partial(_lasting, made=_full_shared_memory), [_TRITON], _TRITON_ENDS, needs_room=True),
    Fault("full /dev/shm, kill -9: tritonserver", _no_memory_to_start, [_TRITON], _TRITON_ENDS, needs_room=True),
    *(Fault(f"object store: {mood}", partial(_lasting, made=_failing_store(mood)), [_STORE]) for mood in _STORE_MOODS),
    *(Fault(f"Triton's port: {mood}", partial(_lasting, made=_lost_triton(mood)), [_TRITON]) for mood in _NETWORK_MOODS),
    Fault("clock jump", partial(_lasting, made=_set_clock), needs_clock=True),
    Fault("damaged files", partial(_damaged, restart=False)),
    Fault("damaged files, kill -9", partial(_damaged, restart=True), *_of(WRITER)),
    Fault(f"kill -9: {STORED}", partial(_killed, who=STORED), *_of(STORED), recovery_s=240, is_long=True),
)
