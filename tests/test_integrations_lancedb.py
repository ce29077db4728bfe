"""The embedding function ``clipserve`` in tables of LanceDB."""

from __future__ import annotations

import io
from pathlib import Path

import lancedb
import numpy as np
import pytest
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector
from PIL import Image
from servers import Server, free_ports

import clip_client.integrations.lancedb  # noqa: F401  (registers the function)
from clip_client import Clip, ContractMismatch, InvalidInput
from pictures import jpegs

JPEGS = jpegs(4)


def table(folder: Path, address: str, **options: object) -> lancedb.table.Table:
    """A table of pictures, embedded by LanceDB."""
    function = get_registry().get("clipserve").create(address=address, **options)

    class Pictures(LanceModel):
        name: str
        image: bytes | None = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()

    made = lancedb.connect(folder).create_table("pictures", schema=Pictures)
    made.add([{"name": f"{n}", "image": content} for n, content in enumerate(JPEGS)])
    return made


def test_vectors_are_the_clients_and_queries_are_texts_or_images(clip: Clip, server: Server, tmp_path: Path) -> None:
    made = table(tmp_path, server.address)
    vectors = np.array(made.to_arrow()["vector"].to_pylist(), np.float32)
    np.testing.assert_allclose(vectors, clip.embed_image(JPEGS), atol=1e-6)
    for query in (Image.open(io.BytesIO(JPEGS[2])), JPEGS[2]):
        assert made.search(query).metric("cosine").limit(1).to_list()[0]["name"] == "2"
    scores = {row["name"]: 1 - row["_distance"] for row in made.search("a cat").metric("cosine").to_list()}
    expected = vectors @ clip.embed_text("a cat")
    assert [scores[f"{n}"] for n in range(4)] == pytest.approx(expected.tolist(), abs=1e-5)


def test_paths_and_texts(clip: Clip, server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEGS[0])
    images = get_registry().get("clipserve").create(address=server.address)
    np.testing.assert_allclose(
        images.compute_source_embeddings([str(tmp_path / "a.jpg")]), clip.embed_image(JPEGS[:1]), atol=1e-6
    )
    texts = get_registry().get("clipserve").create(address=server.address, source="text")
    np.testing.assert_allclose(texts.compute_source_embeddings("a cat"), [clip.embed_text("a cat")], atol=1e-6)


def test_a_table_is_opened_again_without_secrets(server: Server, tmp_path: Path) -> None:
    made = table(tmp_path, server.address)
    kept = made.schema.metadata[b"embedding_functions"].decode()
    assert server.address in kept
    assert "token" not in kept
    opened = lancedb.connect(tmp_path).open_table("pictures")
    assert len(opened.search("a cat").limit(4).to_list()) == 4


@pytest.mark.parametrize("secret", ["token", "headers"])
def test_secrets_are_refused(secret: str) -> None:
    with pytest.raises(InvalidInput, match=f"would keep {secret} .*: set CLIPSERVE_TOKEN"):
        get_registry().get("clipserve").create(**{secret: "s3cret"})


def test_unknown_options_are_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown adress: expected max_retries, address, name"):
        get_registry().get("clipserve").create(adress="localhost:8001")


def test_bad_pictures_are_named_and_treated_as_lancedb_was_told(server: Server, tmp_path: Path) -> None:
    made = table(tmp_path, server.address)
    rows = [{"name": "good", "image": JPEGS[0]}, {"name": "bad", "image": b"no picture"}, {"name": "none", "image": None}]
    with pytest.warns(UserWarning, match=r"2 of 3 images have no vector: image 1: .*; image 2: no value"):
        made.add(rows, on_bad_vectors="drop")
    assert sorted(made.to_arrow()["name"].to_pylist()) == ["0", "1", "2", "3", "good"]


def test_another_checkpoint_is_refused_with_both_fingerprints(clip: Clip, server: Server) -> None:
    function = get_registry().get("clipserve").create(address=server.address, fingerprint="another")
    with pytest.raises(ContractMismatch, match=f"come from another, the server holds {clip.spec.fingerprint}"):
        function.compute_query_embeddings_with_retry("a cat")


def test_retries_are_lancedbs_for_outages_only(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    long = 1.0  # seconds; those of the client are shorter
    monkeypatch.setattr("lancedb.embeddings.utils.time.sleep", lambda pause_s: pause_s > long and pauses.append(pause_s))
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    down = get_registry().get("clipserve").create(address=nobody, max_retries=1, timeout_s=0.2)
    with pytest.raises(Exception, match="Maximum number of retries") as raised:
        down.compute_query_embeddings_with_retry("a cat")
    assert nobody in str(raised.value.args[1])
    assert len(pauses) == 1
    unknown = get_registry().get("clipserve").create(address=server.address, name="nothing")
    with pytest.raises(InvalidInput, match="serves no model nothing"):
        unknown.compute_query_embeddings_with_retry("a cat")
    assert len(pauses) == 1
