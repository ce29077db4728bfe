"""Calls of the SDK, written once as coroutines: :class:`AsyncClip` has them, :class:`Clip` runs them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

from clip_client.clip_tasks import ClipTasks
from clip_client.comparison import Comparison, Floats, compared
from clip_client.concurrency import Concurrency
from clip_client.embedding_requests import EmbeddingRequests
from clip_client.errors import ClipError, InvalidInput, SpaceChanged, Unavailable
from clip_client.html_tables import table
from clip_client.images import ImageLike, is_one_image
from clip_client.item_lists import iterable
from clip_client.model_host import MOST_S, ModelHost, check_timeout, check_wait
from clip_client.served_model import Rolling, ServedModel, served_model
from clip_client.spec import TOWERS, ModelSpec, Tower, ensemble

TextLike = str | bytes
OnError = Literal["raise", "none"]
Place = Literal["server", "client"]

IN_FLIGHT = 4
"""Requests of a list: in this process, one is encoded while the next are read and decoded."""


_ROLL_S, _LOOK_S = 10.0, 0.1  # patience with a server that goes over to another checkpoint, and between looks at it
_SHOWN = 20  # reasons that are shown


class Embeddings(list["Floats | None"]):
    """Outcome of ``on_error="none"`` for a list: one embedding [D] per item, None where it failed.

    Attributes:
        errors: reason by position of each failed item.
    """

    def __init__(self, rows: Iterable[Floats | None], errors: dict[int, str]) -> None:
        super().__init__(rows)
        self.errors = errors

    def __repr__(self) -> str:
        rows = [row for row in self if row is not None]
        size = f" of float32 [{len(rows[0])}]" if rows else ""
        reasons = [f"  {n}: {reason}" for n, reason in [*self.errors.items()][:_SHOWN]]
        return "\n".join([f"Embeddings({len(rows)} of {len(self)} embedded{size})", *reasons])

    def _repr_html_(self) -> str:
        """Return a table for notebooks: items that failed, with their reasons."""
        reasons = [[n, reason] for n, reason in [*self.errors.items()][:_SHOWN]]
        summary = f"{len(self) - len(self.errors)} of {len(self)} embedded"
        return table(reasons, head=["", summary], more=len(self.errors) - len(reasons))


@dataclass(frozen=True)
class ClipOptions:
    """Options of a client, as :class:`clip_client.Clip` explains them."""

    name: str
    timeout_s: float
    requests_in_flight: int = IN_FLIGHT
    preprocess: Place = "server"

    def __post_init__(self) -> None:
        check_timeout(self.timeout_s)
        if not isinstance(self.name, str) or not self.name:
            raise InvalidInput(f"name is {self.name!r}: expected that of a checkpoint, clip say")
        at_once = self.requests_in_flight
        if not isinstance(at_once, int) or isinstance(at_once, bool) or at_once < 1:
            raise InvalidInput(f"requests_in_flight is {at_once!r}: expected a whole number, at least 1")
        if self.preprocess not in get_args(Place):
            raise InvalidInput(f"preprocess is {self.preprocess!r}: expected 'server' or 'client'")


class ClipCalls(ClipTasks):
    """Calls to the two ensembles of one checkpoint on any host."""

    def __init__(self, host: ModelHost, options: ClipOptions, concurrency: Concurrency) -> None:
        self.name = options.name
        self._host = host
        self._options = options
        self._concurrency = concurrency
        self._known: EmbeddingRequests | None = None
        self._known_outages = 0
        self._told = ""  # fingerprint of the checkpoint that answered last
        self._is_closed = False
        concurrency.close_at_end(self.close)

    def __repr__(self) -> str:
        return self.described(type(self).__name__)

    def described(self, kind: str) -> str:
        """Return a client of this kind in a line: its models, their host, and its state."""
        known = f"fingerprint {self._known.model.spec.fingerprint}" if self._known else "not asked yet"
        return f"<{kind} {self.name!r} at {self._host.address}, {'closed' if self._is_closed else known}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidInput(f"an {type(self).__name__} can't be copied or pickled, it belongs to its event loop: make one there")

    async def spec(self) -> ModelSpec:
        """Return the spec of the checkpoint; fetched once.

        Raises:
            ContractMismatch: the models aren't clipserve's, or image and text come from different checkpoints.
        """
        return (await self._requests()).model.spec

    async def wait_ready(self, *, timeout_s: float = 60.0) -> None:
        """Return once both ensembles are ready, and the server, if there is one.

        Raises:
            InvalidInput: ``timeout_s`` isn't a number of seconds.
            Unavailable: they aren't within ``timeout_s``; the message names the missing parts.
        """
        check_wait(timeout_s)
        deadline = time.monotonic() + timeout_s
        models = [ensemble(self.name, tower) for tower in TOWERS]
        while reason := await self._host.not_ready(models, timeout_s=min(max(deadline - time.monotonic(), 0.1), MOST_S)):
            if time.monotonic() > deadline:
                raise Unavailable(f"not ready within {timeout_s:g} s: {reason}")
            await self._concurrency.sleep(0.1)

    @overload
    async def embed_image(self, images: ImageLike | Iterable[ImageLike], *, on_error: Literal["raise"] = "raise") -> Floats: ...
    @overload
    async def embed_image(self, images: ImageLike, *, on_error: Literal["none"]) -> Floats | None: ...  # type: ignore[overload-overlap]
    @overload
    async def embed_image(self, images: Iterable[ImageLike], *, on_error: Literal["none"]) -> Embeddings: ...
    async def embed_image(
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
        return await self._embed("image", images, is_one_image(images), on_error)

    @overload
    async def embed_text(self, texts: TextLike | Iterable[TextLike], *, on_error: Literal["raise"] = "raise") -> Floats: ...
    @overload
    async def embed_text(self, texts: TextLike, *, on_error: Literal["none"]) -> Floats | None: ...  # type: ignore[overload-overlap]
    @overload
    async def embed_text(self, texts: Iterable[TextLike], *, on_error: Literal["none"]) -> Embeddings: ...
    async def embed_text(
        self, texts: TextLike | Iterable[TextLike], *, on_error: OnError = "raise"
    ) -> Floats | Embeddings | None:
        """Embed one text, or a list of any length; longer texts are cut at the context, as the checkpoint's tokenizer does.

        Returns, Raises: as :meth:`embed_image`.
        """
        return await self._embed("text", texts, isinstance(texts, str | bytes | bytearray), on_error)

    async def count_tokens(self, texts: Sequence[TextLike]) -> list[int]:
        """Return the number of tokens of each text, start and end included, cut at the context; 0 where a text can't be read.

        Raises:
            InvalidInput: a text can't be encoded.
            Unavailable, Timeout: the server is down or too slow.
        """
        single = isinstance(texts, str | bytes | bytearray)
        listed: Sequence[Any] = [texts] if single else list(iterable(texts, "texts", "a list of texts"))
        return await (await self._requests()).count_tokens(listed)

    async def compare(
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
        if unknown := [side for side in (subject_type, prompt_type) if side not in TOWERS]:
            raise InvalidInput(f"a side can't be {', '.join(map(repr, unknown))}: expected 'image' or 'text'")
        subjects, prompts = await self._side(subject, subject_type), await self._side(prompt, prompt_type)
        return compared(subjects, prompts, await self.spec())

    async def embed_each(self, tower: Tower, items: Sequence[Any]) -> tuple[Floats, dict[int, ClipError]]:
        """Return embeddings, float32 [N, D], and the error by position of each item that failed, whose row is zeros."""
        requests = await self._requests()
        answer = await requests.embed(tower, items)
        await self._check_unchanged()
        return answer

    async def close(self) -> None:
        """Close the connection; give back the memory of models in this process."""
        closable = await self._concurrency.close()
        self._is_closed = True
        if closable:
            await self._host.close()

    async def _side(self, items: Any, tower: Tower) -> Floats:
        return await (self.embed_image(items) if tower == "image" else self.embed_text(items))

    async def _requests(self) -> EmbeddingRequests:
        if self._known is None or self._told != self._known.model.spec.fingerprint:
            return await self._concurrency.once(self._begin)
        return self._known

    async def _begin(self) -> EmbeddingRequests:
        """Ask for the checkpoint, whose space is the one that this client goes on with.

        Raises:
            SpaceChanged: it began with another.
        """
        outages, options = self._host.outages, self._options
        model = await self._served()
        if self._known and self._known.model.spec.space != model.spec.space:
            now, before = (f"{spec.fingerprint} in space {spec.space}" for spec in (model.spec, self._known.model.spec))
            raise SpaceChanged(
                f"{self._host.address} holds {now} since it changed, this client began with {before}: make a new client, and "
                "embed again what is kept"
            )
        self._known_outages, self._told = outages, model.spec.fingerprint
        self._known = EmbeddingRequests(
            self._host,
            model,
            options.timeout_s,
            options.requests_in_flight,
            options.preprocess == "client",
            self._concurrency,
            self._note,
            self._served,
        )
        return self._known

    def _note(self, fingerprint: str) -> None:
        """Note the checkpoint that answered; another one is asked for its spec before the next request."""
        self._told = fingerprint

    async def _served(self) -> ServedModel:
        """Return what the host serves; wait while it goes over to another checkpoint."""
        deadline = time.monotonic() + min(_ROLL_S, self._options.timeout_s)
        while True:
            try:
                return await served_model(self._host, self.name)
            except Rolling:
                if time.monotonic() > deadline:
                    raise
            await self._concurrency.sleep(_LOOK_S)

    async def _check_unchanged(self) -> None:
        """Refuse another space that came up after an outage."""
        if self._known_outages != self._host.outages:
            await self._concurrency.once(self._begin)

    async def _embed(self, tower: Tower, items: Any, single: bool, on_error: OnError) -> Floats | Embeddings | None:
        if on_error not in ("raise", "none"):
            raise InvalidInput(f"on_error is {on_error!r}, expected 'raise' or 'none'")
        batch = [items] if single else list(iterable(items, f"{tower}s", f"one {tower}, or a list of them"))
        embeddings, errors = await self.embed_each(tower, batch)
        if errors and on_error == "raise":
            raise errors[0] if single else _summary(tower, batch, errors)
        if on_error == "none":
            reasons = {n: str(error) for n, error in errors.items()}
            rows = Embeddings((None if n in errors else row for n, row in enumerate(embeddings)), reasons)
            return rows[0] if single else rows
        return embeddings[0] if single else embeddings


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
