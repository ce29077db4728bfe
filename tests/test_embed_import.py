"""``clipserve search import`` of what ``clipserve embed`` wrote, in each format."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sidecars
import urllib3
from embed_runs import embed, shard
from sidecars import Sidecar, unit

import pictures
from clip_client.embedded_files import FINGERPRINT, RUN
from clip_embed.outputs import kinds
from clip_search.cli import parser
from clip_search.imports.sources import opened

NOBODY = "127.0.0.1:9"
JPEGS = pictures.jpegs(7)
FORMATS = list(kinds.NAMES)
Import = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures, three of them with captions, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    for n, content in enumerate(JPEGS):
        (folder / f"{n}.jpg").write_bytes(content)
        (folder / f"{n}.json").write_text(json.dumps({"n": n, "name": f"é{n}"}))
    for n in (0, 3, 6):
        (folder / f"{n}.txt").write_text(f"thing {n}")
    (folder / "3b.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def outputs(photos: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures' embeddings in each format, in three parts."""
    folder = tmp_path_factory.mktemp("outputs")
    for form in FORMATS:
        embed(photos, folder / form, repository, "--format", form, "--part-items", 3, status=1)
    return folder


@pytest.fixture(scope="module")
def sidecar(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar without a Triton that may read the pictures."""
    with sidecars.running(tmp_path_factory.mktemp("import"), NOBODY, "--images", str(photos)) as sidecar:
        yield sidecar


@pytest.fixture
def run(sidecar: Sidecar, capfd: pytest.CaptureFixture[str]) -> Iterator[Import]:
    """The command on collection ``c``, which is dropped afterwards: standard output and error."""

    def run(folder: Path, *arguments: object, status: int = 0) -> tuple[str, str]:
        ended = parser.main(["import", "--url", sidecar.url, "--collection", "c", str(folder), *map(str, arguments)])
        told = capfd.readouterr()
        assert ended == status, told
        return told.out, told.err

    yield run
    with sidecar.client() as search:
        for collection in search.collections():
            search.drop(collection["name"])


def kept(sidecar: Sidecar) -> list[dict[str, Any]]:
    """Rows in the order of their numbers."""
    with sidecar.client() as search:
        return sorted(search.rows("c", vectors=True), key=lambda row: row["metadata"].get("n") or 0)


@pytest.mark.parametrize("form", FORMATS)
def test_rows_have_their_vectors_columns_and_pictures(
    form: str, run: Import, outputs: Path, photos: Path, sidecar: Sidecar
) -> None:
    out, err = run(outputs / form)
    assert out.splitlines()[-1] == "read 7 = 7 added + 0 unchanged + 0 replaced + 0 left out"
    assert err == ""
    rows = kept(sidecar)
    vectors = np.concatenate([np.load(file) for file in sorted((outputs / "clip-retrieval" / "img_emb").iterdir())])
    for n, row in enumerate(rows):
        assert row["source"] == row["metadata"]["image_path"] == str(photos / f"{n}.jpg")
        assert (row["metadata"]["n"], row["metadata"]["name"]) == (n, f"é{n}")
        assert row["metadata"]["caption"] == (f"thing {n}" if n in (0, 3, 6) else None)
        assert (row.get("vector_text") is not None) == (n in (0, 3, 6))
        assert float(row["vector_image"] @ vectors[n].astype(np.float32)) > 0.999
        assert urllib3.request("GET", sidecar.url + row["thumbnail"]).data.startswith(b"\xff\xd8\xff")
    with sidecar.client() as search:
        picture = urllib3.request("GET", f"{sidecar.url}/v1/collections/c/pictures/{rows[2]['row']}")
        assert search.stats("c")["columns"] == {"image_path": "string", "caption": "string", "n": "int", "name": "string"}
    assert picture.data == JPEGS[2]


def test_ids_are_the_same_in_every_format_and_importing_again_adds_nothing(
    run: Import, outputs: Path, sidecar: Sidecar, spec: Any
) -> None:
    run(outputs / "lance")
    ids = [row["id"] for row in kept(sidecar)]
    assert len(set(ids)) == 7
    for form in FORMATS:
        out, _ = run(outputs / form)
        assert out.splitlines()[-1] == "read 7 = 0 added + 7 unchanged + 0 replaced + 0 left out"
    assert [row["id"] for row in kept(sidecar)] == ids
    with sidecar.client() as search:
        assert search.stats("c")["fingerprint"] == spec.fingerprint


@pytest.mark.parametrize("form", FORMATS)
def test_vectors_of_another_checkpoint_are_refused(form: str, run: Import, outputs: Path, sidecar: Sidecar, spec: Any) -> None:
    with sidecar.client() as search:
        search.create("c", dimension=spec.embedding_size, fingerprint="abcdef")
    _, err = run(outputs / form, status=1)
    assert f"has vectors of checkpoint {spec.fingerprint}, collection c holds those of abcdef: import it into another" in err
    _, err = run(outputs / form, "--fingerprint", "abcdef", status=1)
    assert f"has vectors of checkpoint {spec.fingerprint}, --fingerprint says abcdef: leave --fingerprint away" in err
    assert kept(sidecar) == []


def test_files_of_several_checkpoints_are_not_taken_for_one(
    run: Import, outputs: Path, tmp_path: Path, sidecar: Sidecar
) -> None:
    folder = Path(shutil.copytree(outputs / "parquet", tmp_path / "out"))
    table = pq.read_table(folder / "part-1.parquet")
    pq.write_table(table.replace_schema_metadata({FINGERPRINT: b"abcdef", RUN: b"x"}), folder / "part-1.parquet")
    _, err = run(folder, status=1)
    assert "has vectors of several checkpoints (" in err
    with sidecar.client() as search:
        assert search.collections() == []


@pytest.mark.parametrize("form", ["parquet", "clip-retrieval"])
def test_what_a_run_has_done_so_far_is_imported_and_later_the_rest(
    form: str, run: Import, outputs: Path, tmp_path: Path, sidecar: Sidecar
) -> None:
    whole, folder = outputs / form, Path(shutil.copytree(outputs / form, tmp_path / "out"))
    (folder / "_clipserve" / "done" / "1.json").unlink()
    for name in ("part-1.parquet", "metadata/metadata_1.parquet"):
        (folder / name).unlink(missing_ok=True)
    out, _ = run(folder)
    assert "isn't whole yet: 2 of 3 parts are done: run clipserve embed again for the rest, and import again" in out
    out, _ = run(whole)
    assert out.splitlines()[-1].startswith("read 7 = 2 added + 5 unchanged") or "3 added + 4 unchanged" in out
    assert len(kept(sidecar)) == 7


def test_a_lance_data_set_that_is_not_begun_is_refused(run: Import, outputs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(outputs / "lance", tmp_path / "out"))
    shutil.rmtree(folder / "_versions")
    (folder / "_clipserve" / "done" / "1.json").unlink()
    _, err = run(folder, status=1)
    assert "there is nothing to import in" in err
    assert "2 of 3 parts are done: run clipserve embed again" in err


def test_rows_that_were_deleted_from_a_data_set_leave_the_others_their_ids(
    run: Import, outputs: Path, tmp_path: Path, sidecar: Sidecar
) -> None:
    run(outputs / "lance")
    ids = {row["metadata"]["n"]: row["id"] for row in kept(sidecar)}
    with sidecar.client() as search:
        search.drop("c")
    folder = Path(shutil.copytree(outputs / "lance", tmp_path / "out"))
    lance.dataset(str(folder)).delete("n in (0, 4)")
    out, _ = run(folder)
    assert out.splitlines()[-1] == "read 5 = 5 added + 0 unchanged + 0 replaced + 0 left out"
    assert {row["metadata"]["n"]: row["id"] for row in kept(sidecar)} == {n: ids[n] for n in (1, 2, 3, 5, 6)}


def test_a_damaged_file_leaves_the_others(run: Import, outputs: Path, tmp_path: Path) -> None:
    for form, name in (("parquet", "part-1.parquet"), ("clip-retrieval", "img_emb/img_emb_1.npy")):
        folder = Path(shutil.copytree(outputs / form, tmp_path / form))
        (folder / name).write_bytes(b"damaged")
        out, err = run(folder, status=1)
        assert f"{name} can't be read" in err
        assert "Traceback" not in err
        read = out.splitlines()[-1].split()
        assert int(read[1]) == sum(map(int, read[3::3]))
        assert int(read[-3]) >= 1
    folder = Path(shutil.copytree(outputs / "lance", tmp_path / "lance"))
    (folder / "data" / "part-1.lance").write_bytes(b"damaged")
    out, err = run(folder, status=1)
    assert "can't be read" in err
    assert out.splitlines()[-1].startswith("read 7 = ")


def test_thumbnails_come_along_with_pictures_that_are_in_no_file(
    run: Import, repository: Path, tmp_path: Path, sidecar: Sidecar
) -> None:
    url = json.dumps({"url": "http://example.org/1.jpg"}).encode()
    tar = shard(tmp_path / "a.tar", {"k0.jpg": JPEGS[0], "k1.jpg": JPEGS[1], "k1.json": url})
    for form in FORMATS:
        embed(tar, tmp_path / form, repository, "--format", form, "--thumbnails")
        run(tmp_path / form)
        rows = sorted(kept(sidecar), key=lambda row: row["metadata"]["key"])
        assert [row["source"] for row in rows] == ["k0", "http://example.org/1.jpg"]
        assert all(urllib3.request("GET", sidecar.url + row["thumbnail"]).data[:2] == b"\xff\xd8" for row in rows)
        assert "thumbnail" not in rows[0]["metadata"]
        with sidecar.client() as search:
            search.drop("c")


@pytest.mark.parametrize("precision", [np.float16, np.float32, np.float64])
def test_tables_of_others_are_taken_if_they_have_vectors(
    precision: type, run: Import, tmp_path: Path, sidecar: Sidecar
) -> None:
    vectors = unit(3, 8)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel().astype(precision)), 8)
    missing = pa.array([None, vectors[1].tolist(), None], pa.list_(pa.float32(), 8))
    table = pa.table(
        {"image": column, "text": missing, "n": [0, 1, 2], "thumbnail": ["a", "b", "c"], "url": ["http://a/b"] * 3}
    )
    pq.write_table(table, tmp_path / "any name.parquet")
    out, _ = run(tmp_path)
    assert out.splitlines()[-1] == "read 3 = 3 added + 0 unchanged + 0 replaced + 0 left out"
    rows = kept(sidecar)
    assert [row["id"] for row in rows] == ["any name-0", "any name-1", "any name-2"]
    assert np.allclose([row["vector_image"] for row in rows], vectors, atol=1e-3)
    assert [row["metadata"]["meta_thumbnail"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["source"] == "http://a/b"


def test_rows_without_any_vector_are_left_out_by_name(run: Import, tmp_path: Path) -> None:
    vectors = pa.array([None, [1.0, 0.0], [float("nan"), 0.0]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"image": vectors}), tmp_path / "a.parquet")
    out, err = run(tmp_path, status=1)
    assert out.splitlines()[-1] == "read 3 = 1 added + 0 unchanged + 0 replaced + 2 left out"
    assert "left out row a-0: has no vector" in err
    assert "left out row a-2: img_emb has NaN" in err


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"image": ["a.jpg"], "n": [1]}, "has the columns image, n: expected vectors in image or text"),
        ({"vector": [[1.0]]}, "has the columns vector: expected vectors in image or text"),
    ],
)
def test_tables_without_vectors_are_refused_with_their_columns(columns: dict, reason: str, run: Import, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    _, err = run(tmp_path, status=1)
    assert reason in err


def test_a_folder_with_nothing_or_that_is_not_there_says_what_is_expected(run: Import, tmp_path: Path) -> None:
    _, err = run(tmp_path, status=1)
    assert "expected img_emb, text_emb, image.index, text.index, parquet files or a Lance data set" in err
    _, err = run(tmp_path / "none", status=1)
    assert "no folder" in err
    (tmp_path / "_versions").mkdir()
    _, err = run(tmp_path, status=1)
    assert "can't be opened" in err
    assert len(err.splitlines()) == 1


def test_words_of_a_file_about_itself_are_taken_with_care(run: Import, tmp_path: Path, sidecar: Sidecar) -> None:
    metadata = {FINGERPRINT: b"\x1b[2J" + b"x" * 100, RUN: b"a/b\n\xff"}
    table = pa.table({"image": pa.array([[1.0, 0.0]], pa.list_(pa.float32(), 2))}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "part-7.parquet")
    run(tmp_path)
    assert [row["id"] for row in kept(sidecar)] == ["a_b__-7-0"]
    with sidecar.client() as search:
        assert search.stats("c")["fingerprint"] == "__2J" + "x" * 60


@pytest.mark.parametrize("form", FORMATS)
def test_a_run_without_a_good_item_has_nothing_to_import(form: str, run: Import, repository: Path, tmp_path: Path) -> None:
    embed(shard(tmp_path / "a.tar", {"a.jpg": b"no picture"}), tmp_path / form, repository, "--format", form, status=1)
    _, err = run(tmp_path / form, status=1)
    assert "has no rows" in err
    assert "errors.parquet there says why" in err


def test_what_clip_retrieval_writes_is_imported(run: Import, tmp_path: Path, sidecar: Sidecar) -> None:
    file = Path(sys.prefix) / "lib" / "clip-retrieval" / "clip_retrieval" / "clip_inference" / "writer.py"
    found = spec_from_file_location("clip_retrieval_writer", file)
    module = module_from_spec(found)
    found.loader.exec_module(module)
    vectors = unit(5, 8)
    for partition, rows in enumerate((range(3), range(3, 5))):
        writer = module.NumpyWriter(partition, str(tmp_path), True, True, False, 2)
        writer(
            {
                "image_embs": vectors[rows].astype(np.float16),
                "text_embs": vectors[rows[::-1]].astype(np.float16),
                "image_filename": [f"/photos/{n}.jpg" for n in rows],
                "text": [f"thing {n}" for n in rows],
                "metadata": None,
            }
        )
        writer.flush()
    out, _ = run(tmp_path)
    assert out.splitlines()[-1] == "read 5 = 5 added + 0 unchanged + 0 replaced + 0 left out"
    with sidecar.client() as search:
        rows = sorted(search.rows("c", vectors=True), key=lambda row: int(row["id"]))
    assert [row["id"] for row in rows] == list("01234")
    assert [row["source"] for row in rows] == [f"/photos/{n}.jpg" for n in range(5)]
    assert np.allclose([row["vector_image"] for row in rows], vectors, atol=1e-3)


def test_a_table_is_read_in_pieces(tmp_path: Path) -> None:
    """Memory: a chunk has at most 2,000 rows, however the file is cut."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(unit(5_000, 4).ravel()), 4)
    table = pa.table({"image": vectors})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=5_000)
    lance.write_dataset(table, str(tmp_path / "a.lance"))
    for folder in (tmp_path, tmp_path / "a.lance"):
        chunks = list(opened(folder).chunks())
        assert [n for chunk in chunks for n in chunk.numbers] == list(range(5_000))
        assert max(len(chunk.numbers) for chunk in chunks) <= 2_000
