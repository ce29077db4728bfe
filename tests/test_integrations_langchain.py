"""LangChain's own standard tests, and what they don't ask."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from pydantic import ValidationError
from servers import Server, free_ports
from sidecars import PICTURES, Sidecar

from clip_client import Clip, InvalidInput, NotFound, Search, Unavailable
from clip_client.integrations.langchain import ClipserveEmbeddings, ClipserveRetriever

for coroutine in (
    EmbeddingsIntegrationTests.test_aembed_query,
    EmbeddingsIntegrationTests.test_aembed_documents,
    RetrieversIntegrationTests.test_ainvoke_returns_documents,
):
    pytest.mark.asyncio(coroutine)


class TestUnits(EmbeddingsUnitTests):
    """LangChain's tests without a server."""

    @property
    def embeddings_class(self) -> type[ClipserveEmbeddings]:
        return ClipserveEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"address": "localhost:8001"}


class TestEmbeddings(EmbeddingsIntegrationTests):
    """LangChain's tests with a server."""

    @pytest.fixture(autouse=True)
    def _served(self, server: Server) -> None:
        self.address = server.address

    @property
    def embeddings_class(self) -> type[ClipserveEmbeddings]:
        return ClipserveEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"address": self.address}


class TestRetriever(RetrieversIntegrationTests):
    """LangChain's tests with a sidecar."""

    @pytest.fixture(autouse=True)
    def _searched(self, sidecar: Sidecar, photos: str) -> None:
        self.params = {"url": sidecar.url, "collection": photos}

    @property
    def retriever_constructor(self) -> type[ClipserveRetriever]:
        return ClipserveRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self.params

    @property
    def retriever_query_example(self) -> str:
        return "a cat"


def test_embeddings_are_the_clients(clip: Clip, server: Server) -> None:
    embeddings = ClipserveEmbeddings(address=server.address)
    np.testing.assert_allclose(embeddings.embed_documents(["a", "b"]), clip.embed_text(["a", "b"]), atol=1e-6)
    expected = clip.embed_image(PICTURES[:2])
    np.testing.assert_allclose(embeddings.embed_image(uris=PICTURES[:2]), expected, atol=1e-6)
    np.testing.assert_allclose(asyncio.run(embeddings.aembed_image(PICTURES[:2])), expected, atol=1e-6)
    assert embeddings.embed_documents([]) == embeddings.embed_image([]) == []
    assert pickle.loads(pickle.dumps(embeddings)).embed_query("a") == embeddings.embed_query("a")
    with pytest.raises(InvalidInput, match="1 of 2 images can't be embedded: image 1"):
        embeddings.embed_image([PICTURES[0], b"no picture"])


def test_a_vector_store_of_langchain_finds_by_text(server: Server) -> None:
    store = InMemoryVectorStore(ClipserveEmbeddings(address=server.address))
    store.add_texts(["two dogs", "a cat"])
    assert store.similarity_search("a cat", k=1)[0].page_content == "a cat"


def test_documents_hold_the_rows(sidecar: Sidecar, search: Search, photos: str) -> None:
    retriever = ClipserveRetriever(url=sidecar.url, collection=photos, k=3, where="year >= 2004")
    documents = retriever.invoke("a cat")
    hits = search.query(photos, "a cat", k=3, where="year >= 2004")
    assert [document.id for document in documents] == [hit.id for hit in hits]
    assert [document.metadata["score"] for document in documents] == [hit.score for hit in hits]
    assert documents[0].page_content == hits[0].metadata["caption"]
    assert documents[0].metadata["year"] >= 2004
    assert documents[0].metadata["source"] == hits[0].source
    assert documents[0].metadata["thumbnail"] == sidecar.url + hits[0].thumbnail
    assert len(retriever.invoke("a cat", where="year = 2001", k=5)) == 1
    assert asyncio.run(retriever.ainvoke("a cat", threshold=1.0)) == []
    untitled = ClipserveRetriever(url=sidecar.url, collection=photos, k=1, content="nothing")
    assert untitled.invoke("a cat")[0].page_content == search.query(photos, "a cat", k=1)[0].source


def test_wrong_options_are_refused(sidecar: Sidecar, photos: str) -> None:
    with pytest.raises(ValidationError, match="adress"):
        ClipserveEmbeddings(adress="localhost:8001")
    with pytest.raises(ValidationError, match="top_k"):
        ClipserveRetriever(collection=photos, top_k=3)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        ClipserveRetriever(collection=photos, k=0)
    with pytest.raises(TypeError, match="top_k"):
        ClipserveRetriever(url=sidecar.url, collection=photos).invoke("a cat", top_k=3)
    with pytest.raises(ValidationError, match="host:port"):
        ClipserveEmbeddings(address="nowhere")


def test_errors_are_the_clients(sidecar: Sidecar) -> None:
    with pytest.raises(NotFound, match="nothing"):
        ClipserveRetriever(url=sidecar.url, collection="nothing").invoke("a cat")
    with pytest.raises(Unavailable, match="can't be reached"):
        asyncio.run(ClipserveEmbeddings(address=f"127.0.0.1:{free_ports(1)[0]}", timeout_s=0.3).aembed_query("a"))


def test_one_text_is_no_list_of_documents(server: Server) -> None:
    with pytest.raises(InvalidInput, match="expected a list of texts; embed_query takes one"):
        ClipserveEmbeddings(address=server.address).embed_documents("a cat")  # type: ignore[arg-type]
