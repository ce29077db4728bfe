"""The SDK: images and texts in, embeddings and comparisons out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from types import TracebackType
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from clip_client import images as image_input
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_client.images import ImageLike
from clip_client.spec import EMBEDDING, ERROR, TOWERS, ModelSpec, Tower, ensemble
from clip_client.triton import Triton

Floats = npt.NDArray[np.float32]
TextLike = str | bytes
OnError = Literal["raise", "none"]

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
class Comparison:
    """Subjects against prompts; N and M are missing from the shapes where one item was passed instead of a list.

    Attributes:
        cosines: float32 [N, M], cosine of each pair.
        probabilities: float32 [N, M], the activation of ``logit_scale * cosine + logit_bias``: with softmax each row
            sums to 1 over the prompts, with sigmoid each pair stands for itself.
    """

    cosines: Floats
    probabilities: Floats


class Clip:
    """A client of the two ensembles that a Triton serves for one checkpoint.

    >>> with Clip("localhost:8001") as clip:
    ...     clip.compare("cat.jpg", ["a cat", "a dog"]).probabilities

    Args:
        address: host and port of Triton's gRPC endpoint.
        name: what the checkpoint was published as.
        timeout_s: bound on each request (a long list is many requests).
        requests_in_flight: how many requests are under way at once for a list.
    """

    def __init__(
        self,
        address: str = "localhost:8001",
        *,
        name: str = "clip",
        timeout_s: float = 30.0,
        requests_in_flight: int = 4,
    ) -> None:
        self.name = name
        self._timeout_s = timeout_s
        self._requests_in_flight = requests_in_flight
        self._triton = Triton(address, timeout_s=timeout_s)

    @property
    def spec(self) -> ModelSpec:
        """What the server's checkpoint is; fetched once.

        Raises:
            ContractMismatch: the models aren't clipserve's, or image and text come from different checkpoints.
        """
        return self._served["image"][0]

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
        return self._embed("text", texts, isinstance(texts, str | bytes), on_error)

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
            InvalidInput: an item of either side can't be embedded.
        """
        subjects, prompts = self._side(subject, subject_type), self._side(prompt, prompt_type)
        cosines = np.atleast_2d(subjects) @ np.atleast_2d(prompts).T
        shape = subjects.shape[:-1] + prompts.shape[:-1]
        return Comparison(cosines.reshape(shape), probabilities(cosines, self.spec).reshape(shape))

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
    def _served(self) -> dict[Tower, tuple[ModelSpec, int]]:
        """Spec and maximum batch size by tower."""
        served = {tower: self._contract(ensemble(self.name, tower)) for tower in TOWERS}
        image, text = (served[tower][0].fingerprint for tower in TOWERS)
        if image != text:
            raise ContractMismatch(
                f"{self.name}: the image models hold {image}, the text models {text}: publish both from one checkpoint"
            )
        return served

    def _contract(self, model: str) -> tuple[ModelSpec, int]:
        config = self._triton.config(model)
        parameters = {key: parameter.string_value for key, parameter in config.parameters.items()}
        return ModelSpec.from_parameters(parameters), config.max_batch_size

    def _embed(self, tower: Tower, items: Any, single: bool, on_error: OnError) -> Floats | Embeddings | None:
        if on_error not in ("raise", "none"):
            raise InvalidInput(f"on_error is {on_error!r}, expected 'raise' or 'none'")
        batch = [items] if single else list(items)
        embeddings, errors = self._embed_batch(tower, batch)
        if errors and on_error == "raise":
            raise InvalidInput(_summary(tower, batch, errors, single), errors=errors)
        if on_error == "none":
            rows = Embeddings((None if n in errors else row for n, row in enumerate(embeddings)), errors)
            return rows[0] if single else rows
        return embeddings[0] if single else embeddings

    def _embed_batch(self, tower: Tower, batch: list[Any]) -> tuple[Floats, dict[int, str]]:
        spec, rows = self._served[tower]
        parts = [batch[start : start + rows] for start in range(0, len(batch), rows)]
        with ThreadPoolExecutor(self._requests_in_flight) as pool:
            try:
                answers = list(pool.map(self._embed_part, repeat(tower), parts))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        embeddings = [embedding for part, _ in answers for embedding in part]
        reasons = [reason for _, part in answers for reason in part]
        shaped = np.array(embeddings, np.float32).reshape(len(batch), spec.embedding_size)
        return shaped, {n: reason for n, reason in enumerate(reasons) if reason}

    def _embed_part(self, tower: Tower, part: Sequence[Any]) -> tuple[Floats, list[str]]:
        """Embed at most one maximum batch: float32 [n, D], and n reasons, empty where good."""
        spec, _ = self._served[tower]
        encoded, reasons = zip(*(self._encoded(tower, item) for item in part), strict=True)
        good = [n for n, reason in enumerate(reasons) if not reason]
        embeddings, errors = np.zeros((len(part), spec.embedding_size), np.float32), list(reasons)
        for group in _groups(good, [len(row) for row in encoded]):
            rows = [encoded[n] for n in group]
            answer, messages = self._triton.infer(ensemble(self.name, tower), rows, tower, [EMBEDDING, ERROR])
            embeddings[group] = answer
            for n, message in zip(group, messages.ravel(), strict=True):
                errors[n] = message.decode("utf-8")
        return embeddings, errors

    def _encoded(self, tower: Tower, item: Any) -> tuple[bytes, str]:
        """One item's bytes and an empty reason, or no bytes and the reason."""
        try:
            if tower == "text":
                return _text_bytes(item), ""
            return image_input.encoded(item, timeout_s=self._timeout_s), ""
        except ClipError as problem:
            return b"", str(problem)


def probabilities(cosines: Floats, spec: ModelSpec) -> Floats:
    """Cosines [N, M] of subjects and prompts to probabilities [N, M], with the checkpoint's scale, bias and activation."""
    logits = np.float32(spec.logit_scale) * cosines + np.float32(spec.logit_bias)
    if spec.activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
    exponentials = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    return np.asarray(exponentials / np.sum(exponentials, axis=1, keepdims=True), np.float32)


def _is_one_image(images: Any) -> bool:
    return isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image | np.ndarray) or hasattr(
        images, "read"
    )


def _text_bytes(text: Any) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise InvalidInput(f"a text can't be a {type(text).__name__}: expected str, or bytes in UTF-8")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"the text can't be encoded ({problem.reason} at {problem.start}): remove it") from problem


def _groups(positions: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Cut positions into runs whose sizes add up to about REQUEST_BYTES at most."""
    group: list[int] = []
    for n in positions:
        if group and sum(sizes[m] for m in group) + sizes[n] > REQUEST_BYTES:
            yield group
            group = []
        group.append(n)
    if group:
        yield group


def _summary(tower: Tower, batch: Sequence[Any], errors: dict[int, str], single: bool) -> str:
    labels = {n: image_input.label(batch[n]) if tower == "image" else "" for n in errors}
    if single:
        return errors[0] + labels[0]
    shown = [f"{tower} {n}{labels[n]}: {errors[n]}" for n in list(errors)[:5]]
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    return f"{len(errors)} of {len(batch)} {tower}s can't be embedded: " + "; ".join(shown) + more
