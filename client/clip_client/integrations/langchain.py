"""Embeddings and retriever for LangChain.

>>> ClipserveEmbeddings(address="localhost:8001").embed_query("a cat")
>>> ClipserveRetriever(url="http://localhost:1234", collection="photos", k=5).invoke("a cat")
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from clip_client.clip import Clip
from clip_client.errors import InvalidInput
from clip_client.images import ImageLike
from clip_client.rows_and_hits import Hit
from clip_client.search import Search


class ClipserveEmbeddings(BaseModel, Embeddings):
    """Embeddings of texts and images by a served checkpoint; the asynchronous methods run in LangChain's threads.

    Attributes:
        address: of Triton; None for the default of :class:`clip_client.Clip`.
        name: the checkpoint's, as it was published.
        timeout_s: bound on each request.
    """

    model_config = ConfigDict(extra="forbid")

    address: str | None = None
    name: str = "clip"
    timeout_s: float = 30.0
    _clip: Clip = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Make the client; it connects when it is first used."""
        self._clip = Clip(self.address, name=self.name, timeout_s=self.timeout_s)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts.

        Raises:
            InvalidInput: a text can't be embedded; ``errors`` maps its position to the reason. Or it is one text alone.
        """
        if isinstance(texts, str | bytes):
            raise InvalidInput(f"texts is {texts!r}: expected a list of texts; embed_query takes one")
        return self._clip.embed_text(texts).tolist()  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        """Embed a text."""
        return self._clip.embed_text(text).tolist()  # type: ignore[no-any-return]

    def embed_image(self, uris: Iterable[ImageLike]) -> list[list[float]]:
        """Embed images: paths, URLs, or all else that :meth:`clip_client.Clip.embed_image` takes.

        LangChain's vector stores call this for ``add_images`` and searches by image.

        Raises:
            InvalidInput: an image can't be embedded; ``errors`` maps its position to the reason.
        """
        return self._clip.embed_image(list(uris)).tolist()  # type: ignore[no-any-return]

    async def aembed_image(self, uris: Iterable[ImageLike]) -> list[list[float]]:
        """Embed images; as :meth:`embed_image`."""
        return await run_in_executor(None, self.embed_image, uris)


class ClipserveRetriever(BaseRetriever):
    """Retriever over a collection of the search sidecar.

    A document's ``id`` is the row's; its metadata are the row's columns, and ``score`` (cosine), ``source`` and ``thumbnail``.

    Attributes:
        collection: to search.
        url: of the sidecar; None for the default of :class:`clip_client.Search`.
        k: number of documents; also an argument of ``invoke``.
        where: filter on columns, as in SQL; also an argument of ``invoke``.
        threshold: least score; also an argument of ``invoke``.
        content: column that becomes the documents' text; the source where a row has none.
        timeout_s: bound on each request.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    collection: str
    url: str | None = None
    k: int = Field(10, ge=1)
    where: str = ""
    threshold: float | None = None
    content: str = "caption"
    timeout_s: float = 60.0
    _search: Search = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Make the client; it connects when it is first used."""
        self._search = Search(self.url, timeout_s=self.timeout_s)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        where: str | None = None,
        threshold: float | None = None,
    ) -> list[Document]:
        hits = self._search.query(
            self.collection,
            query,
            k=self.k if k is None else k,
            where=self.where if where is None else where,
            threshold=self.threshold if threshold is None else threshold,
        )
        return [self._document(hit) for hit in hits]

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any, **options: Any) -> list[Document]:
        def search() -> list[Document]:
            return self._get_relevant_documents(query, run_manager=run_manager.get_sync(), **options)

        return await run_in_executor(None, search)

    def _document(self, hit: Hit) -> Document:
        text = hit.metadata.get(self.content)
        told = {"score": hit.score, "source": hit.source, "thumbnail": hit.thumbnail and self._search.url + hit.thumbnail}
        return Document(
            page_content=str(text) if text is not None else hit.source or "", metadata={**hit.metadata, **told}, id=hit.id
        )
