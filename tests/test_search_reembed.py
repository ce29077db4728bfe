"""Second sets of vectors: filled, resumed, swapped, gone back to and dropped, with two models of different spaces."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient
from two_models import World, picture, until, vector, world

from clip_client.errors import Conflict, InvalidInput, NotFound
from clip_search.errors import ReadOnly, StorageFull
from clip_search.ingest import add
from clip_search.items import AddOptions, Item
from clip_search.query import Term
from clip_search.reembedding.second_sets import Wish
from clip_search.storage import vector_sets
from clip_search.storage.schema import check_collection
from clip_search.storage.table import Table
from clip_search.web.app import app
from clip_search.web.response_models import Reembedding

WISH = Wish("new", cores=1.0)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[World]:
    """A world with a collection of thirty rows."""
    with world(tmp_path) as made:
        made.sidecar.create("a", None, None, {"n": "int"})
        made.add(*range(30))
        yield made


def begin(two: World, wish: Wish = WISH) -> None:
    two.sidecar.seconds.start(two.sidecar.collection("a"), wish)


def test_a_collection_goes_over_and_back_and_lets_go_of_the_old(two: World) -> None:
    assert two.answers() == ("old", {f"r{n}": n for n in range(30)})
    before = two.sidecar.collection("a")
    numbers = before.numbers(["r3", "r7"])
    begin(two)
    assert two.settled("kept")["embedded"] == 30
    assert two.answers() == ("new", {f"r{n}": n for n in range(30)})
    assert two.sidecar.collection("a").numbers(["r3", "r7"]) == numbers
    assert before.search(vector("text 3", "old"), "text", 1, "")[1].tolist() == [numbers["r3"]]  # a request under way
    two.add(30)
    two.sidecar.seconds.back(two.sidecar.collection("a"))
    two.settled("kept")
    assert two.answers() == ("old", {f"r{n}": n for n in range(31)})
    two.sidecar.seconds.back(two.sidecar.collection("a"))
    assert until(lambda: two.sidecar.collection("a").about.space == "new")
    two.settled("kept")
    assert two.sidecar.seconds.drop("a") == {"dropped": "a", "model": "clip", "space": "old", "rows_only_there": 0}
    assert two.answers() == ("new", {f"r{n}": n for n in range(31)})
    assert two.state()["state"] == "none"
    assert not (two.folder / "data" / "a.lance").exists()
    two.add(31)
    assert two.answers()[1] == {f"r{n}": n for n in range(32)}


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
def test_what_serves_then_has_the_priority_that_was_before(two: World) -> None:
    def priorities() -> dict[str, int]:
        of = {
            thread.name.partition(" ")[0]: thread.native_id for thread in threading.enumerate() if thread.name.endswith(" of a")
        }
        return {name: os.getpriority(os.PRIO_PROCESS, number) for name, number in of.items()}

    before = priorities()
    assert before["writer"] < before["upkeep"]
    begin(two)
    two.settled("kept")
    now = priorities()
    assert now.pop("second") == before["upkeep"]
    assert now == before


def test_changes_meanwhile_go_to_both(two: World) -> None:
    two.new.pause_s = 0.3
    begin(two)
    two.add(100, 101)
    two.add(5, conflict="replace", year=1999)
    two.add(6, conflict="replace", weight=0.5)
    assert two.sidecar.collection("a").delete(ids=["r7", "r100"]).result() == 2
    assert two.sidecar.collection("a").delete(where="n = 9").result() == 1
    two.new.pause_s = 0
    two.settled("kept")
    expected = {f"r{n}": n for n in (*range(30), 101) if n not in (7, 9)}
    assert two.answers() == ("new", expected)
    [row] = two.sidecar.collection("a").table.page("year = 1999", -1, 10, ["id", "weight", "source"])
    assert (row["id"], row["weight"], row["source"]) == ("r5", None, two.source(5))
    assert two.sidecar.collection("a").delete(ids=["r1"]).result() == 1  # and now the other way round
    two.sidecar.seconds.back(two.sidecar.collection("a"))
    two.settled("kept")
    assert two.answers() == ("old", {id: n for id, n in expected.items() if id != "r1"})


def test_it_goes_on_where_it_was(two: World, tmp_path: Path) -> None:
    two.new.pause_s = 0.2
    begin(two)
    two.add(50)
    two.close()
    with world(tmp_path) as again:
        again.settled("kept")
        assert again.answers() == ("new", {f"r{n}": n for n in (*range(30), 50)})
        assert again.new.asked + two.new.asked <= 31 + 16  # none twice, but for a batch that was under way
    with world(tmp_path) as again:  # what serves is found again, and so is what is kept
        assert again.state()["state"] == "kept"
        assert again.answers()[0] == "new"
        again.add(51)
        again.sidecar.seconds.back(again.sidecar.collection("a"))
        again.settled("kept")
        assert again.answers() == ("old", {f"r{n}": n for n in (*range(30), 50, 51)})


def test_rows_whose_pictures_are_gone_are_named_and_nothing_is_swapped(two: World) -> None:
    for n in (3, 4):
        Path(two.source(n)).unlink()
    begin(two)
    state = two.settled("refused")
    assert (state["rows"], state["embedded"], state["left_out"], state["pending"]) == (30, 28, 2, 0)
    assert "2 of 30 rows can't be embedded" in state["reason"]
    told = two.sidecar.seconds.left_out("a", -1, 10)
    assert [row["id"] for row in told] == ["r3", "r4"]
    assert "No such file" in str(told[0]["reason"]) or "no longer exists" in str(told[0]["reason"])
    assert two.answers()[0] == "old"
    begin(two, Wish("new", most_missing=0.1, cores=1.0))
    two.settled("kept")
    assert two.answers() == ("new", {f"r{n}": n for n in range(30) if n not in (3, 4)})
    assert [row["id"] for row in two.sidecar.seconds.left_out("a", -1, 10)] == ["r3", "r4"]
    two.sidecar.seconds.back(two.sidecar.collection("a"))  # they aren't lost
    two.settled("kept")
    assert two.answers() == ("old", {f"r{n}": n for n in range(30)})
    two.sidecar.seconds.back(two.sidecar.collection("a"))
    assert until(lambda: two.sidecar.collection("a").about.space == "new")
    two.settled("kept")
    assert two.sidecar.seconds.drop("a")["rows_only_there"] == 2


def test_thumbnails_are_the_last_resort(two: World) -> None:
    Path(two.source(3)).unlink()
    begin(two, Wish("new", most_missing=0, cores=1.0, thumbnails=True))
    assert two.settled("kept")["left_out"] == 0
    small = two.sidecar.collection("a").table.get(
        list(two.sidecar.collection("a").numbers(["r3"]).values()), ["thumbnail", "vector_image"]
    )
    [values] = small.values()
    assert np.allclose(values["vector_image"], vector(values["thumbnail"], "new"), atol=1e-6)


def test_rows_that_came_as_vectors_are_refused_before(two: World) -> None:
    items = [Item(f"v{n}", vectors={"image": [1.0] * 16}, metadata={"n": n}) for n in range(3)]
    add(two.sidecar, two.sidecar.collection("a"), items, AddOptions())
    with pytest.raises(InvalidInput, match=r"3 of 33 rows can't be embedded again.*--missing 0\.10"):
        begin(two)
    assert two.state()["state"] == "none"
    assert two.sidecar.database.tables("a") == ["a"]


def test_what_cannot_be_begun_is_refused_with_the_reason(two: World) -> None:
    with pytest.raises(InvalidInput, match="of the space of old already"):
        begin(two, Wish("old"))
    with pytest.raises(NotFound, match="has no second set"):
        two.sidecar.seconds.back(two.sidecar.collection("a"))
    two.new.pause_s = 0.5
    begin(two)
    with pytest.raises(Conflict, match="being embedded with new already"):
        begin(two)
    with pytest.raises(Conflict, match="wait for it, or drop that"):
        begin(two, Wish("third"))
    with pytest.raises(Conflict, match="goes over already"):
        two.sidecar.seconds.back(two.sidecar.collection("a"))
    two.new.pause_s = 0
    assert two.sidecar.seconds.drop("a")["model"] == "new"  # gives up
    assert two.answers() == ("old", {f"r{n}": n for n in range(30)})
    assert two.sidecar.database.tables("a") == ["a"]


def test_it_waits_for_a_model_that_is_away(two: World) -> None:
    two.new.pause_s = 0.2
    begin(two)
    two.new.is_down, two.new.pause_s = True, 0
    two.settled("waiting")
    assert "new isn't there" in two.state()["reason"]
    two.add(60)  # goes into one set for now
    two.new.is_down = False
    two.settled("kept")
    assert two.answers() == ("new", {f"r{n}": n for n in (*range(30), 60)})


def test_the_way_back_needs_the_old_model(two: World) -> None:
    begin(two)
    two.settled("kept")
    two.old.space = "new"  # the server has gone over
    two.add(70)
    with pytest.raises(Exception, match=r"of space old.*--to MODEL"):
        two.sidecar.seconds.back(two.sidecar.collection("a"))
    assert two.sidecar.embedder_of(two.sidecar.collection("a")) is two.old  # by its plain name now
    assert two.answers()[0] == "new"


def test_adds_and_deletions_at_the_swap_are_in_both_sets(two: World) -> None:
    ended = threading.Event()
    added: list[int] = []

    def change() -> None:
        for n in range(1000, 1400):
            two.add(n)
            added.append(n)
            if n % 3 == 0:
                collection = two.sidecar.collection("a")
                try:
                    collection.delete(ids=[f"r{n}"]).result()
                except Exception:
                    two.sidecar.collection("a").delete(ids=[f"r{n}"]).result()
            if ended.is_set():
                return

    changing = threading.Thread(target=change)
    changing.start()
    begin(two)
    two.settled("kept")
    ended.set()
    changing.join()
    expected = {f"r{n}": n for n in (*range(30), *added) if n < 1000 or n % 3}
    assert two.answers() == ("new", expected)
    two.sidecar.seconds.back(two.sidecar.collection("a"))
    two.settled("kept")
    assert two.answers() == ("old", expected)


def test_a_collection_is_dropped_with_both_sets(two: World) -> None:
    begin(two)
    two.settled("kept")
    two.sidecar.drop("a")
    assert two.sidecar.database.names() == []
    assert not list((two.folder / "data").glob("a*.lance"))
    assert not list((two.folder / "data" / "indexes").glob("a*"))
    two.sidecar.create("a", None, None, {"n": "int"})
    two.add(1)
    assert two.answers() == ("old", {"r1": 1})


def test_feedback_stays_with_the_collection(two: World) -> None:
    table = two.sidecar.feedback.of(two.sidecar.collection("a"))
    begin(two)
    two.settled("kept")
    assert two.sidecar.feedback.of(two.sidecar.collection("a")) is table


def test_pictures_that_were_sent_are_embedded_for_both(two: World) -> None:
    two.new.pause_s = 0.2
    begin(two)
    sent = [Item("sent", Term("image", picture(500)), "text 500", metadata={"n": 500})]  # no source: later it would be too late
    add(two.sidecar, two.sidecar.collection("a"), sent, AddOptions())
    two.new.pause_s = 0
    two.settled("kept")
    assert two.answers()[1]["sent"] == 500


def test_a_full_disk_ends_it_with_a_reason_and_the_old_set_answers_on(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Table.append

    def full(table: Table, rows: pa.Table) -> None:
        if table.name == "a.2":
            raise StorageFull("the disk is full, nothing was added: make room; searches go on")
        real(table, rows)

    monkeypatch.setattr(Table, "append", full)
    begin(two)
    assert "the disk is full" in two.settled("failed")["reason"]
    two.add(80)
    assert two.answers() == ("old", {f"r{n}": n for n in (*range(30), 80)})
    monkeypatch.setattr(Table, "append", real)
    begin(two)
    two.settled("kept")
    assert two.answers() == ("new", {f"r{n}": n for n in (*range(30), 80)})


def test_a_failed_write_of_what_is_added_is_made_up_for(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(two)
    two.settled("kept")
    real = Table.append
    monkeypatch.setattr(Table, "append", lambda table, rows: real(table, rows) if table.name != "a" else 1 / 0)
    two.add(80)
    monkeypatch.setattr(Table, "append", real)
    assert two.sidecar.collection("a").delete(ids=["r2"]).result() == 1
    two.sidecar.seconds.back(two.sidecar.collection("a"))
    two.settled("kept")
    assert two.answers() == ("old", {f"r{n}": n for n in (*range(30), 80) if n != 2})


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_swap_that_fails_leaves_one_set_or_the_other(two: World, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    real = Table.note

    def fail(table: Table, note: dict[str, Any]) -> None:
        if '"state": "serving"' not in str(note):
            return real(table, note)
        if fault == "after":
            real(table, note)
        raise OSError("lost")

    monkeypatch.setattr(Table, "note", fail)
    begin(two)
    state = two.settled("failed", "kept")
    assert state["state"] == {"before": "failed", "after": "kept"}[fault]  # the note is read again
    assert two.answers() == ({"before": "old", "after": "new"}[fault], {f"r{n}": n for n in range(30)})
    monkeypatch.setattr(Table, "note", real)
    if fault == "before":
        begin(two)
        two.settled("kept")
    assert two.answers()[0] == "new"


def test_a_sidecar_that_only_reads_goes_over_too(two: World, tmp_path: Path) -> None:
    with world(tmp_path, read_only=True, index_folder=tmp_path / "reader") as reader:
        assert reader.answers()[0] == "old"
        begin(two)
        two.settled("kept")
        assert until(lambda: reader.sidecar.collection("a").about.space == "new")
        two.add(90)
        assert until(
            lambda: (
                len(reader.sidecar.collection("a").table) == 31 and reader.sidecar.collection("a").engines["image"].size() == 31
            )
        )
        assert reader.answers() == ("new", {f"r{n}": n for n in (*range(30), 90)})
        assert reader.sidecar.embedder_of(reader.sidecar.collection("a")) is reader.new
        with pytest.raises(ReadOnly):
            reader.sidecar.seconds.drop("a")


def test_the_routes_say_and_do_the_same(two: World) -> None:
    with TestClient(app(two.sidecar), base_url="http://127.0.0.1") as http:
        path = "/v1/collections/a/reembed"
        assert http.get(path).status_code == 404
        assert http.get("/v1/collections/a").json().keys().isdisjoint({"reembedding"})
        for body in (
            {},
            {"to": "new", "missing": 2},
            {"to": "new", "share_of_cores": 0},
            {"to": "../x"},
            {"to": "new", "x": 1},
        ):
            assert http.post(path, json=body).status_code == 400, body
        begun = http.post(path, json={"to": "new", "share_of_cores": 1.0})
        assert begun.status_code == 202, begun.text
        assert begun.json().keys() == Reembedding.__annotations__.keys()
        two.settled("kept")
        found = http.post("/v1/collections/a/search", json={"text": "text 7", "k": 1, "modality": "text"}).json()
        assert (found["hits"][0]["id"], found["space"]) == ("r7", "new")
        assert http.get("/v1/collections/a").json()["reembedding"] == http.get(path).json()
        metrics = http.get("/metrics").text
        assert 'clipserve_collection_reembedding_rows{collection="a",rows="embedded"} 30.0' in metrics
        assert 'clipserve_collection_reembedding_state{collection="a",state="kept"} 1.0' in metrics
        assert http.get(f"{path}/left-out").json() == {"rows": [], "next": None}
        assert http.post(f"{path}/back", json={}).status_code == 202
        assert until(lambda: two.sidecar.collection("a").about.space == "old")
        two.settled("kept")
        found = http.post("/v1/collections/a/search", json={"text": "text 7", "k": 1, "modality": "text"}).json()
        assert (found["hits"][0]["id"], found["space"]) == ("r7", "old")
        dropped = http.delete(path)
        assert dropped.json() == {"dropped": "a", "model": "new", "space": "new", "rows_only_there": 0}
        assert http.delete(path).status_code == 404


def test_a_second_set_has_a_name_that_no_collection_has() -> None:
    assert vector_sets.tables_of("a", ["a.10", "b", "a", "a.2", "a.b", "a.2.2"]) == ["a", "a.2", "a.10"]
    assert vector_sets.following(["a", "a.10"], "a") == "a.11"
    assert vector_sets.collection_of("a.2") == vector_sets.collection_of("a") == "a"
    with pytest.raises(InvalidInput):
        check_collection("a.2")
    note = vector_sets.SetNote("filling", "new", False, "s")
    assert vector_sets.sets_of(["a", "a.2"], note) == vector_sets.Sets("a", "a.2", note)
    serving = vector_sets.SetNote("serving", "new", False, "s")
    assert vector_sets.sets_of(["a", "a.2"], serving) == vector_sets.Sets("a.2", "a", serving)
    assert vector_sets.sets_of(["a", "a.2"], None).serving == "a"  # somebody else's table
