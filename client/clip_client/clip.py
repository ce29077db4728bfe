"""The SDK: images and texts in, embeddings and comparisons out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Literal, TypeVar, get_args, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from clip_client.comparison import Comparison, Floats, compared
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_client.images import ImageLike, Reader
from clip_client.preprocess import Limits, Preprocessing, preprocess
from clip_client.soundness import flaws
from clip_client.spec import EMBEDDING, ERROR, PIXELS, TEXT, TOKENS, TOWERS, ModelSpec, Tower, ensemble
from clip_client.triton import Triton

TextLike = str | bytes
OnError = Literal["raise", "none"]
Place = Literal["server", "client"]
Prepared = bytes | npt.NDArray[np.uint8]
_T = TypeVar("_T")

_READERS = 8

REQUEST_BYTES = 32 * 2**20
"""A request is closed once it holds this much, so that a batch of camera files stays far from gRPC's 2 GB."""


class Embeddings(list["Floats | None"]):
    """What ``on_error="none"`` returns: one embedding [D] per item, None where it failed.

    Attributes:
        errors: reason by position of each failed item.
    """

    def __init__(self, rows: Iterable[Floats | None], errors: dict[int, str]) -> None:
        super().__init__(rows)
        self.errors = errors


@dataclass(frozen=True)
class Served:
    """What a server holds: a checkpoint, how many items one request may have, bounds on an image, how it prepares one."""

    spec: ModelSpec
    max_batch: int
    limits: Limits
    preprocessing: Preprocessing


class Clip:
    """A client of the two ensembles that a Triton serves for one checkpoint.

    >>> with Clip("localhost:8001") as clip:
    ...     clip.compare("cat.jpg", ["a cat", "a dog"]).probabilities

    Args:
        address: host and port of Triton's gRPC endpoint.
        name: what the checkpoint was published as.
        timeout_s: bound on each request (a long list is many requests).
        requests_in_flight: how many requests are under way at once for a list.
        preprocess: where images are decoded and resized, with the same result: on the ``server``, or by the ``client``,
            which spares a busy server the work.
    """

    def __init__(
        self,
        address: str = "localhost:8001",
        *,
        name: str = "clip",
        timeout_s: float = 30.0,
        requests_in_flight: int = 4,
        preprocess: Place = "server",
    ) -> None:
        if requests_in_flight < 1:
            raise InvalidInput(f"requests_in_flight is {requests_in_flight}: expected at least 1")
        if preprocess not in get_args(Place):
            raise InvalidInput(f"preprocess is {preprocess!r}: expected 'server' or 'client'")
        self.name = name
        self._sends_pixels = preprocess == "client"
        self._timeout_s = timeout_s
        self._requests_in_flight = requests_in_flight
        self._triton = Triton(address, timeout_s=timeout_s)

    @property
    def spec(self) -> ModelSpec:
        """What the server's checkpoint is; fetched once.

        Raises:
            ContractMismatch: the models aren't clipserve's, or image and text come from different checkpoints.
        """
        return self._served.spec

    def wait_ready(self, *, timeout_s: float = 60.0) -> None:
        """Return once the server and both ensembles are ready.

        Raises:
            Unavailable: they aren't within ``timeout_s``; the message says what is missing.
        """
        deadline = time.monotonic() + timeout_s
        models = [ensemble(self.name, tower) for tower in TOWERS]
        while reason := self._triton.not_ready(models, timeout_s=max(deadline - time.monotonic(), 0.1)):
            if time.monotonic() > deadline:
                raise Unavailable(f"not ready within {timeout_s:g} s: {reason}")
            time.sleep(0.1)

    @overload
    def embed_image(self, images: ImageLike, *, on_error: Literal["raise"] = "raise") -> Floats: ...
    @overload
    def embed_image(self, images: Iterable[ImageLike], *, on_error: Literal["raise"] = "raise") -> Floats: ...
    @overload
    def embed_image(self, images: ImageLike, *, on_error: Literal["none"]) -> Floats | None: ...  # type: ignore[overload-overlap]
    @overload
    def embed_image(self, images: Iterable[ImageLike], *, on_error: Literal["none"]) -> Embeddings: ...
    def embed_image(
        self, images: ImageLike | Iterable[ImageLike], *, on_error: OnError = "raise"
    ) -> Floats | Embeddings | None:
        """Embed one image, or a list of any length.

        An image is a path, an http(s) URL (fetched here, not by the server), encoded bytes, a binary file object, a PIL
        image, or a uint8 array [H, W, 3] in RGB.

        Returns:
            float32 [D] for one image, [N, D] for a list, each row of unit length. With ``on_error="none"`` a failed
            image gives None, and a list gives :class:`Embeddings`, which holds the reasons.

        Raises:
            InvalidInput: an image can't be read or decoded; for a list, ``errors`` maps its position to the reason.
            Unavailable, Timeout: the server is down or too slow.
        """
        return self._embed("image", images, _is_one_image(images), on_error)

    @overload
    def embed_text(self, texts: TextLike, *, on_error: Literal["raise"] = "raise") -> Floats: ...
    @overload
    def embed_text(self, texts: Iterable[TextLike], *, on_error: Literal["raise"] = "raise") -> Floats: ...
    @overload
    def embed_text(self, texts: TextLike, *, on_error: Literal["none"]) -> Floats | None: ...  # type: ignore[overload-overlap]
    @overload
    def embed_text(self, texts: Iterable[TextLike], *, on_error: Literal["none"]) -> Embeddings: ...
    def embed_text(self, texts: TextLike | Iterable[TextLike], *, on_error: OnError = "raise") -> Floats | Embeddings | None:
        """Embed one text, or a list of any length; what exceeds the context is cut off, as the checkpoint's tokenizer does.

        Returns, Raises: as :meth:`embed_image`.
        """
        return self._embed("text", texts, isinstance(texts, str | bytes | bytearray), on_error)

    def count_tokens(self, texts: Sequence[TextLike]) -> list[int]:
        """Return how many tokens of each text the text tower reads, its start and end included; 0 where it can't be read.

        Raises:
            InvalidInput: a text can't be encoded.
            Unavailable, Timeout: the server is down or too slow.
        """
        model, rows = f"{ensemble(self.name, 'text')}_tokenize", self._served.max_batch
        counts: list[int] = []
        for start in range(0, len(texts), rows):
            part = [_text_bytes(text) for text in texts[start : start + rows]]
            [tokens] = self._triton.infer(model, part, TEXT, [TOKENS])
            ends = tokens == self.spec.end_token  # [n, L]
            counts += np.where(ends.any(1), ends.argmax(1) + 1, 0).tolist()
        return counts

    def compare(
        self,
        subject: Any,
        prompt: Any,
        *,
        subject_type: Tower = "image",
        prompt_type: Tower = "text",
    ) -> Comparison:
        """Compare one subject or several with one prompt or several; each side is images or texts.

        Raises:
            InvalidInput: an item of either side can't be embedded, or a type is neither ``image`` nor ``text``.
        """
        if unknown := {subject_type, prompt_type} - set(TOWERS):
            raise InvalidInput(f"a side can't be {', '.join(map(repr, sorted(unknown)))}: expected 'image' or 'text'")
        return compared(self._side(subject, subject_type), self._side(prompt, prompt_type), self.spec)

    def close(self) -> None:
        """Close the connection."""
        self._triton.close()

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _side(self, items: Any, tower: Tower) -> Floats:
        return self.embed_image(items) if tower == "image" else self.embed_text(items)

    @cached_property
    def _served(self) -> Served:
        served = self._fetch_served()
        self._known_outages = self._triton.outages
        return served

    def _fetch_served(self) -> Served:
        configs = [self._triton.config(ensemble(self.name, tower)) for tower in TOWERS]
        image, text = (ModelSpec.from_parameters(_parameters(config)) for config in configs)
        if image.fingerprint != text.fingerprint:
            raise ContractMismatch(
                f"{self.name}: the image models hold {image.fingerprint}, the text models {text.fingerprint}: "
                "publish both from one checkpoint"
            )
        parameters = _parameters(self._triton.config(f"{ensemble(self.name, 'image')}_preprocess"))
        preprocessing: Preprocessing = "fast" if parameters.get("preprocessing") == "fast" else "exact"
        max_batch = min(config.max_batch_size for config in configs)
        return Served(image, max_batch, Limits.from_parameters(parameters), preprocessing)

    def _check_unchanged(self) -> None:
        """After an outage another checkpoint may have come up."""
        if self._known_outages == self._triton.outages:
            return
        now, before = self._fetch_served().spec.fingerprint, self._served.spec.fingerprint
        if now != before:
            raise ContractMismatch(
                f"{self._triton.address} holds {now} since it came back, this client began with {before}: make a new client"
            )
        self._known_outages = self._triton.outages

    def _embed(self, tower: Tower, items: Any, single: bool, on_error: OnError) -> Floats | Embeddings | None:
        if on_error not in ("raise", "none"):
            raise InvalidInput(f"on_error is {on_error!r}, expected 'raise' or 'none'")
        if not single and not isinstance(items, Iterable):
            raise InvalidInput(f"{tower}s can't be a {type(items).__name__}: expected one {tower}, or a list of them")
        batch = [items] if single else list(items)
        embeddings, errors = self._embed_batch(tower, batch)
        if errors and on_error == "raise":
            raise errors[0] if single else _summary(tower, batch, errors)
        if on_error == "none":
            reasons = {n: str(error) for n, error in errors.items()}
            rows = Embeddings((None if n in errors else row for n, row in enumerate(embeddings)), reasons)
            return rows[0] if single else rows
        return embeddings[0] if single else embeddings

    def _embed_batch(self, tower: Tower, batch: list[Any]) -> tuple[Floats, dict[int, ClipError]]:
        """float32 [N, D], and the error of each item that failed."""
        rows, failed = self._served.max_batch, threading.Event()

        def work(part: Sequence[Any]) -> tuple[Floats, list[ClipError | None]]:
            if failed.is_set():  # what waits behind a request that failed isn't begun
                raise Unavailable("given up after another request failed")
            try:
                return self._embed_part(tower, part)
            except BaseException:
                failed.set()
                raise

        parts = [batch[start : start + rows] for start in range(0, len(batch), rows)]
        answers = _mapped(work, parts, self._requests_in_flight)
        self._check_unchanged()
        errors = [error for _, part in answers for error in part]
        embeddings = np.concatenate([np.empty((0, self.spec.embedding_size), np.float32), *(part for part, _ in answers)])
        return embeddings, {n: error for n, error in enumerate(errors) if error}

    def _embed_part(self, tower: Tower, part: Sequence[Any]) -> tuple[Floats, list[ClipError | None]]:
        """Embed at most one maximum batch: float32 [n, D], and n errors, None where good."""
        if tower == "image":  # files and URLs arrive side by side, and are decoded so
            prepared = _mapped(partial(_attempt, self._prepared_image), part, _READERS)
        else:
            prepared = [_attempt(_text_bytes, text) for text in part]
        errors = [one if isinstance(one, ClipError) else None for one in prepared]
        embeddings = np.zeros((len(part), self.spec.embedding_size), np.float32)
        for group in _groups({n: one for n, one in enumerate(prepared) if not isinstance(one, ClipError)}):
            answer, messages = self._infer(tower, [*group.values()])
            if answer.shape != (len(group), self.spec.embedding_size):
                raise ContractMismatch(f"{self.name} answers {answer.shape}, its spec says {self.spec.embedding_size}")
            embeddings[[*group]] = answer
            for n, message, flaw in zip(group, messages, flaws(answer), strict=True):
                errors[n] = _item_error(message, flaw)
        return embeddings, errors

    def _prepared_image(self, image: ImageLike) -> Prepared:
        """An image as it is sent: one encoded file, or its pixels."""
        served = self._served
        encoded = Reader(served.spec, served.limits, self._timeout_s).read(image)
        return preprocess(encoded, served.spec, served.limits, served.preprocessing) if self._sends_pixels else encoded

    def _infer(self, tower: Tower, rows: Sequence[Any]) -> tuple[Floats, Sequence[bytes]]:
        """Embeddings float32 [n, D] of what was prepared, and the server's message for each row, empty where good."""
        model = ensemble(self.name, tower)
        if tower == "image" and self._sends_pixels:
            [embeddings] = self._triton.infer(f"{model}_encoder", np.stack(rows), PIXELS, [EMBEDDING])
            return embeddings, [b""] * len(rows)
        embeddings, messages = self._triton.infer(model, rows, tower, [EMBEDDING, ERROR])
        return embeddings, [*messages.ravel()]


def _is_one_image(images: Any) -> bool:
    return isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image | np.ndarray) or hasattr(
        images, "read"
    )


def _mapped(work: Callable[[Any], _T], items: Sequence[Any], threads: int) -> list[_T]:
    """Call for every item, in threads where there are several; results in order, or the first exception."""
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def _attempt(prepare: Callable[[Any], Prepared], item: Any) -> Prepared | ClipError:
    try:
        return prepare(item)
    except ClipError as problem:
        return problem


def _text_bytes(text: Any) -> bytes:
    if isinstance(text, bytes | bytearray):
        return bytes(text)
    if not isinstance(text, str):
        raise InvalidInput(f"a text can't be a {type(text).__name__}: expected str, or bytes in UTF-8")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"the text can't be encoded ({problem.reason} at {problem.start}): remove it") from problem


def _groups(prepared: Mapping[int, Prepared]) -> Iterator[dict[int, Prepared]]:
    """Cut items by position into runs of about REQUEST_BYTES at most."""
    group: dict[int, Prepared] = {}
    size = 0
    for n, one in prepared.items():
        size_bytes = one.nbytes if isinstance(one, np.ndarray) else len(one)
        if group and size + size_bytes > REQUEST_BYTES:
            yield group
            group, size = {}, 0
        group[n] = one
        size += size_bytes
    if group:
        yield group


def _item_error(message: bytes, flaw: str) -> ClipError | None:
    """Return what the server says of an item, else what its embedding shows: zeros without a reason aren't a success."""
    if message:
        return InvalidInput(message.decode("utf-8"))
    return ContractMismatch(flaw) if flaw else None


def _parameters(config: Any) -> dict[str, str]:
    return {key: parameter.string_value for key, parameter in config.parameters.items()}


def _summary(tower: Tower, batch: Sequence[Any], errors: dict[int, ClipError]) -> InvalidInput:
    """One error for those of a list; it names the first five."""
    shown = [f"{tower} {n}{_label(batch[n], str(error))}: {error}" for n, error in list(errors.items())[:5]]
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    message = f"{len(errors)} of {len(batch)} {tower}s can't be embedded: " + "; ".join(shown) + more
    return InvalidInput(message, errors={n: str(error) for n, error in errors.items()})


def _label(item: Any, message: str) -> str:
    """A path in brackets, unless the message names it already."""
    name = str(item) if isinstance(item, os.PathLike | str) else ""
    return f" ({name})" if name and len(name) < 200 and name not in message else ""
