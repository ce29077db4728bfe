"""Texts and images to vectors through Triton: single texts that arrive together travel together, and are remembered."""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from clip_client.clip import Clip, Embeddings
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_client.spec import ModelSpec
from clip_search.faiss_index import Floats

_BATCH = 32
_PATIENCE, _MOST_PATIENCE_S = 0.5, 0.02
"""How long a request waits to become as large as the one before: part of the time that one took, and a bound."""
_TIMEOUT_S = 20.0

_Waiting = tuple[str, "Future[Floats]"]


class Embedder:
    """A client of one checkpoint on one Triton; safe to use from several threads.

    Args:
        address: host:port of Triton's gRPC endpoint.
        name: what the checkpoint was published as.
        cached: how many text embeddings are remembered; 0 for none.
    """

    def __init__(self, address: str, name: str, cached: int) -> None:
        self._address, self._name = address, name
        self._clip = Clip(address, name=name, timeout_s=_TIMEOUT_S)
        self._cache = TextCache(cached)
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
        try:
            self._clip.wait_ready(timeout_s=0.2)
        except Unavailable as problem:
            return str(problem)
        return ""

    def text(self, text: str) -> Future[Floats]:
        """The vector [D] of one text, soon; raises as :meth:`clip_client.Clip.embed_text`."""
        found = self._cache.get(text)
        future: Future[Floats] = Future()
        if found is not None:
            future.set_result(found)
        else:
            self._waiting.put((text, future))
        return future

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

    def _trusted(self, embed: Callable[[Clip], Embeddings]) -> Embeddings:
        clip = self._clip
        try:
            return embed(clip)
        except ContractMismatch:  # another checkpoint has come up: its vectors are for those who ask from now on
            if clip is self._clip:
                self._cache.clear()
                self._clip = Clip(self._address, name=self._name, timeout_s=_TIMEOUT_S)
            return embed(self._clip)

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
        try:
            rows = self.texts([text for text, _ in batch])
        except Exception as problem:
            error = problem if isinstance(problem, ClipError) else Unavailable(f"the text can't be embedded: {problem!r}")
            for _, future in batch:
                future.set_exception(error)
            return
        for n, (text, future) in enumerate(batch):
            row = rows[n]
            if row is None:
                future.set_exception(InvalidInput(rows.errors[n]))
            else:
                self._cache.put(text, row)
                future.set_result(row)


class TextCache:
    """The last texts with their vectors."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, Floats] = OrderedDict()

    def get(self, text: str) -> Floats | None:
        """The vector of a text that is remembered."""
        with self._lock:
            if text in self._vectors:
                self._vectors.move_to_end(text)
            return self._vectors.get(text)

    def put(self, text: str, vector: Floats) -> None:
        """Remember one, forget the one that wasn't asked for longest."""
        with self._lock:
            self._vectors[text] = vector
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._vectors.clear()
