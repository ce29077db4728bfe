"""``clipserve search copy`` between databases and a real sidecar: all is there, the books balance, a second run goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import CLIPSERVE
from sidecars import SIZE, Sidecar, unit

from clip_client import InvalidInput
from clip_client.search import Search
from clip_search.cli import parser
from clip_search.cli.copying.ends import parted
from clip_search.collection import Collection
from clip_search.options import IndexOptions
from clip_search.storage.database import Database
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import About

COUNT = 1300
VECTORS = unit(COUNT)
COLUMNS = {"year": "int", "price": "float", "when": "timestamp", "day": "date", "tags": "list<string>", "raw": "binary",
           "cost": "decimal(10,2)", "big": "uint"}  # fmt: skip

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command here: its status, and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = parser.main(["copy", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with rows of all kinds."""
    folder = tmp_path_factory.mktemp("filled")
    rows = [_row(n) for n in range(COUNT)]
    with_collection(
        folder, lambda collection: collection.add(rows, on_conflict="error", fingerprint="", columns=COLUMNS).result()
    )
    return folder


def _row(n: int) -> NewRow:
    vectors: dict[Any, Any] = {tower: VECTORS[n] for tower, has in (("image", n % 7), ("text", n % 3 or n % 7 == 0)) if has}
    metadata = {"year": n, "price": n / 3, "when": "2026-01-02T03:04:05.678901Z", "day": "2026-01-02", "tags": ["a", str(n)],
                "raw": "AAE=", "cost": "12.30", "big": 2**63 + n, "caption": f"picture '{n}' \u00e4\U0001f600"}  # fmt: skip
    kept = {name: value for place, (name, value) in enumerate(metadata.items()) if (n + place) % 5}
    return NewRow(f"r{n}", vectors, kept, f"/pictures/{n}.jpg" if n % 2 else None, None, f"state {n}" if n % 4 == 0 else None)


def with_collection(folder: Path, use: Callable[[Collection], Any], name: str = "photos") -> Any:
    """Open a collection of a database as a sidecar does, and close it."""
    database = Database(str(folder), folder / "indexes")
    try:
        table = database.open(name) if name in database.names() else database.create(name, About(SIZE, "model1"), {})
        collection = Collection(
            name, table, folder / "indexes" / name, IndexOptions(), lambda **_: (np.empty((0, SIZE)), "texts")
        )
        try:
            return use(collection)
        finally:
            collection.close()
    finally:
        database.close()


def content(folder: Path, name: str = "photos") -> dict[str, dict[str, Any]]:
    """Return all of a database's rows by id, but for numbers and times."""

    def read(collection: Collection) -> dict[str, dict[str, Any]]:
        names = [name for name in collection.table.schema.names if name not in ("row", "time")]
        rows = collection.table.page("", -1, 100_000, names)
        assert len({row["id"] for row in rows}) == len(rows)
        return {row.pop("id"): {key: value for key, value in row.items() if key != "row" and value is not None} for row in rows}

    return with_collection(folder, read, name)


def test_a_database_is_copied_as_it_is(run: Run, filled: Path, tmp_path: Path) -> None:
    status, out, _ = run(f"{filled}/photos", f"{tmp_path}/copy/other")
    assert status == 0
    assert out.splitlines()[-1] == f"read {COUNT} = {COUNT} added + 0 unchanged + 0 replaced + 0 left out"
    assert "compared by id: 1300 rows, all are there" in out
    assert "1000 rows, all are the same" in out
    assert content(tmp_path / "copy", "other") == content(filled)
    status, out, _ = run(f"{filled}/photos", f"{tmp_path}/copy/other", "--json")
    told = json.loads(out)
    assert (status, told["unchanged"], told["added"], told["missing"], told["different"]) == (0, COUNT, 0, [], [])


def test_a_collection_is_copied_within_its_database(run: Run, tmp_path: Path) -> None:
    rows = [_row(n) for n in range(20)]
    with_collection(tmp_path, lambda one: one.add(rows, on_conflict="error", fingerprint="", columns=COLUMNS).result())
    status, out, _ = run(f"{tmp_path}/photos", f"{tmp_path}/again")
    assert (status, out.splitlines()[-1].split(" + ")[0]) == (0, "read 20 = 20 added")
    assert content(tmp_path, "again") == content(tmp_path)


def test_a_difference_is_named_and_replaced(run: Run, filled: Path, tmp_path: Path) -> None:
    other = [
        NewRow("r1", {"image": VECTORS[2], "text": VECTORS[1]}, _row(1).metadata, "/pictures/1.jpg"),
        NewRow("mine", {"image": VECTORS[3]}),
    ]
    with_collection(tmp_path, lambda one: one.add(other, on_conflict="error", fingerprint="", columns=COLUMNS).result())
    status, out, _ = run(f"{filled}/photos", f"{tmp_path}/photos", "--json")
    told = json.loads(out)
    assert (status, told["added"], told["unchanged"]) == (1 if told["different"] else 0, COUNT - 1, 1)
    assert all(one == "r1: another vector of image" for one in told["different"])
    status, out, _ = run(f"{filled}/photos", f"{tmp_path}/photos", "--json", "--replace")
    told = json.loads(out)
    assert (status, told["replaced"], told["read"], told["different"]) == (0, COUNT, COUNT, [])
    assert content(tmp_path).keys() == {*content(filled), "mine"}


def test_a_copy_goes_to_a_sidecar_and_back(run: Run, search: Search, sidecar: Sidecar, photos: str, tmp_path: Path) -> None:
    status, out, _ = run(f"{sidecar.url}/photos", f"{tmp_path}/photos", "--json")
    assert (status, json.loads(out)["added"]) == (0, 12)
    status, out, _ = run(f"{tmp_path}/photos", f"{sidecar.url}/again", "--json")
    assert (status, json.loads(out)["added"], json.loads(out)["rows_compared"]) == (0, 12, 12)
    before, after = ({row["id"]: row for row in search.rows(name, vectors=True)} for name in ("photos", "again"))
    for id, row in before.items():
        assert row["metadata"] == after[id]["metadata"]
        np.testing.assert_allclose(row["vector_image"], after[id]["vector_image"], atol=1e-6)
    assert search.stats("again")["fingerprint"] == search.stats("photos")["fingerprint"]
    hit = search.query("again", "a red square", k=1)[0]
    assert search.thumbnail(hit)


def test_a_killed_copy_goes_on(filled: Path, tmp_path: Path) -> None:
    command = [CLIPSERVE, "search", "copy", f"{filled}/photos", f"{tmp_path}/photos", "--json"]
    table = tmp_path / "photos.lance"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(table.glob("data/*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(again.stdout)
    assert told["added"] + told["unchanged"] == COUNT
    assert (told["missing"], told["different"]) == ([], [])
    assert content(tmp_path) == content(filled)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("photos", "copy/photos", "names no collection"),
        ("http://127.0.0.1:9", "copy/photos", "names no collection"),
        ("nowhere/photos", "copy/photos", "no such database"),
        ("DATA/nothing", "copy/photos", "no such collection"),
        ("DATA/photos", "DATA/photos", "is both"),
        ("DATA/photos", "copy/a b", "letters, digits"),
    ],
)
def test_places_that_cant_be_used_are_named(
    run: Run, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*(one.replace("DATA", str(filled)) for one in (source, target)))
    assert status == 1
    assert reason in err
    assert "Traceback" not in err


def test_another_dimension_or_model_is_refused(run: Run, filled: Path, tmp_path: Path) -> None:
    database = Database(str(tmp_path), tmp_path / "indexes")
    database.create("small", About(4, "model1"), {})
    database.create("other", About(SIZE, "model2"), {})
    database.close()
    for name, reason in (("small", "vectors of 4"), ("other", "of model model2")):
        status, _, err = run(f"{filled}/photos", f"{tmp_path}/{name}")
        assert (status, reason in err) == (1, True), err


def test_a_database_that_is_served_is_named_by_its_sidecar(run: Run, sidecar: Sidecar, tmp_path: Path) -> None:
    status, _, err = run(f"{sidecar.data}/photos", f"{tmp_path}/photos")
    assert status == 1
    assert "sidecar's address" in err


def test_places_are_parted() -> None:
    assert parted("http://h:1/a") == ("http://h:1", "a")
    assert parted("s3://bucket/search/a/") == ("s3://bucket/search", "a")
    assert parted(r"C:\data\a") == ("C:/data", "a")
    for place in ("a", "/a", "http://h:1", "s3://bucket"):
        with pytest.raises(InvalidInput, match=r"names no collection|letters"):
            parted(place)
