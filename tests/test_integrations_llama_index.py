"""LlamaIndex's embeddings and retrievers."""

from __future__ import annotations

import asyncio
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import ImageNode, QueryBundle, TextNode
from pydantic import ValidationError
from servers import Server
from sidecars import PICTURES, Sidecar

from clip_client import Clip, InvalidInput, NotFound, Search
from clip_client.integrations.llama_index import ClipserveEmbedding, ClipserveRetriever


@pytest.fixture
def embedding(server: Server) -> ClipserveEmbedding:
    return ClipserveEmbedding(address=server.address)


def test_embeddings_are_the_clients(clip: Clip, embedding: ClipserveEmbedding, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(PICTURES[0])
    images, texts = clip.embed_image(PICTURES[:2]), clip.embed_text(["a", "b"])
    files = [str(path), io.BytesIO(PICTURES[1])]
    np.testing.assert_allclose(embedding.get_image_embedding(files[0]), images[0], atol=1e-6)
    np.testing.assert_allclose(embedding.get_image_embedding_batch(files), images, atol=1e-6)
    np.testing.assert_allclose(embedding.get_text_embedding("a"), texts[0], atol=1e-6)
    np.testing.assert_allclose(embedding.get_query_embedding("a"), texts[0], atol=1e-6)
    np.testing.assert_allclose(embedding.get_text_embedding_batch(["a", "b"]), texts, atol=1e-6)


def test_asynchronous_methods_give_the_same(clip: Clip, embedding: ClipserveEmbedding, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(PICTURES[0])

    async def ask() -> None:
        image, text = clip.embed_image(path), clip.embed_text("a")
        np.testing.assert_allclose(await embedding.aget_image_embedding(str(path)), image, atol=1e-6)
        np.testing.assert_allclose(await embedding.aget_image_embedding_batch([str(path)]), [image], atol=1e-6)
        np.testing.assert_allclose(await embedding.aget_text_embedding("a"), text, atol=1e-6)
        np.testing.assert_allclose(await embedding.aget_query_embedding("a"), text, atol=1e-6)
        np.testing.assert_allclose(await embedding.aget_text_embedding_batch(["a"]), [text], atol=1e-6)

    asyncio.run(ask())


def test_an_index_of_llama_index_finds_by_text(embedding: ClipserveEmbedding) -> None:
    index = VectorStoreIndex([TextNode(text="two dogs"), TextNode(text="a cat")], embed_model=embedding)
    assert index.as_retriever(similarity_top_k=1).retrieve("a cat")[0].node.get_content() == "a cat"


def test_an_embedding_is_pickled_and_stored_without_its_client(embedding: ClipserveEmbedding) -> None:
    copy = pickle.loads(pickle.dumps(embedding))
    assert copy.get_text_embedding("a") == embedding.get_text_embedding("a")
    stored = embedding.to_dict()
    assert stored["class_name"] == "ClipserveEmbedding"
    assert ClipserveEmbedding.from_dict(stored).get_text_embedding("a") == embedding.get_text_embedding("a")


def test_nodes_hold_the_rows(sidecar: Sidecar, search: Search, photos: str, tmp_path: Path) -> None:
    retriever = ClipserveRetriever(photos, url=sidecar.url, similarity_top_k=3, where="year >= 2004")
    hits = search.query(photos, "a cat", k=3, where="year >= 2004")
    for nodes in (retriever.retrieve("a cat"), asyncio.run(retriever.aretrieve("a cat"))):
        assert [(each.node.id_, each.score) for each in nodes] == [(hit.id, hit.score) for hit in hits]
        assert isinstance(nodes[0].node, ImageNode)
        assert nodes[0].node.text == hits[0].metadata["caption"]
        assert nodes[0].node.image_path == hits[0].source
        assert nodes[0].node.metadata["thumbnail"] == sidecar.url + hits[0].thumbnail
    (tmp_path / "a.jpg").write_bytes(PICTURES[5])
    by_image = retriever.retrieve(QueryBundle("", image_path=str(tmp_path / "a.jpg")))
    assert by_image[0].node.id_ == "p5"
    vector = search.get(photos, ["p6"], vectors=True)[0]["vector_image"].tolist()
    assert retriever.retrieve(QueryBundle("ignored", embedding=vector))[0].node.id_ == "p6"


def test_wrong_options_are_refused(sidecar: Sidecar, embedding: ClipserveEmbedding) -> None:
    with pytest.raises(ValidationError, match="adress"):
        ClipserveEmbedding(adress="localhost:8001")
    with pytest.raises(InvalidInput, match="similarity_top_k is 0: expected at least 1"):
        ClipserveRetriever("photos", similarity_top_k=0)
    with pytest.raises(TypeError, match="top_k"):
        ClipserveRetriever("photos", top_k=3)
    with pytest.raises(NotFound, match="nothing"):
        ClipserveRetriever("nothing", url=sidecar.url).retrieve("a cat")
    with pytest.raises(InvalidInput, match=r"1 of 2 images can't be embedded: image 1"):
        embedding.get_image_embedding_batch([io.BytesIO(PICTURES[0]), "none.jpg"])
