"""Folders to judge and calibrate on, as people have them."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clip_client import ModelSpec
from clip_client.errors import InvalidInput
from clip_export.evaluation import labelled_pictures
from clip_export.evaluation.items import Evaluation, Inputs
from pictures import encoded, picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(3):
        (tmp_path / f"{n}.jpg").write_bytes(encoded(picture(40, 50, seed=n)))
    return tmp_path


def judged(folder: Path, spec: ModelSpec, checkpoint: Path) -> Evaluation:
    tokenizer = (checkpoint / "tokenizer.json").read_text()
    return Inputs(spec, tokenizer).evaluation(labelled_pictures.read(folder), str(folder))


def captions(folder: Path) -> dict[str, tuple[str, ...]]:
    return {one.file.name: one.captions for one in labelled_pictures.read(folder)}


def test_all_captions_of_a_picture_are_kept(folder: Path) -> None:
    rows = {"file_name": ["0.jpg", "1.jpg", "0.jpg", "0.jpg"], "caption": ["a", "b", "c", "a"]}
    pq.write_table(pa.table(rows), folder / "captions.parquet")
    assert captions(folder) == {"0.jpg": ("a", "c"), "1.jpg": ("b",)}
    (folder / "captions.parquet").unlink()
    (folder / "captions.json").write_text('[{"file": "0.jpg", "captions": ["a"]}, {"file": "0.jpg", "captions": "c"}]')
    assert captions(folder) == {"0.jpg": ("a", "c")}


def test_tables_of_other_names_and_forms_are_read(folder: Path) -> None:
    (folder / "captions.csv").write_text("file_name;caption\n0.jpg;a\n")
    assert captions(folder) == {"0.jpg": ("a",)}
    (folder / "captions.csv").rename(folder / "metadata.csv")
    assert captions(folder) == {"0.jpg": ("a",)}
    (folder / "metadata.csv").write_text("file_name,year\n0.jpg,1999\n")
    assert set(captions(folder).values()) == {()}  # of years, not of captions
    (folder / "metadata.jsonl").write_text('{"file_name": "1.jpg", "caption": "b"}\n')
    assert captions(folder) == {"1.jpg": ("b",)}


def test_captions_as_coco_has_them(folder: Path) -> None:
    document = {
        "images": [{"id": 1, "file_name": "0.jpg"}, {"id": 2, "file_name": "1.jpg"}],
        "annotations": [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b"}, {"image_id": 1, "caption": "c"}],
    }
    (folder / "captions.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(document).encode())
    assert captions(folder) == {"0.jpg": ("a", "c"), "1.jpg": ("b",)}


def test_a_caption_that_is_null_is_named_and_the_others_count(folder: Path, spec: ModelSpec, checkpoint: Path) -> None:
    rows = [{"file": "0.jpg", "captions": ["a", None]}, {"file": "1.jpg", "captions": None}, {"file": "2.jpg", "captions": "c"}]
    (folder / "captions.json").write_text(json.dumps([*rows, None, {"captions": ["lost"]}]))
    found = judged(folder, spec, checkpoint)
    assert found.owners.tolist() == [0, 1]
    assert [line.partition(":")[0] for line in found.skipped] == ["captions.json", "captions.json", "1.jpg"]
    pq.write_table(pa.table({"file_name": ["0.jpg", "1.jpg"], "caption": ["a", None]}), folder / "captions.parquet")
    assert judged(folder, spec, checkpoint).owners.tolist() == [0]


def test_names_that_are_written_in_another_way(folder: Path) -> None:
    nfd = unicodedata.normalize("NFD", "é.jpg")
    (folder / "0.jpg").rename(folder / nfd)
    rows = {"file_name": ["é.jpg", "./1.jpg", ".\\2.JPG"], "caption": ["a", "b", "c"]}
    pq.write_table(pa.table(rows), folder / "captions.parquet")
    assert captions(folder) == {nfd: ("a",), "1.jpg": ("b",), "2.jpg": ("c",)}


def test_a_caption_of_a_missing_file_is_named_and_the_others_count(folder: Path, spec: ModelSpec, checkpoint: Path) -> None:
    names = ["0.jpg", "none.jpg", "../../etc/passwd", __file__]
    rows = {"file_name": names, "caption": ["a", "b", "c", "d"]}
    pq.write_table(pa.table(rows), folder / "captions.parquet")
    found = judged(folder, spec, checkpoint)
    assert found.owners.tolist() == [0]
    assert [line.partition(":")[0] for line in found.skipped] == ["none.jpg", "passwd", Path(__file__).name]
    assert all(one.file.is_relative_to(folder) for one in labelled_pictures.read(folder))


def test_pictures_of_all_endings_are_read_and_whatever_else_is_named(folder: Path, spec: ModelSpec, checkpoint: Path) -> None:
    (folder / "3.jfif").write_bytes(encoded(picture(40, 50, seed=3)))
    (folder / "4.avif").write_bytes(encoded(picture(40, 50, seed=4), "AVIF"))
    (folder / os.fsdecode(b"caf\xe9.JPG")).write_bytes(encoded(picture(40, 50, seed=5)))
    (folder / "far").mkdir()
    (folder / "album").symlink_to("far")
    (folder / "album" / "6.jpg").write_bytes(encoded(picture(40, 50, seed=6)))
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "lost.jpg").symlink_to("nowhere")
    (folder / "phone.heic").write_bytes(b"x")
    (folder / "empty.jpg").write_bytes(b"")
    found = judged(folder, spec, checkpoint)
    assert len(found.pixels) == 7
    skipped = sorted(line.partition(":")[0] for line in found.skipped)
    assert skipped == ["empty.jpg", "lost.jpg", "phone.heic", "pipe.jpg", "zero.jpg"]


@pytest.mark.parametrize(
    "content", ["", "{broken", "[1]", "[]", '[{"file": "0.jpg"}]', '[{"file": "0.jpg", "captions": [null]}]']
)
def test_captions_of_no_use(content: str, folder: Path) -> None:
    (folder / "captions.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"captions\.json"):
        labelled_pictures.read(folder)
