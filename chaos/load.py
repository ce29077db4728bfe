"""Mixed load: a thread for each kind of request at each sidecar, and a record of every outcome."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from chaos.asking import Answer

RIGHT, WRONG = "right", "wrong"
_PAUSE_S = 0.4  # between two requests of a kind


@dataclass(frozen=True)
class Outcome:
    """One request of the load.

    Attributes:
        what: :data:`RIGHT`, :data:`WRONG`, a status, or the lack of an answer.
        told: the message of an error, or what is wrong.
    """

    kind: str
    door: str
    what: str
    told: str
    began: float
    ended: float
    retry_after: str = ""

    @property
    def is_right(self) -> bool:
        """Tell if it was answered, rightly."""
        return self.what == RIGHT


@dataclass(frozen=True)
class Kind:
    """Kind of request at one sidecar.

    Attributes:
        needs: parts that it can't do without, beside the sidecar: ``triton``, ``storage``, ``room`` on the disk.
        send: sends one; returns its answer with what is wrong in it, or None if there is nothing to send right now.
    """

    name: str
    door: str
    needs: frozenset[str]
    send: Callable[[random.Random], tuple[Answer, str] | None]

    @property
    def key(self) -> str:
        """Name among all kinds."""
        return f"{self.name} ({self.door})"


@dataclass
class Load:
    """Requests of all kinds, until it is stopped."""

    kinds: Sequence[Kind]
    seed: int
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gate = threading.Condition()
        self._is_open, self._passing, self._is_over = True, 0, False
        self._threads = [threading.Thread(target=self._run, args=[kind], daemon=True) for kind in self.kinds]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """End, once the requests under way are answered."""
        with self._gate:
            self._is_over = True
            self._gate.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @contextlib.contextmanager
    def paused(self, timeout_s: float) -> Iterator[bool]:
        """Hold requests back; gives whether those under way were answered in time."""
        with self._gate:
            self._is_open = False
            quiet = self._gate.wait_for(lambda: not self._passing, timeout_s)
        try:
            yield quiet
        finally:
            with self._gate:
                self._is_open = True
                self._gate.notify_all()

    def waits(self, since: int, begun: float, mended: float, timeout_s: float) -> dict[str, float | None]:
        """Wait for a right answer of each kind that was sent after a fault; return the seconds that each was gone.

        Args:
            since: number of outcomes before the fault.
            begun, mended: of the fault, by the monotonic clock.

        Returns:
            By kind the time from the end of the fault to the first right answer; 0 where no request failed or had to wait,
            None where there was no right answer in time.
        """
        deadline, waits = time.monotonic() + timeout_s, dict[str, float | None]()
        while len(waits) < len(self.kinds) and time.monotonic() < deadline:
            time.sleep(0.02)
            seen = self.outcomes[since:]
            for kind in self.kinds:
                own = [one for one in seen if (one.kind, one.door) == (kind.name, kind.door)]
                first = next((one for one in own if one.is_right and one.began >= mended), None)
                if first and kind.key not in waits:
                    disturbed = any(not one.is_right and one.ended >= begun for one in own) or first.ended - first.began > 1
                    waits[kind.key] = first.ended - mended if disturbed else 0.0
        return {kind.key: waits.get(kind.key) for kind in self.kinds}

    def _run(self, kind: Kind) -> None:
        draw = random.Random(f"{self.seed} {kind.key}")
        while self._enter():
            try:
                sent = kind.send(draw)
            finally:
                self._leave()
            if sent:
                self.outcomes.append(_judged(kind, *sent))
            time.sleep(_PAUSE_S)

    def _enter(self) -> bool:
        with self._gate:
            self._gate.wait_for(lambda: self._is_open or self._is_over)
            self._passing += not self._is_over
            return not self._is_over

    def _leave(self) -> None:
        with self._gate:
            self._passing -= 1
            self._gate.notify_all()


def _judged(kind: Kind, answer: Answer, wrong: str) -> Outcome:
    what = WRONG if wrong else RIGHT if answer.is_good else str(answer.outcome)
    return Outcome(kind.name, kind.door, what, wrong or answer.message, answer.began, answer.ended, answer.retry_after)
