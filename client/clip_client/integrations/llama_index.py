"""Multi-modal embedding and retriever for LlamaIndex.

>>> ClipserveEmbedding(address="localhost:8001").get_image_embedding("cat.jpg")
>>> ClipserveRetriever("photos", url="http://localhost:1234", similarity_top_k=5).retrieve("a cat")
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import ImageNode, ImageType, NodeWithScore, QueryBundle

from clip_client.clip import Clip
from clip_client.errors import InvalidInput
from clip_client.rows_and_hits import Hit, Term
from clip_client.search import Search


class ClipserveEmbedding(MultiModalEmbedding):
    """Embeddings of texts and images by a served checkpoint; the asynchronous methods run in threads.

    Attributes:
        address: of Triton; None for the default of :class:`clip_client.Clip`.
        model_name: the checkpoint's, as it was published.
        timeout_s: bound on each request.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=("pydantic_model_",), arbitrary_types_allowed=True)

    address: str | None = None
    model_name: str = Field(default="clip", description="Name that the checkpoint was published under.")
    timeout_s: float = 30.0
    _clip: Clip = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Make the client; it connects when it is first used."""
        self._clip = Clip(self.address, name=self.model_name, timeout_s=self.timeout_s)

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which LlamaIndex stores the class."""
        return "ClipserveEmbedding"

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return self._clip.embed_text(texts).tolist()  # type: ignore[no-any-return]

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._clip.embed_text(text).tolist()  # type: ignore[no-any-return]

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    def _get_image_embeddings(self, img_file_paths: list[ImageType]) -> list[Embedding]:
        return self._clip.embed_image(img_file_paths).tolist()  # type: ignore[no-any-return]

    def _get_image_embedding(self, img_file_path: ImageType) -> Embedding:
        return self._clip.embed_image(img_file_path).tolist()  # type: ignore[no-any-return]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return await self._aget_text_embedding(query)

    async def _aget_image_embeddings(self, img_file_paths: list[ImageType]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)

    async def _aget_image_embedding(self, img_file_path: ImageType) -> Embedding:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)


class ClipserveRetriever(BaseRetriever):
    """Retriever over a collection of the search sidecar: image nodes, with cosines as scores.

    A query is a text, or a ``QueryBundle`` whose ``embedding``, ``image_path`` or ``query_str`` is searched for, the first that
    it has. A node's path or URL is the row's source; its metadata are the row's columns, and ``source`` and ``thumbnail``.

    Args:
        collection: to search.
        url: of the sidecar; None for the default of :class:`clip_client.Search`.
        similarity_top_k: number of nodes.
        where: filter on columns, as in SQL.
        text: column that becomes the nodes' text.
        timeout_s: bound on each request.
    """

    def __init__(
        self,
        collection: str,
        *,
        url: str | None = None,
        similarity_top_k: int = 10,
        where: str = "",
        text: str = "caption",
        timeout_s: float = 60.0,
    ) -> None:
        if similarity_top_k < 1:
            raise InvalidInput(f"similarity_top_k is {similarity_top_k}: expected at least 1")
        super().__init__()
        self.collection = collection
        self.similarity_top_k = similarity_top_k
        self.where = where
        self.text = text
        self._search = Search(url, timeout_s=timeout_s)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        term = _term(query_bundle)
        hits = self._search.query(self.collection, term, k=self.similarity_top_k, where=self.where)
        return [NodeWithScore(node=self._node(hit), score=hit.score) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _node(self, hit: Hit) -> ImageNode:
        told = {"source": hit.source, "thumbnail": hit.thumbnail and self._search.url + hit.thumbnail}
        text = hit.metadata.get(self.text)
        place = "image_url" if hit.source and hit.source.startswith(("http://", "https://")) else "image_path"
        return ImageNode(
            id_=hit.id, text="" if text is None else str(text), metadata={**hit.metadata, **told}, **{place: hit.source}
        )


def _term(query: QueryBundle) -> Term:
    if query.embedding is not None:
        vector: Sequence[float] = query.embedding
        return Term(vector=vector)
    if query.image_path is not None:
        return Term(image=query.image_path)
    return Term(text=query.query_str)
