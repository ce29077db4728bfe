"""Lists of images or texts, cut into requests of bounded size that are sent side by side."""

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from clip_client.checksums import is_damaged, of_array, of_strings
from clip_client.comparison import Floats
from clip_client.concurrency import Concurrency
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_client.images import ImageLike, Reader
from clip_client.model_host import ModelHost
from clip_client.model_repository import encoder, preparer
from clip_client.origins import check_space, origins
from clip_client.preprocess import preprocess
from clip_client.request_ids import call, current
from clip_client.served_model import ServedModel, told_fingerprint
from clip_client.soundness import flaws
from clip_client.spec import CHECKSUMS, EMBEDDING, ERROR, ORIGIN, PIXELS, TEXT, TOKENS, Tower, ensemble
from clip_client.type_names import a_type

Prepared = bytes | npt.NDArray[np.uint8]
"""An item as it is sent: an encoded file, a text in UTF-8, or pixels."""

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_Ask = Callable[[Sequence[str]], Awaitable[tuple[_T, bool]]]
"""Request that also asks for some outputs: the answer, and true if it was damaged on its way."""
_ATTEMPTS = 3  # at an answer that isn't damaged on its way; a crash damages those of one moment
_READERS = 8  # per request; files and URLs are waited for, not computed

REQUEST_BYTES = 32 * 2**20
"""A request is closed once it holds this much, so that a batch of camera files stays far from gRPC's 2 GB."""


@dataclass(frozen=True)
class EmbeddingRequests:
    """Requests to the two ensembles of one checkpoint."""

    host: ModelHost
    model: ServedModel
    timeout_s: float  # bound on fetching a URL
    in_flight: int  # most requests that are under way at once for a list
    sends_pixels: bool  # images are decoded and resized here, not by the host
    concurrency: Concurrency  # of the client
    note: Callable[[str], None]  # takes the fingerprint of the checkpoint that answered
    served: Callable[[], Coroutine[Any, Any, ServedModel]]  # asks what the host serves now

    async def embed(self, tower: Tower, batch: Sequence[Any]) -> tuple[Floats, dict[int, ClipError]]:
        """Return embeddings, float32 [N, D], and the error by position of each item that failed."""
        rows = self.model.max_batch
        parts = [batch[start : start + rows] for start in range(0, len(batch), rows)]
        with call(f"embed_{tower}"):
            answers = await self.concurrency.each(partial(self._embed_part, tower), parts, self.in_flight)
        errors = [error for _, part in answers for error in part]
        embeddings = np.concatenate([np.empty((0, self.model.spec.embedding_size), np.float32), *(part for part, _ in answers)])
        return embeddings, {n: error for n, error in enumerate(errors) if error}

    async def count_tokens(self, texts: Sequence[str | bytes]) -> list[int]:
        """Return the number of tokens of each text, see :meth:`clip_client.Clip.count_tokens`."""
        tokenizer, rows = preparer(self.model.name, "text"), self.model.max_batch
        counts: list[int] = []
        for start in range(0, len(texts), rows):
            part = [_text_bytes(text) for text in texts[start : start + rows]]
            with call("count_tokens"):
                told = (ERROR, ORIGIN, CHECKSUMS) if self.model.checksums.get("text") else ()
                tokens = await self._undamaged(partial(self._tokens, tokenizer, part), told)
            ends = tokens == self.model.spec.end_token  # [n, L]
            counts += np.where(ends.any(1), ends.argmax(1) + 1, 0).tolist()
        return counts

    async def _embed_part(self, tower: Tower, part: Sequence[Any]) -> tuple[Floats, list[ClipError | None]]:
        """Embed at most one maximum batch: float32 [n, D], and n errors, None where good."""
        if tower == "image":  # files and URLs arrive side by side, and are decoded so
            prepared = await self.concurrency.apply(partial(_attempt, self._prepared_image), part, _READERS)
        else:
            prepared = [_attempt(_text_bytes, text) for text in part]
        errors = [item if isinstance(item, ClipError) else None for item in prepared]
        size = self.model.spec.embedding_size
        embeddings = np.zeros((len(part), size), np.float32)
        for group in _groups({n: item for n, item in enumerate(prepared) if not isinstance(item, ClipError)}):
            answer, messages = await self._infer(tower, [*group.values()])
            if answer.shape != (len(group), size):
                raise ContractMismatch(f"{self.model.name} answers {answer.shape}, its spec says {size}")
            embeddings[[*group]] = answer
            for n, message, flaw in zip(group, messages, flaws(answer), strict=True):
                errors[n] = _item_error(message, flaw)
        return embeddings, errors

    def _prepared_image(self, image: ImageLike) -> Prepared:
        model = self.model
        encoded = Reader(model.spec, model.limits, self.timeout_s).read(image)
        return preprocess(encoded, model.spec, model.limits, model.preprocessing) if self.sends_pixels else encoded

    async def _infer(self, tower: Tower, rows: Sequence[Any]) -> tuple[Floats, Sequence[bytes]]:
        """Return embeddings float32 [n, D] of prepared items, and the host's message for each, empty where good."""
        if tower == "image" and self.sends_pixels:
            return await self._infer_pixels(np.stack(rows))
        return await self._undamaged(partial(self._infer_once, tower, rows), self.model.checksums.get(tower, ()))

    async def _undamaged(self, ask: _Ask[_T], sums: Sequence[str]) -> _T:
        """Return an answer; ask again if it was damaged on its way, and without checksums where they aren't told any more."""
        deadline = time.monotonic() + self.timeout_s
        for _ in range(_ATTEMPTS):
            try:
                answer, damaged = await ask(sums)
            except InvalidInput as problem:
                if not (sums and CHECKSUMS in str(problem)):  # which is in the names of both outputs
                    raise
                answer, damaged = await ask(())
                self.note("")  # another variant, or version, was rolled out: it is asked for before the next request
            if not damaged:
                return answer
            _LOG.warning("%s: an answer was damaged on its way (request %s)", self.host.address, current().id)
            if time.monotonic() > deadline:
                break
        raise Unavailable(
            f"{self.host.address} answers with other bytes than its models gave (their checksums differ): see the "
            "server's log, and start it again"
        )

    async def _infer_once(
        self, tower: Tower, rows: Sequence[bytes], sums: Sequence[str]
    ) -> tuple[tuple[Floats, Sequence[bytes]], bool]:
        """Return embeddings and messages, and true if they, or the items, were damaged on their way."""
        name, outputs = ensemble(self.model.name, tower), [EMBEDDING, ERROR, *sums, *[ORIGIN] * self.model.names_origin]
        try:
            embeddings, messages, *told = await self.host.infer(name, rows, tower, outputs)
        except InvalidInput as problem:
            if not (self.model.names_origin and ORIGIN in str(problem)):
                raise
            self.note("")
            raise ContractMismatch(
                f"{self.host.address} doesn't name the space of its answers any more ({problem}), as it did when this client "
                "began: make a new client"
            ) from problem
        answered = [*messages.ravel()]
        steps, named = told[: len(sums)], told[len(sums) :]
        if sums:
            came = of_strings(rows, answered, *(tensor.ravel() for tensor in named))
            if is_damaged(came, steps, embeddings if CHECKSUMS in sums else None):
                return (embeddings, answered), True
        for origin in [origin for tensor in named for origin in origins(tensor)]:
            self.note(origin.fingerprint)
            check_space([origin.space], self.model.spec, self.host.address)
        return (embeddings, answered), False

    async def _tokens(
        self, tokenizer: str, rows: Sequence[bytes], told_too: Sequence[str]
    ) -> tuple[npt.NDArray[np.int32], bool]:
        """Return tokens [n, L], and true if they, or the texts, were damaged on their way."""
        tokens, *told = await self.host.infer(tokenizer, rows, TEXT, [TOKENS, *told_too])
        return tokens, bool(told) and is_damaged(of_strings(rows, *(beside.ravel() for beside in told[:2])), told[2:], tokens)

    async def _pixels_once(self, pixels: npt.NDArray[np.uint8], sums: Sequence[str]) -> tuple[Floats, bool]:
        """Return the image encoder's answer, and true if it, or the pixels, were damaged on their way."""
        embeddings, *steps = await self.host.infer(encoder(self.model.name, "image"), pixels, PIXELS, [EMBEDDING, *sums])
        return embeddings, bool(steps) and is_damaged(of_array(pixels), steps, embeddings)

    async def _infer_pixels(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Sequence[bytes]]:
        """Return the encoder's answer, which names no origin: the ensemble in front of it is asked who answers."""
        name = self.model.name
        sums = [output for output in self.model.checksums.get("image", ()) if output == CHECKSUMS]
        embeddings = await self._undamaged(partial(self._pixels_once, pixels), sums)
        told = await told_fingerprint(self.host, name, "image") if self.model.names_origin else self.model.spec.fingerprint
        if told != self.model.spec.fingerprint:
            self.note(told)
            check_space([(await self.served()).spec.space], self.model.spec, self.host.address)
        return embeddings, [b""] * len(pixels)


def _attempt(prepare: Callable[[Any], Prepared], item: Any) -> Prepared | ClipError:
    try:
        return prepare(item)
    except ClipError as problem:
        return problem
    except (MemoryError, RuntimeError):  # the process' own: no memory, no more threads
        raise
    except Exception as problem:  # of an object of somebody else's
        return InvalidInput(f"{a_type(item)} can't be read ({type(problem).__name__}: {problem})")


def _text_bytes(text: Any) -> bytes:
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    if not isinstance(text, str):
        raise InvalidInput(f"a text can't be {a_type(text)}: expected str, or bytes in UTF-8")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"the text can't be encoded ({problem.reason} at {problem.start}): remove it") from problem


def _groups(prepared: Mapping[int, Prepared]) -> Iterator[dict[int, Prepared]]:
    """Cut items by position into runs of about REQUEST_BYTES at most."""
    group: dict[int, Prepared] = {}
    size = 0
    for n, item in prepared.items():
        size_bytes = item.nbytes if isinstance(item, np.ndarray) else len(item)
        if group and size + size_bytes > REQUEST_BYTES:
            yield group
            group, size = {}, 0
        group[n] = item
        size += size_bytes
    if group:
        yield group


def _item_error(message: bytes, flaw: str) -> ClipError | None:
    """Return the host's error for an item, else the flaw of its embedding: zeros without a reason aren't a success."""
    if message:
        return InvalidInput(message.decode("utf-8"))
    return ContractMismatch(flaw) if flaw else None
