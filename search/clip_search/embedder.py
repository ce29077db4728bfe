"""Texts and images to vectors through Triton, with micro-batches and an LRU cache for single texts."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from clip_client.clip import Clip, Embeddings
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Timeout, Unavailable
from clip_client.request_ids import RequestContext, current, entered
from clip_client.spec import ModelSpec
from clip_search.arrays import Floats
from clip_search.errors import cleaned
from clip_search.lru import Lru
from clip_search.server_state import READY_S, Readiness, Served
from clip_search.steps import step

_LOG = logging.getLogger(__name__)
_BATCH = 32  # as the largest batch of the published models
_PATIENCE, _MOST_PATIENCE_S = 0.5, 0.02  # micro-batch wait: half of the last request's time, at most 20 ms
TIMEOUT_S = 20.0  # bound on a request to Triton, and on the time that a text waits for its turn and its answer
_MOST_WAITING = 2_048  # texts that wait at most: Triton embeds that many short ones before their deadline
_LOOK_S = 5.0  # longest time that texts are answered from the cache alone


@dataclass(frozen=True)
class Embedded:
    """Vector of a text, and the checkpoint that made it."""

    vector: Floats  # [D]
    spec: ModelSpec


@dataclass(frozen=True, eq=False)
class _Waiting:
    """Text of a caller that waits until ``deadline``."""

    text: str
    deadline: float
    vector: Future[Embedded] = field(default_factory=Future)
    request: RequestContext = field(default_factory=current)


class Embedder:
    """Client of one checkpoint on one Triton; safe to use from several threads.

    Args:
        address: host:port of Triton's gRPC endpoint.
        name: what the checkpoint was published as.
        cached: size of the cache of text embeddings; 0 for none.
    """

    def __init__(self, address: str, name: str, cached: int) -> None:
        self._address, self._name = address, name
        self._clip = self._connected()
        self._swapping = threading.Lock()
        self._readiness = Readiness(self._ask_ready)
        self._served = Served()
        self.cache: Lru[tuple[Clip, str], Embedded] = Lru(cached)
        self._looked = time.monotonic()
        self._looking = threading.Lock()
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self.batches = self.batched = 0  # micro-batches so far, and the texts in them
        threading.Thread(target=self._work, name="text queries", daemon=True).start()

    @property
    def spec(self) -> ModelSpec:
        """Contract of the server's checkpoint; raises Unavailable if the server is down."""
        clip = self._clip
        try:
            return clip.spec
        except ContractMismatch:
            return self._replaced(clip).spec

    def known(self) -> ModelSpec | None:
        """Return the spec of the server's checkpoint if it is known, or told within a moment; None otherwise."""
        return self._served.spec(self._clip)

    def not_ready(self) -> str:
        """Return the reason why the server isn't ready; empty if it is."""
        return self._readiness.ask()

    def text(self, text: str) -> Future[Embedded]:
        """Queue a text; the future gives its vector [D] and the model's spec, or raises as :meth:`clip_client.Clip.embed_text`.

        Raises:
            Unavailable: too many wait already.
        """
        cached = self.cache.get((self._clip, text))
        waiting = _Waiting(text, time.monotonic() + TIMEOUT_S)
        if cached is not None:
            self._look_soon()
            waiting.vector.set_result(cached)
        elif self._waiting.qsize() >= _MOST_WAITING:
            raise Unavailable(f"{_MOST_WAITING} texts wait to be embedded: try again in a moment")
        else:
            self._waiting.put(waiting)
        return waiting.vector

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Return a vector per text, None for one that can't be embedded."""
        return self._trusted(lambda clip: clip.embed_text(list(texts), on_error="none"))

    def images(self, images: Sequence[bytes]) -> Embeddings:
        """Return a vector per encoded file, None for one that can't be embedded."""
        return self._trusted(lambda clip: clip.embed_image(list(images), on_error="none"))

    def tokens(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of these texts."""
        return sum(self._clip.count_tokens(texts))

    @property
    def waiting(self) -> int:
        """Texts in line."""
        return self._waiting.qsize()

    def close(self) -> None:
        """Stop, and close the connection."""
        self._waiting.put(None)
        self._clip.close()

    def _connected(self) -> Clip:
        return Clip(self._address, name=self._name, timeout_s=TIMEOUT_S)

    def _ask_ready(self) -> str:
        try:
            self._clip.wait_ready(timeout_s=READY_S)
        except ClipError as problem:
            return str(problem)
        return ""

    def _trusted(self, embed: Callable[[Clip], Embeddings]) -> Embeddings:
        clip = self._clip
        with step("embed"):
            try:
                rows = embed(clip)
            except ContractMismatch:
                rows = embed(self._replaced(clip))
        self._readiness.heard()
        return rows

    def _replaced(self, clip: Clip) -> Clip:
        """Return a client of the checkpoint that is served now; its vectors are for later requests."""
        with self._swapping:
            if clip is self._clip:
                fresh = self._connected()
                _ = fresh.spec  # known before anybody asks for it, who may not wait
                self._clip = fresh
                self.cache.clear()
            return self._clip

    def _work(self) -> None:
        """Send one micro-batch after the other: the text tower has the cores to itself, and texts gather meanwhile."""
        together, took_s = 1, 0.0
        while first := self._waiting.get():
            batch = self._gathered(first, together, min(_PATIENCE * took_s, _MOST_PATIENCE_S))
            start = time.monotonic()
            self._answer(batch)
            together, took_s = len(batch), time.monotonic() - start

    def _gathered(self, first: _Waiting, expected: int, patience_s: float) -> list[_Waiting]:
        """Return a micro-batch: the texts that wait, and later ones while there are fewer than expected."""
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
        """Embed a micro-batch, without texts whose callers gave up; no failure ends the thread."""
        wanted = [waiting for waiting in batch if waiting.vector.set_running_or_notify_cancel()]
        late = [waiting for waiting in wanted if waiting.deadline < time.monotonic()]
        wanted = [waiting for waiting in wanted if waiting not in late]
        self.batches += bool(wanted)
        self.batched += len(wanted)
        for waiting in late:
            waiting.vector.set_exception(Timeout(f"no turn within {TIMEOUT_S:g} s, Triton is busy or stuck: try again later"))
        try:
            with entered(_of_all([waiting.request for waiting in wanted])):
                outcomes = self._outcomes([waiting.text for waiting in wanted])
            for waiting, outcome in zip(wanted, outcomes, strict=True):
                _end(waiting.vector, outcome)
        except BaseException as problem:  # the thread must go on
            if not isinstance(problem, ClipError):
                _LOG.exception("texts can't be embedded")
            told = f"the text can't be embedded: {cleaned(problem)}"
            reason = problem if isinstance(problem, ClipError) else Unavailable(told)
            reason.request_id = ""  # of all of them: each request names its own
            for waiting in wanted:
                _end(waiting.vector, reason)

    def _outcomes(self, texts: Sequence[str]) -> list[Embedded | InvalidInput]:
        if not texts:
            return []
        before, clip = self.spec, self._clip
        rows = self.texts(texts)
        self._looked = time.monotonic()
        spec = self.spec
        if clip is not self._clip or spec.fingerprint != before.fingerprint:
            self.cache.clear()
        made = [InvalidInput(rows.errors[n]) if row is None else Embedded(row, spec) for n, row in enumerate(rows)]
        if clip is self._clip:  # or they may be of the checkpoint before
            for text, row in zip(texts, made, strict=True):
                if isinstance(row, Embedded):
                    self.cache.put((clip, text), row)
        return made

    def _look_soon(self) -> None:
        """Have the server asked if it is a while ago: answers from the cache don't show that another model came up."""
        if time.monotonic() - self._looked > _LOOK_S and self._looking.acquire(blocking=False):
            self._looked = time.monotonic()
            self._waiting.put(_Waiting("", time.monotonic() + TIMEOUT_S))
            self._looking.release()


def _of_all(requests: Sequence[RequestContext]) -> RequestContext:
    """Return the ids of a micro-batch: those of all its requests, commas between them, in the trace of the first."""
    ids = ",".join(dict.fromkeys(request.id for request in requests if request.id))
    first = next((request for request in requests if request.traceparent), RequestContext())
    return replace(first, id=ids)


def _end(future: Future[Embedded], outcome: Embedded | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
