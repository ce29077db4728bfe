"""Texts and images to vectors through Triton: single texts that arrive together travel together, and are remembered."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from clip_client.clip import Clip, Embeddings
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Timeout, Unavailable
from clip_client.spec import ModelSpec
from clip_search.arrays import Floats
from clip_search.errors import cleaned
from clip_search.lru import Lru

_LOG = logging.getLogger(__name__)
_BATCH = 32
_PATIENCE, _MOST_PATIENCE_S = 0.5, 0.02
"""How long a request waits to become as large as the one before: part of the time that one took, and a bound."""
TIMEOUT_S = 20.0
"""Bound on a request to Triton, and on the time that a text waits for its turn and its answer."""
_MOST_WAITING = 2_048
"""So many texts wait at most: Triton embeds as many small ones in less than the time that they are given."""
_READY_S = 0.2


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A text that somebody waits for, until ``deadline``."""

    text: str
    deadline: float
    done: Future[Floats] = field(default_factory=Future)


class Embedder:
    """A client of one checkpoint on one Triton; safe to use from several threads.

    Args:
        address: host:port of Triton's gRPC endpoint.
        name: what the checkpoint was published as.
        cached: how many text embeddings are remembered; 0 for none.
    """

    def __init__(self, address: str, name: str, cached: int) -> None:
        self._address, self._name = address, name
        self._clip = self._connected()
        self._swapping = threading.Lock()
        self._readiness = Readiness(self._ask_ready)
        self._cache: Lru[tuple[Clip, str], Floats] = Lru(cached)
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="text queries", daemon=True).start()

    @property
    def spec(self) -> ModelSpec:
        """What the server's checkpoint is.

        Raises:
            Unavailable: the server is down.
        """
        return self._clip.spec

    def not_ready(self) -> str:
        """What is missing at the server; empty when nothing is."""
        return self._readiness.ask()

    def text(self, text: str) -> Future[Floats]:
        """The vector [D] of one text, soon; raises as :meth:`clip_client.Clip.embed_text`.

        Raises:
            Unavailable: too many wait already.
        """
        found = self._cache.get((self._clip, text))
        waiting = _Waiting(text, time.monotonic() + TIMEOUT_S)
        if found is not None:
            waiting.done.set_result(found)
        elif self._waiting.qsize() >= _MOST_WAITING:
            raise Unavailable(f"{_MOST_WAITING} texts wait to be embedded: try again in a moment")
        else:
            self._waiting.put(waiting)
        return waiting.done

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """A vector per text, None where one can't be embedded."""
        return self._trusted(lambda clip: clip.embed_text(list(texts), on_error="none"))

    def images(self, images: Sequence[bytes]) -> Embeddings:
        """A vector per encoded file, None where one can't be embedded."""
        return self._trusted(lambda clip: clip.embed_image(list(images), on_error="none"))

    def tokens(self, texts: Sequence[str]) -> int:
        """Return how many tokens these texts have."""
        return sum(self._clip.count_tokens(texts))

    def close(self) -> None:
        """Stop, and close the connection."""
        self._waiting.put(None)
        self._clip.close()

    def _connected(self) -> Clip:
        return Clip(self._address, name=self._name, timeout_s=TIMEOUT_S)

    def _ask_ready(self) -> str:
        try:
            self._clip.wait_ready(timeout_s=_READY_S)
        except ClipError as problem:
            return str(problem)
        return ""

    def _trusted(self, embed: Callable[[Clip], Embeddings]) -> Embeddings:
        clip = self._clip
        try:
            return embed(clip)
        except ContractMismatch:
            return embed(self._replaced(clip))

    def _replaced(self, clip: Clip) -> Clip:
        """A client of the checkpoint that came up since: its vectors are for those who ask from now on."""
        with self._swapping:
            if clip is self._clip:
                fresh = self._connected()
                _ = fresh.spec  # known before anybody asks for it, who may not wait
                self._clip = fresh
                self._cache.clear()
            return self._clip

    def _work(self) -> None:
        """One request after the other: the text tower has the cores to itself, and what is asked meanwhile travels together."""
        together, took_s = 1, 0.0
        while first := self._waiting.get():
            batch = self._gathered(first, together, min(_PATIENCE * took_s, _MOST_PATIENCE_S))
            start = time.monotonic()
            self._answer(batch)
            together, took_s = len(batch), time.monotonic() - start

    def _gathered(self, first: _Waiting, expected: int, patience_s: float) -> list[_Waiting]:
        """All that waits, and what comes in a moment while there are fewer than expected."""
        batch, deadline = [first], time.monotonic() + patience_s
        while len(batch) < _BATCH:
            wait_s = max(0.0, deadline - time.monotonic()) if len(batch) < expected else 0.0
            try:
                following = self._waiting.get(timeout=wait_s)
            except queue.Empty:
                break
            if following is None:
                self._waiting.put(None)
                break
            batch.append(following)
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Embed texts; whoever gave up isn't waited for, and whatever happens, the next ones are answered too."""
        wanted = [one for one in batch if one.done.set_running_or_notify_cancel()]
        late = [one for one in wanted if one.deadline < time.monotonic()]
        wanted = [one for one in wanted if one not in late]
        for one in late:
            one.done.set_exception(Timeout(f"no turn within {TIMEOUT_S:g} s, Triton is busy or stuck: try again later"))
        try:
            for one, outcome in zip(wanted, self._outcomes([one.text for one in wanted]), strict=True):
                _end(one.done, outcome)
        except BaseException as problem:  # the thread must go on
            if not isinstance(problem, ClipError):
                _LOG.exception("texts can't be embedded")
            for one in wanted:
                _end(one.done, _explained(problem))

    def _outcomes(self, texts: Sequence[str]) -> list[Floats | InvalidInput]:
        if not texts:
            return []
        clip = self._clip
        rows = self.texts(texts)
        if clip is self._clip:  # or they may be of the checkpoint before
            for text, row in zip(texts, rows, strict=True):
                if row is not None:
                    self._cache.put((clip, text), row)
        return [InvalidInput(rows.errors[n]) if row is None else row for n, row in enumerate(rows)]


class Readiness:
    """Readiness of the server: one thread at a time asks, for all who came before it asked."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._began, self._answer = 0.0, ""

    def ask(self) -> str:
        """What is missing; empty when nothing is."""
        came = time.monotonic()
        with self._lock:
            if self._began <= came:
                self._began = time.monotonic()
                self._answer = self._ask()
            return self._answer


def _end(done: Future[Floats], outcome: Floats | Exception) -> None:
    if done.done():
        return
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)


def _explained(problem: BaseException) -> ClipError:
    return problem if isinstance(problem, ClipError) else Unavailable(f"the text can't be embedded: {cleaned(problem)}")
