"""Outputs of ``clipserve embed``: what other programs read of them, and what a run that was stopped leaves in them."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import lance
import lancedb
import numpy as np
import object_stores
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embed_runs import embed, shard
from servers import CLIPSERVE

import pictures
from clip_client import Clip, InvalidInput
from clip_client.embedded_files import FINGERPRINT, RUN
from clip_embed.inputs.folder import Folder
from clip_embed.outputs import kinds
from clip_embed.outputs.base import Rows
from clip_embed.outputs.lance_schema import fitted
from clip_embed.places import place
from clip_embed.run import Job, prepared

JPEGS = pictures.jpegs(12)
TEXTS = [f"thing number {n}" if n % 2 else None for n in range(12)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, every second one with a caption, fields of four types, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    for n, content in enumerate(JPEGS):
        (folder / f"{n:02d}.jpg").write_bytes(content)
        if TEXTS[n]:
            (folder / f"{n:02d}.txt").write_text(TEXTS[n])
        (folder / f"{n:02d}.json").write_text(json.dumps({"n": n, "share": n / 2, "name": f"é{n}", "odd": n % 2 == 1}))
    (folder / "00b.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def outputs(photos: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pictures' embeddings in each format."""
    folder = tmp_path_factory.mktemp("outputs")
    for form in kinds.NAMES:
        embed(photos, folder / f"{form}.lance", repository, "--format", form, "--part-items", 5, status=1)
    return folder


@pytest.fixture(scope="module")
def expected(repository: Path) -> dict[str, np.ndarray]:
    """Vectors of the pictures and of the captions that there are, one by one."""
    with Clip.local(repository, threads=1) as clip:
        texts = [np.asarray(clip.embed_text([text]))[0] for text in TEXTS if text]
        return {"image": np.stack([np.asarray(clip.embed_image([one]))[0] for one in JPEGS]), "text": np.stack(texts)}


def digests(folder: Path) -> dict[str, str]:
    """Digests of all files by name."""
    every = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in every}


def assert_close(ours: Any, theirs: np.ndarray) -> None:
    ours = np.stack(ours).astype(np.float64)
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert len(ours) == len(theirs)
    assert cosines.min() > 0.99999


def test_a_lance_data_set_has_the_rows_in_order_with_their_types(outputs: Path, expected: dict, spec: Any) -> None:
    dataset = lance.dataset(str(outputs / "lance.lance"))
    table = dataset.to_table()
    vector = pa.list_(pa.float16(), spec.embedding_size)
    types = {"n": pa.int64(), "share": pa.float64(), "name": pa.string(), "odd": pa.bool_(), "image": vector, "text": vector}
    assert {name: table.schema.field(name).type for name in types} == types
    assert table["n"].to_pylist() == list(range(12))
    assert [os.path.basename(path) for path in table["image_path"].to_pylist()] == [f"{n:02d}.jpg" for n in range(12)]
    assert table["caption"].to_pylist() == TEXTS
    assert_close(table["image"].to_pylist(), expected["image"])
    assert_close([row for row in table["text"].to_pylist() if row is not None], expected["text"])
    assert table["text"].is_null().to_pylist() == [text is None for text in TEXTS]
    assert dataset.version == 1
    assert len(dataset.get_fragments()) == 3


def test_every_format_names_the_checkpoint_and_one_run(outputs: Path, spec: Any) -> None:
    schemas = [
        lance.dataset(str(outputs / "lance.lance")).schema,
        *(pq.read_schema(file) for file in (outputs / "parquet.lance").glob("part-*.parquet")),
        *(pq.read_schema(file) for file in (outputs / "clip-retrieval.lance" / "metadata").iterdir()),
    ]
    assert len(schemas) == 7
    assert {schema.metadata[FINGERPRINT].decode() for schema in schemas} == {spec.fingerprint}
    assert len({schema.metadata[RUN] for schema in schemas}) == 1
    manifests = [json.loads((outputs / f"{form}.lance" / "_clipserve" / "manifest.json").read_text()) for form in kinds.NAMES]
    assert {manifest["identity"]["fingerprint"] for manifest in manifests} == {spec.fingerprint}


def test_lancedb_opens_and_searches_what_was_written(outputs: Path, expected: dict) -> None:
    table = lancedb.connect(outputs).open_table("lance")
    assert table.count_rows() == 12
    for n, vector in enumerate(expected["image"]):
        (hit,) = table.search(vector, vector_column_name="image").limit(1).to_list()
        assert hit["n"] == n
    copy = shutil.copytree(outputs / "lance.lance", outputs.parent / "compacted" / "lance.lance")
    compacted = lancedb.connect(copy.parent).open_table("lance")
    compacted.optimize()
    assert compacted.count_rows("n >= 6") == 6


def test_a_run_that_is_done_changes_nothing_and_another_one_writes_the_same(
    outputs: Path, photos: Path, repository: Path, tmp_path: Path
) -> None:
    for form in kinds.NAMES:
        before = digests(outputs / f"{form}.lance")
        embed(photos, outputs / f"{form}.lance", repository, "--format", form, "--part-items", 5, status=1)
        assert digests(outputs / f"{form}.lance") == before
    embed(photos, tmp_path / "again", repository, "--format", "lance", "--part-items", 5, status=1)
    here, there = digests(tmp_path / "again" / "data"), digests(outputs / "lance.lance" / "data")
    assert here == there


def test_leftovers_are_not_in_the_data_set(outputs: Path, photos: Path, repository: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(outputs / "lance.lance", tmp_path / "out"))
    for name in ("_versions", "_transactions"):
        shutil.rmtree(folder / name)
    (folder / "_clipserve" / "done" / "1.json").unlink()
    (folder / "data" / "part-1.lance").write_bytes(b"half of a file")
    (folder / "data" / "stray.lance").write_bytes(b"of a process that was killed")
    embed(photos, folder, repository, "--format", "lance", "--part-items", 5, status=1)
    assert digests(folder / "data") == digests(outputs / "lance.lance" / "data")
    assert lance.dataset(str(folder)).to_table().equals(lance.dataset(str(outputs / "lance.lance")).to_table())


@pytest.mark.slow
def test_a_data_set_is_whole_however_often_the_run_is_killed(
    outputs: Path, photos: Path, repository: Path, tmp_path: Path
) -> None:
    draw = random.Random(0)
    words = [photos, tmp_path / "out", "--repository", repository, "--format", "lance", "--part-items", 1, "--threads", 1]
    for _ in range(8):
        process = subprocess.Popen([CLIPSERVE, "embed", *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(1, 3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    embed(*words[:2], repository, *words[4:], status=1)
    dataset = lance.dataset(str(tmp_path / "out"))
    assert (
        dataset.to_table()
        .drop_columns(["image", "text"])
        .equals(lance.dataset(str(outputs / "lance.lance")).to_table().drop_columns(["image", "text"]))
    )
    names = {Path(fragment.metadata.files[0].path).name for fragment in dataset.get_fragments()}
    assert set(os.listdir(tmp_path / "out" / "data")) == names


def test_a_run_without_a_good_item_makes_an_empty_data_set(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no picture")
    embed(tmp_path / "photos", tmp_path / "out.lance", repository, "--format", "lance", status=1)
    table = lancedb.connect(tmp_path).open_table("out")
    assert table.count_rows() == 0
    assert "image" in table.schema.names


ODD: Sequence[tuple[str, pa.Array, pa.DataType | None]] = [
    ("decimal32", pa.array([Decimal("1.5"), None], pa.decimal32(5, 1)), pa.decimal128(5, 1)),
    ("words", pa.array([["a", "b"], None], pa.list_(pa.string(), 2)), pa.list_(pa.string())),
    ("numbers", pa.array([[1, 2], None], pa.list_(pa.int32(), 2)), None),
    ("view", pa.array(["a", None], pa.string_view()), pa.string()),
    ("nested", pa.array([{"a": [{"b": 1}]}, None]), None),
    ("when", pa.array([1, None], pa.timestamp("ns", "Asia/Tokyo")), None),
    ("kinds", pa.array(["x", None]).dictionary_encode(), None),
    ("a.b", pa.array([1, 2]), None),
    ("a_b", pa.array([3, 4]), None),
    ("", pa.array([5, 6]), None),
    ("_rowid", pa.array([7, 8]), None),
    ("tick`", pa.array([9, 10]), None),
    ("twice", pa.array([11, 12]), None),
    ("twice", pa.array(["a", "b"]), None),
]


def test_columns_that_lance_has_not_become_the_nearest_ones(tmp_path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(8, np.float32)), 4)
    schema = pa.schema([*((name, array.type) for name, array, _ in ODD), ("image", vectors.type)], {RUN: b"r"})
    with pa.OSFile(str(tmp_path / "rows"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([*(array for _, array, _ in ODD), vectors], schema=schema))
    there, output = place(str(tmp_path / "out.lance")), kinds.output("lance")
    record = output.write(there, "0", Rows(tmp_path / "rows", 2, ("image",)), tmp_path)
    output.finish(there, [json.loads(json.dumps(record))])
    table = lancedb.connect(tmp_path).open_table("out").to_arrow()
    names = [*(name for name, _, _ in ODD[:7]), "a_b_2", "a_b", "column", "own_rowid", "tick_", "twice", "twice_2", "image"]
    assert table.schema.names == names == fitted(schema).names
    for (_, array, kind), column in zip(ODD, table.columns, strict=False):
        assert column.type == (kind or array.type)
        assert column.to_pylist() == array.to_pylist()


@pytest.mark.parametrize(("form", "library"), [("lance", "Lance"), ("parquet", "parquet"), ("clip-retrieval", "parquet")])
def test_a_column_that_a_format_cannot_hold_is_named_before_anything_is_written(form: str, library: str) -> None:
    schema = pa.schema([("n", pa.int64()), ("span", pa.month_day_nano_interval())])
    with pytest.raises(InvalidInput, match=rf"{library} can't hold the columns span \(month_day_nano_interval\)"):
        kinds.output(form).check(schema)
    kinds.output(form).check(schema.remove(1))


def test_a_data_set_on_s3_is_begun_once_and_leftovers_go(
    outputs: Path, photos: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_stores.s3(monkeypatch) as bucket:
        words = (photos, f"{bucket}/out.lance", repository, "--format", "lance", "--part-items", 5)
        there = place(f"{bucket}/out.lance")
        embed(*words, "--part", "1/2", status=0)
        assert there.names("_versions") == []
        there.create("data/part-2-of-another.lance", b"of a process that did the same part")
        embed(*words, "--part", "2/2", status=0)
        table = lance.dataset(f"{bucket}/out.lance").to_table()
        assert table.equals(lance.dataset(str(outputs / "lance.lance")).to_table())
        before = there.names("_versions"), there.names("_transactions"), there.names("data")
        assert [len(names) for names in before] == [1, 1, 3]
        embed(*words, status=1)
        assert before == (there.names("_versions"), there.names("_transactions"), there.names("data"))


def test_parquet_has_few_groups_of_rows(outputs: Path) -> None:
    for file in (*(outputs / "parquet.lance").glob("part-*"), *(outputs / "clip-retrieval.lance" / "metadata").iterdir()):
        assert pq.ParquetFile(file).num_row_groups == 1


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_clip_retrievals_layout_has_the_precision_that_was_asked_for(
    precision: str, photos: Path, repository: Path, expected: dict, tmp_path: Path
) -> None:
    embed(photos, tmp_path, repository, "--precision", precision, status=1)
    vectors = np.load(tmp_path / "img_emb" / "img_emb_0.npy")
    assert vectors.dtype == precision
    assert_close(list(vectors), expected["image"])
    texts = np.load(tmp_path / "text_emb" / "text_emb_0.npy")
    assert texts.any(axis=1).tolist() == [text is not None for text in TEXTS]


@pytest.fixture(scope="module")
def provider() -> type:
    """clip-retrieval's own reader of metadata, without the rest of its module, whose requirements aren't installed."""
    module = Path(sys.prefix) / "lib" / "clip-retrieval" / "clip_retrieval" / "clip_back.py"
    (found,) = (
        node
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "ParquetMetadataProvider"
    )
    names: dict[str, Any] = {"Path": Path, "pd": pandas}
    exec(compile(ast.Module([found], []), str(module), "exec"), names)
    return names["ParquetMetadataProvider"]


def test_clip_retrieval_reads_the_metadata_in_the_order_of_the_vectors(provider: type, outputs: Path, expected: dict) -> None:
    folder = outputs / "clip-retrieval.lance"
    vectors = [np.load(file) for file in sorted((folder / "img_emb").glob("*.npy"))]
    assert_close(list(np.concatenate(vectors)), expected["image"])
    rows = provider(folder / "metadata").get(range(12), ["image_path", "caption", "n"])
    assert [row["n"] for row in rows] == list(range(12))
    assert [os.path.basename(row["image_path"]) for row in rows] == [f"{n:02d}.jpg" for n in range(12)]


def test_fields_with_names_of_the_output_get_other_ones(repository: Path, tmp_path: Path) -> None:
    about = {"image_path": "theirs", "caption": "theirs", "image": 1, "text": 2, "thumbnail": 3, "key": 4, "n": 5}
    tar = shard(tmp_path / "a.tar", {"k.jpg": JPEGS[0], "k.json": json.dumps(about).encode()})
    for form in kinds.NAMES:
        embed(tar, tmp_path / form, repository, "--format", form, "--thumbnails")
    (row,) = lance.dataset(str(tmp_path / "lance")).to_table().to_pylist()
    own = {"image_path_": "theirs", "caption_": "theirs", "image_": 1, "text_": 2, "thumbnail_": 3, "key_": 4, "n": 5}
    assert {name: row[name] for name in own} == own
    assert row["image_path"] == row["key"] == "k"
    assert row["thumbnail"].startswith(b"\xff\xd8\xff")


def test_lists_that_changed_make_another_run(photos: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    runs = []
    for name in ("a", "b", "c"):
        runs.append(prepared(place(str(tmp_path / name)), Job(Folder(str(folder))), "f").run)
        if name == "b":
            (folder / "new.jpg").write_bytes(JPEGS[0])
    assert runs[0] == runs[1] != runs[2]
