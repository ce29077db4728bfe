"""The SDK: images and texts in, embeddings and comparisons out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
from PIL import Image

from clip_client.comparison import Comparison, Floats, compared
from clip_client.embedding_requests import EmbeddingRequests
from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_client.images import ImageLike
from clip_client.model_host import ModelHost, check_timeout
from clip_client.model_repository import FOLDER
from clip_client.ports import TRITON_ADDRESS
from clip_client.served_model import served_model
from clip_client.spec import TOWERS, ModelSpec, Tower, ensemble

TextLike = str | bytes
OnError = Literal["raise", "none"]
Place = Literal["server", "client"]

_IN_FLIGHT = 4  # requests of a list: in this process, one is encoded while the next are read and decoded


class Embeddings(list["Floats | None"]):
    """Outcome of ``on_error="none"`` for a list: one embedding [D] per item, None where it failed.

    Attributes:
        errors: reason by position of each failed item.
    """

    def __init__(self, rows: Iterable[Floats | None], errors: dict[int, str]) -> None:
        super().__init__(rows)
        self.errors = errors


class Clip:
    """A client of the two ensembles of one checkpoint: on a Triton, or in this process (:meth:`local`).

    >>> with Clip("localhost:8001") as clip:
    ...     clip.compare("cat.jpg", ["a cat", "a dog"]).probabilities

    Args:
        address: host and port of Triton's gRPC endpoint.
        name: the checkpoint's, as it was published.
        timeout_s: bound on each request (a long list is many requests).
        requests_in_flight: most requests that are under way at once for a list.
        preprocess: place where images are decoded and resized, with the same result: the ``server``, or the ``client``, which
            spares a busy server the work.
    """

    def __init__(
        self,
        address: str = TRITON_ADDRESS,
        *,
        name: str = "clip",
        timeout_s: float = 30.0,
        requests_in_flight: int = _IN_FLIGHT,
        preprocess: Place = "server",
    ) -> None:
        if requests_in_flight < 1:
            raise InvalidInput(f"requests_in_flight is {requests_in_flight}: expected at least 1")
        if preprocess not in get_args(Place):
            raise InvalidInput(f"preprocess is {preprocess!r}: expected 'server' or 'client'")
        from clip_client.triton import Triton  # gRPC is loaded for a server alone

        host = Triton(address, timeout_s=timeout_s)
        self._begin(host, name, timeout_s, requests_in_flight, sends_pixels=preprocess == "client")

    @classmethod
    def local(
        cls,
        repository: str | os.PathLike[str] = FOLDER,
        *,
        name: str = "clip",
        device: str = "CPU",
        threads: int | None = None,
        timeout_s: float = 30.0,
    ) -> Clip:
        """Open the models of a repository in this process: the same embeddings and errors, without a server.

        It needs ``clipserve[local]``. Weights are loaded when they are first used, or by :meth:`wait_ready`. What is open stays
        open when the repository is exchanged; weights of another checkpoint aren't loaded then. A forked process opens its own.

        >>> with Clip.local("model_repository") as clip:
        ...     clip.embed_text("a cat")

        Args:
            repository: folder that ``clipserve export`` published into.
            name: the checkpoint's, as it was published.
            device: that runs the encoders, as their engine calls it: for OpenVINO ``CPU``, ``GPU``, ``AUTO``; for ONNX Runtime
                ``CPU``, ``CUDA``, or the whole name of an execution provider.
            threads: of each encoder on the CPU, and of the decoders of images; None for the published number, or all cores.
            timeout_s: bound on fetching an image from a URL.

        Raises:
            InvalidInput: no such repository, name or device; half of a checkpoint, or a variant that needs a server.
            ContractMismatch: models of several checkpoints, of another version, or damaged.
            Unavailable: a package isn't installed, or an export is writing.
        """
        check_timeout(timeout_s)
        clip = cls.__new__(cls)
        clip._begin(_local_host(repository, name, device, threads), name, timeout_s, _IN_FLIGHT, sends_pixels=False)
        return clip

    def _begin(self, host: ModelHost, name: str, timeout_s: float, in_flight: int, *, sends_pixels: bool) -> None:
        self.name = name
        self._sends_pixels = sends_pixels
        self._timeout_s = timeout_s
        self._requests_in_flight = in_flight
        self._host = host

    @property
    def spec(self) -> ModelSpec:
        """Spec of the checkpoint; fetched once.

        Raises:
            ContractMismatch: the models aren't clipserve's, or image and text come from different checkpoints.
        """
        return self._requests.model.spec

    def wait_ready(self, *, timeout_s: float = 60.0) -> None:
        """Return once both ensembles are ready, and the server, if there is one.

        Raises:
            Unavailable: they aren't within ``timeout_s``; the message names the missing parts.
        """
        deadline = time.monotonic() + timeout_s
        models = [ensemble(self.name, tower) for tower in TOWERS]
        while reason := self._host.not_ready(models, timeout_s=max(deadline - time.monotonic(), 0.1)):
            if time.monotonic() > deadline:
                raise Unavailable(f"not ready within {timeout_s:g} s: {reason}")
            time.sleep(0.1)

    @overload
    def embed_image(self, images: ImageLike | Iterable[ImageLike], *, on_error: Literal["raise"] = "raise") -> Floats: ...
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
    def embed_text(self, texts: TextLike | Iterable[TextLike], *, on_error: Literal["raise"] = "raise") -> Floats: ...
    @overload
    def embed_text(self, texts: TextLike, *, on_error: Literal["none"]) -> Floats | None: ...  # type: ignore[overload-overlap]
    @overload
    def embed_text(self, texts: Iterable[TextLike], *, on_error: Literal["none"]) -> Embeddings: ...
    def embed_text(self, texts: TextLike | Iterable[TextLike], *, on_error: OnError = "raise") -> Floats | Embeddings | None:
        """Embed one text, or a list of any length; longer texts are cut at the context, as the checkpoint's tokenizer does.

        Returns, Raises: as :meth:`embed_image`.
        """
        return self._embed("text", texts, isinstance(texts, str | bytes | bytearray), on_error)

    def count_tokens(self, texts: Sequence[TextLike]) -> list[int]:
        """Return the number of tokens of each text, start and end included, cut at the context; 0 where a text can't be read.

        Raises:
            InvalidInput: a text can't be encoded.
            Unavailable, Timeout: the server is down or too slow.
        """
        return self._requests.count_tokens(texts)

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
        """Close the connection; give back the memory of models in this process."""
        self._host.close()

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _side(self, items: Any, tower: Tower) -> Floats:
        return self.embed_image(items) if tower == "image" else self.embed_text(items)

    @cached_property
    def _requests(self) -> EmbeddingRequests:
        model = served_model(self._host, self.name)
        self._known_outages = self._host.outages
        return EmbeddingRequests(self._host, model, self._timeout_s, self._requests_in_flight, self._sends_pixels)

    def _check_unchanged(self) -> None:
        """Refuse another checkpoint that came up after an outage."""
        if self._known_outages == self._host.outages:
            return
        now, before = served_model(self._host, self.name).spec.fingerprint, self.spec.fingerprint
        if now != before:
            raise ContractMismatch(
                f"{self._host.address} holds {now} since it came back, this client began with {before}: make a new client"
            )
        self._known_outages = self._host.outages

    def _embed(self, tower: Tower, items: Any, single: bool, on_error: OnError) -> Floats | Embeddings | None:
        if on_error not in ("raise", "none"):
            raise InvalidInput(f"on_error is {on_error!r}, expected 'raise' or 'none'")
        if not single and not isinstance(items, Iterable):
            raise InvalidInput(f"{tower}s can't be a {type(items).__name__}: expected one {tower}, or a list of them")
        batch = [items] if single else list(items)
        embeddings, errors = self._requests.embed(tower, batch)
        self._check_unchanged()
        if errors and on_error == "raise":
            raise errors[0] if single else _summary(tower, batch, errors)
        if on_error == "none":
            reasons = {n: str(error) for n, error in errors.items()}
            rows = Embeddings((None if n in errors else row for n, row in enumerate(embeddings)), reasons)
            return rows[0] if single else rows
        return embeddings[0] if single else embeddings


def _local_host(repository: str | os.PathLike[str], name: str, device: str, threads: int | None) -> ModelHost:
    if not isinstance(repository, str | os.PathLike):
        raise InvalidInput(f"repository is {repository!r}: expected the path of a folder")
    try:
        from clip_client.local_host import LocalHost
        from clip_client.local_tower import Hardware
    except ImportError as problem:
        raise Unavailable(f"Clip.local needs another package ({problem}): pip install 'clipserve[local]'") from problem
    return LocalHost(Path(repository), name, Hardware(device, threads))


def _is_one_image(images: Any) -> bool:
    return isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image | np.ndarray) or hasattr(
        images, "read"
    )


def _summary(tower: Tower, batch: Sequence[Any], errors: dict[int, ClipError]) -> InvalidInput:
    """Return one error for all of a list's; it names the first five."""
    shown = [f"{tower} {n}{_label(batch[n], str(error))}: {error}" for n, error in list(errors.items())[:5]]
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    message = f"{len(errors)} of {len(batch)} {tower}s can't be embedded: " + "; ".join(shown) + more
    return InvalidInput(message, errors={n: str(error) for n, error in errors.items()})


def _label(item: Any, message: str) -> str:
    """Return a path in brackets, or nothing where the message names it already."""
    name = str(item) if isinstance(item, os.PathLike | str) else ""
    return f" ({name})" if name and len(name) < 200 and name not in message else ""
