"""Zero-shot classifiers: labels that were embedded once, for any number of images."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_client.blocking import blocking
from clip_client.classification import Classification, classified
from clip_client.comparison import Floats
from clip_client.embedded import Embedded, source_of
from clip_client.embedding_streams import AsyncItemStream, ItemStream
from clip_client.errors import InvalidInput
from clip_client.images import ImageLike, is_one_image
from clip_client.item_lists import iterable
from clip_client.streams import OnError
from clip_client.zero_shot import Templates, checked_labels, checked_templates, label_embeddings, prompts

if TYPE_CHECKING:
    from clip_client.clip_tasks import ClipTasks

_LABELS = 64  # embedded at a time: with 80 templates some thousand texts


@dataclass(frozen=True, eq=False)
class Classified:
    """An image of a stream with its classification, or the reason why it has none.

    Attributes:
        position: of the image in what was passed, from 0.
        source: its path, URL or file name, where it has one.
        classification: of this image; None where it failed.
        reason: of the failure; empty where there is a classification.
    """

    position: int
    source: str
    classification: Classification | None
    reason: str = ""

    @property
    def best(self) -> str | None:
        """Likeliest label; None where the image failed."""
        return self.classification.best if self.classification else None

    def __repr__(self) -> str:
        outcome = f"{self.best!r}" if self.classification else f"reason={self.reason!r}"
        return f"Classified(position={self.position}, source={self.source!r}, {outcome})"


class ZeroShotCalls:
    """Zero-shot classifier of an asynchronous client, which ``await clip.zero_shot(labels)`` returns.

    Attributes:
        labels: L of them.
        templates: that the labels were put into.
        embeddings: float32 [L, D], of the labels, of unit length.
    """

    def __init__(self, clip: ClipTasks, labels: tuple[str, ...], templates: tuple[str, ...], embeddings: Floats) -> None:
        self.labels, self.templates, self.embeddings = labels, templates, embeddings
        self._clip = clip

    async def classify(self, images: ImageLike | Iterable[ImageLike]) -> Classification:
        """Classify one image, or a list of any length.

        Returns:
            one row per image; in a list, an image that can't be embedded has NaN and its reason in ``errors``.

        Raises:
            InvalidInput: the only image can't be read or decoded.
            Unavailable, Timeout: the server is down or too slow.
        """
        spec = await self._clip.spec()
        if is_one_image(images):
            embedding = await self._clip.embed_image(images)
            return replace(classified(embedding, self.embeddings, self.labels, spec), sources=[source_of(images)])
        batch = _listed(images)
        embeddings, errors = await self._clip.embed_each("image", batch)
        embeddings[[*errors]] = np.nan
        result = classified(embeddings, self.embeddings, self.labels, spec)
        return replace(result, errors={n: str(error) for n, error in errors.items()}, sources=[*map(source_of, batch)])

    def stream(self, images: Any, *, on_error: OnError = "raise", progress: bool = False) -> AsyncItemStream[Classified]:
        """Classify any number of images; takes, yields and raises as ``embed_images``."""
        stream, results = self._clip._stream_on_loop("image", images, on_error, progress)
        stream.books.verb = "classified"
        return AsyncItemStream(self._each(results), stream.books)

    async def _each(self, results: AsyncIterator[Embedded]) -> AsyncIterator[Classified]:
        spec = await self._clip.spec()
        try:
            async for item in results:
                outcome = None
                if item.embedding is not None:
                    outcome = replace(classified(item.embedding, self.embeddings, self.labels, spec), sources=[item.source])
                yield Classified(item.position, item.source, outcome, item.reason)
        finally:
            await results.aclose()  # type: ignore[attr-defined]  # a generator

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.labels)} labels, {len(self.templates)} templates)"


class ZeroShot:
    """Zero-shot classifier, which ``clip.zero_shot(labels)`` returns: the labels are embedded once.

    Attributes:
        labels: L of them.
        templates: that the labels were put into.
        embeddings: float32 [L, D], of the labels, of unit length.
    """

    def __init__(self, calls: ZeroShotCalls) -> None:
        self._calls = calls
        self.labels, self.templates, self.embeddings = calls.labels, calls.templates, calls.embeddings

    classify = blocking(ZeroShotCalls.classify)

    def stream(self, images: Any, *, on_error: OnError = "raise", progress: bool = False) -> ItemStream[Classified]:
        """Classify any number of images; takes, yields and raises as ``embed_images``."""
        clip = self._calls._clip
        stream, results = clip._stream("image", images, on_error, progress, clip._threads())
        stream.books.verb = "classified"
        return ItemStream(self._calls._each(results), stream.books)

    def __reduce__(self) -> tuple[Any, ...]:
        raise InvalidInput("a ZeroShot can't be copied or pickled: pickle the client and the labels, and make one there")

    def __repr__(self) -> str:
        return f"ZeroShot({len(self.labels)} labels, {len(self.templates)} templates)"


async def zero_shot(clip: ClipTasks, labels: Iterable[str], templates: Templates) -> ZeroShotCalls:
    """Embed labels in templates, some at a time; return their classifier."""
    names, sentences = checked_labels(labels), checked_templates(templates)
    pieces = [names[start : start + _LABELS] for start in range(0, len(names), _LABELS)]
    embeddings = [label_embeddings(await clip.embed_text(prompts(piece, sentences)), piece) for piece in pieces]
    return ZeroShotCalls(clip, names, sentences, np.concatenate(embeddings))


def _listed(images: Any) -> Sequence[Any]:
    return list(iterable(images, "images", "one image, or a list of them"))
