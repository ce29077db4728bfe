"""Tasks of a client that are made of its embeddings: streams, zero-shot classification, similarity, health."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_client.blocking import blocking, run
from clip_client.classification import Classification
from clip_client.comparison import Floats
from clip_client.embedded import Embedded
from clip_client.embedding_streams import AsyncItemStream, ItemStream
from clip_client.errors import ClipError, InvalidInput
from clip_client.images import ImageLike, is_one_image
from clip_client.item_lists import iterable
from clip_client.model_host import check_timeout
from clip_client.prompt_templates import DEFAULT
from clip_client.server_health import Health, ServerMetadata, health_of, metadata_of
from clip_client.similarity import side
from clip_client.spec import ModelSpec, Tower
from clip_client.stream_books import Books
from clip_client.streams import Door, OnError, Stream
from clip_client.type_names import a_type
from clip_client.under_way import Threads, UnderWay
from clip_client.zero_shot import Templates
from clip_client.zero_shot_classifiers import ZeroShot, ZeroShotCalls, zero_shot

if TYPE_CHECKING:
    from clip_client.clip_calls import ClipCalls

AnyImages = Iterable[ImageLike] | AsyncIterable[ImageLike]
AnyTexts = Iterable[str | bytes] | AsyncIterable[str | bytes]


class ClipTasks(ABC):
    """Tasks of :class:`~clip_client.clip_calls.ClipCalls`, which embeds."""

    name: str
    _host: Any
    _options: Any

    @abstractmethod
    async def spec(self) -> ModelSpec:
        """Return the spec of the checkpoint."""

    @abstractmethod
    async def wait_ready(self, *, timeout_s: float) -> None:
        """Return once the models are ready."""

    @abstractmethod
    async def embed_image(self, images: Any) -> Any:
        """Embed one image or a list."""

    @abstractmethod
    async def embed_text(self, texts: Any) -> Any:
        """Embed one text or a list."""

    @abstractmethod
    async def embed_each(self, tower: Tower, items: Sequence[Any]) -> tuple[Floats, dict[int, ClipError]]:
        """Return embeddings, float32 [N, D], and the error by position of each item that failed."""

    @abstractmethod
    async def _requests(self) -> Any: ...

    def embed_images(
        self, images: AnyImages, *, on_error: OnError = "raise", progress: bool = False
    ) -> AsyncItemStream[Embedded]:
        """Embed any number of images, of a list, a generator or an asynchronous one, as :meth:`Clip.embed_images` does."""
        stream, results = self._stream_on_loop("image", images, on_error, progress)
        return AsyncItemStream(results, stream.books)

    def embed_texts(self, texts: AnyTexts, *, on_error: OnError = "raise", progress: bool = False) -> AsyncItemStream[Embedded]:
        """Embed any number of texts: as :meth:`embed_images`."""
        stream, results = self._stream_on_loop("text", texts, on_error, progress)
        return AsyncItemStream(results, stream.books)

    async def classify(
        self, images: ImageLike | Iterable[ImageLike], labels: Iterable[str], *, templates: Templates = DEFAULT
    ) -> Classification:
        """Tell which label fits each image best, without training: zero-shot classification.

        Each label is put into the templates; the mean of its prompts' embeddings stands for it, as CLIP's authors do it.

        >>> clip.classify("cat.jpg", ["cat", "dog"], templates="openai-imagenet").best

        Args:
            images: one image, or a list of any length.
            labels: texts, each once.
            templates: ``openai-imagenet`` for the 80 templates of CLIP's repository, ``openai-imagenet-7`` for the 7 that its
                authors picked, ``label`` for the label alone; one text with ``{}`` where the label goes, or several.

        Returns:
            labels, probabilities and cosines; in a list, an image that can't be embedded has NaN and its reason in ``errors``.

        Raises:
            InvalidInput: the only image can't be read or decoded; a label or a template can't be used.
            Unavailable, Timeout: the server is down or too slow.
        """
        return await (await self.zero_shot(labels, templates=templates)).classify(images)

    async def zero_shot(self, labels: Iterable[str], *, templates: Templates = DEFAULT) -> ZeroShotCalls:
        """Embed labels once, for the classification of any number of images; takes and raises as :meth:`classify`."""
        return await zero_shot(self, labels, templates)

    async def similarity(self, a: Any, b: Any = None, *, a_type: Tower | None = None, b_type: Tower | None = None) -> Floats:
        """Return the cosine of each item of ``a`` with each of ``b``, or of ``a`` itself.

        A side is one item, or a list of one kind: images, texts, or embeddings (arrays [D] or [N, D], of any length, or what
        :meth:`embed_images` yields). A ``str`` is a text; one that names a file or a URL is refused unless the type of its
        side is given.

        Returns:
            float32 [N, M]; N and M are missing where one item was passed instead of a list.

        Raises:
            InvalidInput: an item can't be embedded, an embedding has another size or no direction, or a list mixes kinds.
            Unavailable, Timeout: the server is down or too slow.
        """
        first = await side(self, a, "a", a_type)
        second = first if b is None else await side(self, b, "b", b_type)
        cosines = np.atleast_2d(first) @ np.atleast_2d(second).T
        return cosines.clip(-1, 1).reshape(first.shape[:-1] + second.shape[:-1])

    async def health(self, *, timeout_s: float = 5.0) -> Health:
        """Tell what is live and ready, by model and with reasons; raises nothing when the server is down.

        Args:
            timeout_s: bound on each question.
        """
        check_timeout(timeout_s)
        return await health_of(self._host, self.name, timeout_s)

    async def server_metadata(self) -> ServerMetadata:
        """Return what the server says of itself, and the checkpoint that it holds.

        Raises:
            Unavailable, Timeout: the server is down or too slow.
            ContractMismatch: the models aren't clipserve's.
        """
        return await metadata_of(self._host, (await self._requests()).model)

    def _threads(self) -> Threads:
        return Threads(self._options.requests_in_flight)

    def _stream_on_loop(
        self, tower: Tower, items: Any, on_error: OnError, progress: bool
    ) -> tuple[Stream, AsyncIterator[Embedded]]:
        from clip_client.tasks_under_way import Tasks  # asyncio is loaded for event loops alone

        return self._stream(tower, items, on_error, progress, Tasks())

    def _stream(
        self, tower: Tower, items: Any, on_error: OnError, progress: bool, under_way: UnderWay
    ) -> tuple[Stream, AsyncIterator[Embedded]]:
        """Return a stream and its results, in order; the arguments are checked now, nothing is read yet."""
        if on_error not in ("raise", "none"):
            raise InvalidInput(f"on_error is {on_error!r}, expected 'raise' or 'none'")
        door = Door(
            partial(self.embed_each, tower),
            self._most,
            lambda seconds: self.wait_ready(timeout_s=seconds),
            under_way,
            self._options.requests_in_flight,
            self._options.timeout_s,
        )
        iterator = _iterator(tower, items, under_way.on_loop)
        stream = Stream(tower, on_error, door, Books(tower, items, progress=progress))
        return stream, stream.results(iterator)

    async def _most(self) -> int:
        return int((await self._requests()).model.max_batch)


class BlockingTasks:
    """Tasks of :class:`~clip_client.Clip`."""

    _calls: ClipCalls

    def embed_images(
        self, images: Iterable[ImageLike], *, on_error: OnError = "raise", progress: bool = False
    ) -> ItemStream[Embedded]:
        """Embed any number of images, of a list, a generator or anything else that can be iterated over.

        A few requests are under way while the next images are read: memory stays bounded however many there are. Results
        come in order. A server that is restarted meanwhile is waited for, for as long as ``timeout_s``.

        >>> for item in clip.embed_images(Path("photos").rglob("*.jpg"), on_error="none", progress=True):
        ...     item.position, item.source, item.embedding, item.reason

        Args:
            images: as :meth:`embed_image` takes them. An error that a generator raises comes behind the results of what it gave
                before.
            on_error: ``raise`` ends with the first image that can't be embedded; ``none`` yields it with its reason, without an
                embedding.
            progress: show a bar on standard error, and at the end what was read, embedded and left out. It needs tqdm.

        Raises:
            InvalidInput: ``images`` is one image or can't be iterated over; an image can't be read or decoded, or a generator
                raised something: the message names the position.
            Unavailable, Timeout: the server is down or too slow; the message names the positions.
        """
        stream, results = self._calls._stream("image", images, on_error, progress, self._calls._threads())
        return ItemStream(results, stream.books)

    def embed_texts(
        self, texts: Iterable[str | bytes], *, on_error: OnError = "raise", progress: bool = False
    ) -> ItemStream[Embedded]:
        """Embed any number of texts; takes, yields and raises as :meth:`embed_images`."""
        stream, results = self._calls._stream("text", texts, on_error, progress, self._calls._threads())
        return ItemStream(results, stream.books)

    def zero_shot(self, labels: Iterable[str], *, templates: Templates = DEFAULT) -> ZeroShot:
        """Embed labels once, for the classification of any number of images; takes and raises as :meth:`classify`.

        >>> animals = clip.zero_shot(["cat", "dog"])
        >>> animals.classify(["a.jpg", "b.jpg"]).best
        >>> for item in animals.stream(Path("photos").iterdir()):
        ...     item.source, item.best
        """
        return ZeroShot(run(self._calls.zero_shot(labels, templates=templates)))

    classify = blocking(ClipTasks.classify)
    similarity = blocking(ClipTasks.similarity)
    health = blocking(ClipTasks.health)
    server_metadata = blocking(ClipTasks.server_metadata)


def _iterator(tower: Tower, items: Any, asynchronous: bool) -> Any:
    """Return an iterator over items; an asynchronous one only for a client that is."""
    takes = f"an iterable of {tower}s{', or an asynchronous one' if asynchronous else ''}"
    if is_one_image(items) and not (isinstance(items, np.ndarray) and items.ndim > 3):
        raise InvalidInput(f"{tower}s is {a_type(items)}: expected {takes}; embed_{tower} takes one")
    if isinstance(items, AsyncIterable) and not isinstance(items, Iterable):
        if asynchronous:
            from clip_client.tasks_under_way import with_pauses

            return with_pauses(aiter(items))
        raise InvalidInput(
            f"{tower}s is an asynchronous {type(items).__name__}: expected {takes}, which AsyncClip takes as well"
        )
    return iter(iterable(items, f"{tower}s", takes))
