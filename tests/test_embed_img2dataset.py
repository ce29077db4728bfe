"""Outputs of img2dataset as inputs of bulk embedding: the same items, captions and vectors from each of its formats."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest
from img2dataset_outputs import caption, write
from shards import embed, errors, rows, vectors

from clip_embed.inputs.kinds import source_of
from clip_embed.inputs.options import InputOptions
from pictures import jpegs

JPEGS = jpegs(4)
THERE = (0, 1, 3)
"""Items that were downloaded; the third one failed."""


def test_each_format_gives_the_same_items_captions_and_vectors(tmp_path: Path, repository: Path) -> None:
    write(tmp_path, [jpeg if n in THERE else None for n, jpeg in enumerate(JPEGS)])
    embeddings = []
    for form, status in (("shards", 0), ("files", 0), ("parquet", 1)):
        output = tmp_path / form
        assert embed(tmp_path / f"downloaded-{form}", output, "--repository", repository, "--threads", 1) == status
        told = rows(output)
        assert [row["key"] for row in told] == [f"{n:09d}" for n in THERE]
        assert [row["caption"] for row in told] == [caption(n) for n in THERE]
        assert {(row["license"], row["status"], row["original_width"]) for row in told} == {("CC0", "success", 300)}
        assert [row["url"] for row in told] == [f"http://a.example/{n}.jpg" for n in THERE]
        embeddings.append([vectors(output), vectors(output, "text")])
    np.testing.assert_allclose(embeddings[0], embeddings[1], atol=2e-3)
    np.testing.assert_allclose(embeddings[0], embeddings[2], atol=2e-3)
    assert [(row["item"], row["reason"]) for row in errors(tmp_path / "parquet")] == [("00000.parquet:3", "has no picture")]


@pytest.mark.parametrize(("form", "kind"), [("shards", "webdataset"), ("files", "files"), ("parquet", "parquet")])
def test_a_folder_of_a_store_is_told_by_what_lies_in_it(form: str, kind: str, tmp_path: Path) -> None:
    write(tmp_path, JPEGS)
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / f"downloaded-{form}"), "/img2dataset/", recursive=True)
    try:
        source = source_of("memory://img2dataset", InputOptions())
        assert (source.kind, len(source.plan(1000).parts)) == (kind, 1)
    finally:
        store.rm("/img2dataset", recursive=True)
