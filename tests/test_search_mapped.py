"""Indexes whose parts stay in files: as exact as those in memory, checked, right while their files are damaged."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from collections_on_disk import COUNT, VECTORS, Opener, brute, fill, hit_ids, rows, settled
from sidecars import unit

from clip_search.collection import Collection
from clip_search.errors import StorageFull
from clip_search.index import list_files, mapped_index
from clip_search.index.kinds import LISTS, Kind
from clip_search.index.part import Part
from clip_search.index.part_builder import PartBuilder
from clip_search.index.tuning import AT, Tuned, recalls, tuned
from clip_search.options import IndexOptions
from clip_search.storage import derived_files
from clip_search.storage.rows import NewRow

OPTIONS = IndexOptions(exact_rows=400, tail_rows=100, mapped_bytes=0)
MANY = 3000
OLDER = Path(__file__).parent / "data" / "index_parts"


def built(folder: Path, kind: Kind, vectors: np.ndarray, numbers: np.ndarray) -> Part:
    folder.mkdir()
    pieces = ((numbers[n : n + 700], vectors[n : n + 700]) for n in range(0, len(vectors), 700))
    files = mapped_index.build(kind, folder, pieces, lambda: vectors[::2], (len(vectors), 1))
    return Part.mapped(folder, kind, files, Tuned(16, 1.0, 0.9, 9, "texts"))


@pytest.mark.parametrize("kind", LISTS)
def test_a_mapped_index_gives_vectors_and_exact_hits(tmp_path: Path, kind: Kind) -> None:
    vectors, numbers = unit(MANY), 3 * np.arange(MANY)[::-1]
    part = built(tmp_path / "part", kind, vectors, numbers)
    np.testing.assert_allclose(part.vectors(numbers)[1], vectors, atol=1e-3)
    only = np.sort(numbers[::9])
    for query in unit(5, seed=7):
        assert part.search(query, AT, None, exactly=True)[1].tolist() == best(vectors, numbers, query)
        assert part.search(query, AT, only)[1].tolist() == best(vectors[::9], numbers[::9], query)
        assert part.search(query, AT, only[:40])[1].tolist() == best(vectors, numbers, query, only[:40])
    assert sorted(part.rows.tolist()) == sorted(numbers.tolist())


def best(vectors: np.ndarray, numbers: np.ndarray, query: np.ndarray, only: np.ndarray | None = None) -> list[int]:
    keep = np.ones(len(numbers), bool) if only is None else np.isin(numbers, only)
    order = np.argsort(-(vectors[keep].astype(np.float16).astype(np.float32) @ query), kind="stable")
    return numbers[keep][order[:AT]].tolist()


@pytest.mark.parametrize("kind", LISTS)
def test_a_mapped_index_is_tuned_to_its_target_by_true_neighbours(tmp_path: Path, kind: Kind) -> None:
    vectors, texts = unit(MANY), unit(64, seed=3) + np.float32(0.2)
    part = built(tmp_path / "part", kind, vectors, np.arange(MANY))
    tuning = tuned(part.index, texts, "texts", 0.95)
    truth = np.argsort(-(texts @ vectors.T), axis=1)[:, :AT]
    assert recalls(part.rows[part.index.search(texts, AT, tuning.effort)[1]], truth).mean() >= 0.93
    assert tuning.recall >= 0.95 - 0.05 * (kind == "ivf1")  # of vectors without any structure


@pytest.mark.parametrize("kind", ["ivf1", "ivf2"])
@pytest.mark.parametrize("size", [1, 6, 7, 32])
def test_packed_codes_are_those_of_the_library(tmp_path: Path, kind: Kind, size: int) -> None:
    vectors = unit(999, size=size)
    part = built(tmp_path / "part", kind, vectors, np.arange(len(vectors)))
    index = faiss.read_index(str(tmp_path / "part" / mapped_index.INDEX))  # with lists of its own
    index.add_with_ids(vectors, np.argsort(part.rows))
    codes = part.index
    for queries in (unit(3, seed=7, size=size), unit(1, seed=8, size=size)):
        scores, hits = index.search(queries, 50, params=faiss.SearchParametersIVF(nprobe=9))
        ours = super(mapped_index.MappedIndex, codes).search(queries, 50, 9)
        np.testing.assert_array_equal(ours[0], scores)
        assert [set(row) for row in ours[1][:, :20].tolist()] <= [set(row) for row in hits.tolist()]


def test_lists_of_one_vector_many_times_are_read_in_pieces(tmp_path: Path) -> None:
    vectors = np.repeat(unit(2), [40_000, 300], axis=0)
    index = built(tmp_path / "part", "ivf", vectors, np.arange(len(vectors))).index
    scores, _ = index.exact_of_many(unit(2), AT)
    np.testing.assert_allclose(scores, 1, atol=2e-3)


@pytest.mark.parametrize("kind", ["ivf8", "ivfpq"])
def test_parts_of_older_versions_are_searched(tmp_path: Path, kind: Kind) -> None:
    shutil.copytree(OLDER / kind, tmp_path / "part")
    part = Part.load(tmp_path / "part", json.loads((tmp_path / "part" / "about.json").read_text()))
    part.tuned = dataclasses.replace(part.tuned, effort=99)
    vectors, rows = part.index.vectors(np.arange(300)), part.rows
    for n in range(0, 300, 17):
        found = part.search(vectors[n], AT, None)[1]
        assert found[0] == rows[n]
        assert len(set(found) & set(rows[np.argsort(-(vectors @ vectors[n]))[:AT]])) >= 8
    assert (
        part.search(vectors[3], AT, None, exactly=True)[1].tolist() == rows[np.argsort(-(vectors @ vectors[3]))[:AT]].tolist()
    )


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Opener]:
    opener = Opener(tmp_path)
    collection = opener.open(OPTIONS)
    fill(collection)
    collection.rebuild()
    yield opener
    opener.close()


def right(collection: Collection) -> None:
    for n in range(0, COUNT, 101):
        assert hit_ids(collection, VECTORS[n], 3)[0] == f"r{n}"
    assert hit_ids(collection, VECTORS[3], 5, "year = 7") == brute(VECTORS[3], 5, range(7, COUNT, 100))
    number = np.array([collection.row_of("r8")])
    np.testing.assert_allclose(collection.engines["image"].vectors(number)[0], VECTORS[8], atol=2e-3)


@pytest.mark.parametrize(
    ("memory_bytes", "target", "kind"), [(2**30, 0.9, "ivf1"), (2**30, 1.0, "ivf"), (736_000, 1.0, "ivf1")]
)
def test_a_large_part_is_in_files_and_the_same_after_a_restart(
    tmp_path: Path, log: io.StringIO, memory_bytes: int, target: float, kind: Kind
) -> None:
    opener = Opener(tmp_path)
    options = dataclasses.replace(OPTIONS, memory_bytes=memory_bytes, recall_target=target)
    fill(opener.open(options))
    opener.collection.rebuild()
    parts = opener.collection.stats()["indexes"]["image"]["parts"]
    assert [part["kind"] for part in parts] == [kind]
    assert len([*(tmp_path / "a").rglob("part-*")]) == 1
    right(opener.collection)
    opener.collection.delete(ids=["r5"]).result()
    again = opener.open(options)
    right(again)
    assert "r5" not in hit_ids(again, VECTORS[5], 20)
    assert log.getvalue() == ""
    opener.close()


SMALL_FILES = ("rows.npy", "starts.npy", "index.faiss")
DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "deleted": lambda path: path.unlink(),
    "written": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("lists.bin", "truncated"),
        ("rows.npy", "written"),
        *(pytest.param(name, damage, marks=pytest.mark.long) for name in ("lists.bin", "rows.npy") for damage in DAMAGES),
    ],
)
def test_a_file_that_is_damaged_while_it_is_searched(serving: Opener, log: io.StringIO, name: str, damage: str) -> None:
    collection = serving.collection
    [path] = (serving.folder / "a" / "image").glob(f"part-*/{name}")
    DAMAGES[damage](path)
    right(collection)
    collection.maintain()
    assert "was changed by somebody" in log.getvalue()
    right(collection)
    log.truncate(0)
    right(serving.open(OPTIONS))
    assert log.getvalue() == ""


@pytest.mark.parametrize("name", ["lists.bin", *(pytest.param(each, marks=pytest.mark.long) for each in SMALL_FILES)])
def test_a_file_that_was_damaged_before_it_is_opened(serving: Opener, log: io.StringIO, name: str) -> None:
    serving.close()
    [path] = (serving.folder / "a" / "image").glob(f"part-*/{name}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    right(serving.open(OPTIONS))
    assert str(path) in log.getvalue()
    assert settled(lambda: not serving.collection.engines["image"]._unsaved)
    right(serving.open(OPTIONS))


def test_new_rows_go_to_files_during_a_long_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    opener, begun, go_on = Opener(tmp_path), threading.Event(), threading.Event()
    build = mapped_index.build

    def slow(*arguments: object) -> object:
        begun.set()
        assert go_on.wait(60)
        return build(*arguments)

    collection = opener.open(OPTIONS)
    collection.add(rows(*range(450)), on_conflict="error", fingerprint="").result()
    engine = collection.engines["image"]
    assert settled(lambda: not engine.index.snapshot.tail.count)
    monkeypatch.setattr(mapped_index, "build", slow)
    collection.rebuild_soon()
    assert begun.wait(20)
    for start in range(450, COUNT, 50):
        collection.add(rows(*range(start, start + 50)), on_conflict="error", fingerprint="").result()
        assert hit_ids(collection, VECTORS[start], 1) == [f"r{start}"]
    collection.delete(ids=["r460", "r7"]).result()
    assert engine.index.snapshot.tail.count <= 400
    assert len(engine.index.snapshot.parts) == 2
    go_on.set()
    collection.rebuild_soon().result(60)
    assert settled(lambda: not any(part.is_pending for part in engine.index.snapshot.parts))
    assert engine.size() == COUNT - 2
    right_rows = collection.table.numbers()
    assert np.array_equal(
        np.sort(np.concatenate([holder.alive_rows() for holder in engine.index.snapshot.holders])), right_rows
    )
    assert not {"r460", "r7"} & set(hit_ids(collection, VECTORS[7], COUNT))
    assert log.getvalue() == ""
    opener.close()


def test_rows_beyond_the_memory_are_refused_before_they_are_written(tmp_path: Path) -> None:
    opener = Opener(tmp_path)
    collection = opener.open()
    fill(collection)
    small = IndexOptions(memory_bytes=8 * COUNT * 76)  # an eighth is for rows, of 64 + 4 + 8 bytes each
    collection = opener.open(small)
    with pytest.raises(StorageFull, match=r"a: 1,001 vectors of 32 take 0.44 GB of memory at least, --memory is 0.0"):
        collection.add(rows(7), on_conflict="replace", fingerprint="")
    assert len(collection.table) == COUNT
    opener.close()
    with pytest.raises(StorageFull, match="or --engine lancedb, which searches on disk"):
        opener.open(IndexOptions(memory_bytes=8 * COUNT * 75))
    opener.database.close()
    assert len(opener.open(IndexOptions(engine="lancedb", memory_bytes=8 * COUNT * 75)).table) == COUNT
    opener.close()


def sources(collection: Collection) -> list[str]:
    return [part["source"] for part in collection.stats()["indexes"]["image"]["parts"]]


def test_without_a_text_tower_an_index_is_tuned_on_what_lies_as_far_as_texts(tmp_path: Path) -> None:
    opener = Opener(tmp_path)
    opener.texts = lambda count, space, size: (np.empty((0, size), np.float32), "vectors")  # type: ignore[method-assign]
    collection = opener.open(OPTIONS)
    fill(collection)
    collection.rebuild()
    [part] = collection.stats()["indexes"]["image"]["parts"]
    assert (part["source"], part["queries"]) == ("made", 500)
    assert part["recall"] >= 0.97
    captions = [NewRow(f"t{n}", {"text": vector}) for n, vector in enumerate(unit(40, seed=8))]
    collection.add(captions, on_conflict="error", fingerprint="").result()
    collection.engines["image"]._retune_at = 0
    collection.maintain()
    assert sources(collection) == ["captions"]
    opener.close()


def test_texts_that_an_index_was_tuned_on_are_kept_for_when_there_are_none(serving: Opener, log: io.StringIO) -> None:
    assert sources(serving.collection) == ["texts"]
    serving.texts = lambda count, space, size: (np.empty((0, size), np.float32), "vectors")  # type: ignore[method-assign]
    collection = serving.open(OPTIONS)
    collection.rebuild()
    assert sources(collection) == ["texts"]
    serving.close()
    [path] = (serving.folder / "a" / "image").glob("queries-*.npy")
    path.write_bytes(path.read_bytes()[:-1])
    collection = serving.open(OPTIONS)
    assert f"{path} isn't what was written: the index is tuned on other queries" in log.getvalue()
    collection.rebuild()
    assert sources(collection) == ["made"]


def test_large_files_are_opened_without_being_read_and_checked_while_they_are_served(
    serving: Opener, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_files, "CHECKED_LATER_BYTES", 0)
    monkeypatch.setattr(derived_files, "BLOCK_BYTES", 4096)
    serving.collection.rebuild()
    serving.close()
    [path] = (serving.folder / "a" / "image").glob("part-*/lists.bin")
    content = bytearray(path.read_bytes())
    content[100] ^= 4
    path.write_bytes(content)
    collection = serving.open(OPTIONS)
    assert log.getvalue() == ""
    engine = collection.engines["image"]
    with pytest.raises(derived_files.Damaged) as problem:
        engine.files()[path].check_block(path, 0)
    engine.distrust(path, str(problem.value))
    assert "the table is searched until all is indexed again" in log.getvalue()
    right(collection)
    collection.maintain()
    right(collection)
    serving.close()
    log.truncate(0)
    [path] = (serving.folder / "a" / "image").glob("part-*/lists.bin")
    os.truncate(path, path.stat().st_size - 1)
    right(serving.open(OPTIONS))
    assert f"{path} isn't any more what was opened" in log.getvalue()


def test_what_a_killed_build_left_goes(serving: Opener) -> None:
    serving.close()
    left = serving.folder / "a" / "image" / "part-0123456789ab"
    left.mkdir()
    (left / "bucket-0").write_bytes(b"half")
    serving.open(OPTIONS)
    assert settled(lambda: not left.exists())
    right(serving.collection)


def test_rows_that_are_deleted_while_they_are_read_have_no_vectors(serving: Opener, tmp_path: Path) -> None:
    builder = PartBuilder(
        serving.collection.table, "image", tmp_path / "parts", OPTIONS, lambda count: (VECTORS[:0], "vectors")
    )
    wanted = serving.collection.table.rows("image")[:5]
    serving.collection.delete(ids=["r1", "r3"]).result(30)
    there, vectors = builder.vectors(wanted, VECTORS.shape[1])
    assert there.tolist() == wanted[[0, 2, 4]].tolist()
    np.testing.assert_allclose(vectors, VECTORS[[0, 2, 4]], atol=2e-3)
