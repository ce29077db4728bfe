"""Columns of Hugging Face data sets, embedded with ``Dataset.map``."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets.fingerprint import Hasher
from servers import Server, http_files

from clip_client import Clip, InvalidInput
from pictures import jpegs

JPEGS = jpegs(6)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


def pictures(*values: Any, decode: bool = True) -> Dataset:
    """A data set with a column of pictures."""
    return Dataset.from_dict({"image": list(values)}, Features({"image": datasets.Image(decode=decode)}))


def files(contents: list[bytes]) -> list[dict[str, Any]]:
    return [{"bytes": content, "path": f"{n}.jpg"} for n, content in enumerate(contents)]


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_pictures_get_the_clients_embeddings(clip: Clip, decode: bool, batched: bool) -> None:
    mapped = pictures(*files(JPEGS), decode=decode).map(clip.map_images("image"), batched=batched)
    np.testing.assert_allclose(np.array(mapped["image_embedding"][:]), clip.embed_image(JPEGS), atol=1e-6)
    assert mapped["image_error"][:] == [""] * 6
    assert mapped.features["image"] == datasets.Image(decode=decode)


def test_the_tutorials_way_finds_each_picture_by_itself(clip: Clip) -> None:
    mapped = pictures(*files(JPEGS)).map(clip.map_images("image"), batched=True, batch_size=4)
    mapped.add_faiss_index("image_embedding")
    for n, content in enumerate(JPEGS):
        scores, examples = mapped.get_nearest_examples("image_embedding", clip.embed_image(content), k=3)
        assert scores[0] == pytest.approx(0, abs=1e-5)
        assert examples["image"][0].size == mapped[n]["image"].size


def test_bad_pictures_are_named_and_stop_no_other(clip: Clip, tmp_path: Path) -> None:
    """The first batch has no good row: ``datasets`` takes the type of a column from it."""
    (tmp_path / "good.jpg").write_bytes(JPEGS[0])
    missing = {"bytes": None, "path": str(tmp_path / "missing.jpg")}
    rows = [None, {"bytes": b"no picture", "path": "a.jpg"}, missing, {"bytes": None, "path": str(tmp_path / "good.jpg")}]
    for batched in (True, False):
        mapped = pictures(*rows).map(
            clip.map_images("image"), batched=batched, batch_size=2, writer_batch_size=2, load_from_cache_file=False
        )
        assert [len(row) for row in mapped["image_embedding"][:]] == [0, 0, 0, clip.spec.embedding_size]
        assert mapped["image_error"][0] == "the row has no picture"
        assert mapped["image_error"][1].startswith("a.jpg: ")
        assert str(tmp_path / "missing.jpg") in mapped["image_error"][2]
        good = mapped.filter(lambda reason: not reason, input_columns="image_error")
        good.add_faiss_index("image_embedding")
        assert len(good) == 1


def test_paths_urls_bytes_and_arrays(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEGS[0])
    expected = clip.embed_image(JPEGS[0])
    with http_files({"/a.jpg": JPEGS[0]}) as url:
        for value in (str(path), f"{url}/a.jpg", JPEGS[0]):
            mapped = Dataset.from_dict({"file": [value]}).map(clip.map_images("file"), batched=True)
            np.testing.assert_allclose(mapped["image_embedding"][0], expected, atol=1e-6)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    arrays = Dataset.from_dict({"image": [pixels]}, Features({"image": datasets.Array3D((9, 8, 3), "uint8")}))
    for mapped in (arrays.map(clip.map_images()), arrays.with_format("numpy").map(clip.map_images(), batched=True)):
        np.testing.assert_allclose(mapped.with_format(None)["image_embedding"][0], clip.embed_image(pixels), atol=1e-6)


def test_texts(clip: Clip) -> None:
    captions = Dataset.from_dict({"caption": ["a cat", None, ""]})
    mapped = captions.map(clip.map_texts("caption", embedding="vector", error="reason"), batched=True)
    np.testing.assert_allclose(mapped["vector"][0], clip.embed_text("a cat"), atol=1e-6)
    assert mapped["reason"][:] == ["", "the row has no text", ""]
    numbers = Dataset.from_dict({"caption": [7]}, Features({"caption": Value("int64")}))
    assert "a text can't be an int" in numbers.map(clip.map_texts("caption"))["text_error"][0]


def test_plain_dictionaries_of_a_stream(clip: Clip) -> None:
    stream = pictures(*files(JPEGS[:2])).to_iterable_dataset()
    for rows in (stream.map(clip.map_images(), batched=True), stream.map(clip.map_images())):
        np.testing.assert_allclose([row["image_embedding"] for row in rows], clip.embed_image(JPEGS[:2]), atol=1e-5)


def test_the_fingerprint_is_of_the_checkpoint_and_the_columns(clip: Clip, server: Server) -> None:
    """The other client has another address of the same server."""
    with Clip(server.address.replace("127.0.0.1", "localhost"), timeout_s=5) as other:
        assert Hasher.hash(clip.map_images()) == Hasher.hash(other.map_images())
    others = [clip.map_images("b"), clip.map_texts("image"), clip.map_images(error="e"), clip.map_images(embedding="v")]
    assert len({Hasher.hash(mapper) for mapper in [clip.map_images(), *others]}) == 5
    before = Hasher.hash(clip.map_images())
    mapper = clip.map_images()
    mapper.identity = (*mapper.identity[:-1], "another checkpoint")
    assert Hasher.hash(mapper) != before


def test_a_second_run_takes_the_cache_and_workers_have_clients_of_their_own(server: Server, tmp_path: Path) -> None:
    """In a process of its own: the workers are forked."""
    (tmp_path / "a.jpg").write_bytes(JPEGS[0])
    Dataset.from_dict({"image": [str(tmp_path / "a.jpg")] * 5}).save_to_disk(tmp_path / "rows")
    code = f"""
        import datasets, numpy as np
        from clip_client import Clip
        datasets.disable_progress_bars()
        rows = datasets.load_from_disk({str(tmp_path / "rows")!r})
        with Clip({server.address!r}) as clip:
            expected = clip.embed_image({str(tmp_path / "a.jpg")!r})
            first = rows.map(clip.map_images(), num_proc=2)
            assert np.allclose(first["image_embedding"][:], expected, atol=1e-6)
            embed, calls = clip.embed_image, []
            clip.embed_image = lambda *a, **k: calls.append(a) or embed(*a, **k)
            assert rows.map(clip.map_images(), num_proc=2).cache_files == first.cache_files
            rows.map(clip.map_images(), batched=True)
            assert len(calls) == 1
            rows.map(clip.map_images(), batched=True)
            assert len(calls) == 1
            rows.map(clip.map_images(error="other"), batched=True)
            assert len(calls) == 2
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)


def test_wrong_names_are_refused(clip: Clip) -> None:
    with pytest.raises(InvalidInput, match="there is no column 'picture': the rows have 'image'"):
        pictures(*files(JPEGS[:1])).map(clip.map_images("picture"))
    with pytest.raises(InvalidInput, match="expected three names"):
        clip.map_images("image", embedding="image")
    with pytest.raises(InvalidInput, match="column is 3: expected the name"):
        clip.map_images(3)
    with pytest.raises(InvalidInput, match=r"a row can't be a .*: call map without input_columns"):
        pictures(*files(JPEGS[:1])).map(clip.map_images(), input_columns=["image"])


def test_a_pickled_client_asks_the_same_server_and_holds_no_secret(
    clip: Clip, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSERVE_TOKEN", "s3cret")
    with Clip(server.address, timeout_s=7) as first:
        content = pickle.dumps(first)
    assert b"s3cret" not in content
    with pickle.loads(content) as second:
        np.testing.assert_array_equal(second.embed_text("a"), clip.embed_text("a"))
    for name, secret in (("token", "s3cret"), ("headers", {"x-key": "s3cret"})):
        with Clip(server.address, **{name: secret}) as named, pytest.raises(InvalidInput, match=rf"given {name} .*TOKEN"):
            pickle.dumps(named)


def test_a_pickled_local_client_opens_the_same_models(repository: Path) -> None:
    with Clip.local(repository) as first, pickle.loads(pickle.dumps(first)) as second:
        np.testing.assert_array_equal(first.embed_text("a"), second.embed_text("a"))
