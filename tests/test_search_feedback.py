"""Feedback on searches: the route and its refusals, its table and its bounds, the SDK, the commands, models compared."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
from collections_on_disk import OPTIONS
from sidecars import PICTURES, SIZE, Sidecar, unit
from starlette.testclient import TestClient

from clip_client import AsyncSearch, InvalidInput, NotFound
from clip_client.feedback_answers import Answer, answers
from clip_client.feedback_calls import FeedbackEvent
from clip_client.search import Hit, Search, Term
from clip_search.cli.feedback.comparing import LEAST, compared
from clip_search.cli.feedback.export import COLUMNS
from clip_search.cli.parser import main
from clip_search.collection import Collection
from clip_search.errors import Conflict, ReadOnly, Unavailable
from clip_search.feedback import Feedback, Sent, add
from clip_search.options import Options
from clip_search.sidecar import Sidecar as InProcess
from clip_search.storage import feedback_table
from clip_search.storage.database import Database
from clip_search.storage.feedback_table import FeedbackTable
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import About
from clip_search.web.app import app

ROUTE = "/v1/collections/photos/feedback"
EVENT = {"text": "a cat", "shown": ["p3", "p1", "p7"], "chosen": "p1"}


def sent(sidecar: Sidecar, **changes: Any) -> tuple[int, Any]:
    return sidecar.ask("POST", ROUTE, {name: value for name, value in (EVENT | changes).items() if value is not None})


# the route


def test_feedback_is_kept_as_it_was_sent_with_the_servers_time(sidecar: Sidecar, search: Search, photos: str) -> None:
    start = datetime.datetime.now(datetime.timezone.utc)
    status, kept = sent(sidecar, query_id="q-1", kind="right", client="someone", model="0123abcd", space="s")
    assert (status, kept) == (201, {"query_id": "q-1", "number": 0})
    (event,) = search.kept_feedback(photos)
    assert (
        start
        <= event.time + datetime.timedelta(seconds=1)
        <= datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    )
    assert (event.query, event.text) == ([{"text": "a cat", "weight": 1.0}], "a cat")
    assert (event.shown, event.position, event.kind) == (["p3", "p1", "p7"], 1, "right")
    assert (event.model, event.space) == ("0123abcd", "s")
    assert event.client
    assert "someone" not in event.client
    assert len(event.client) == 32


def test_the_same_client_has_the_same_hash_only_in_one_collection(sidecar: Sidecar, search: Search, photos: str) -> None:
    hashes = []
    for _ in range(2):
        sent(sidecar, client="one")
        sent(sidecar, client="two")
        sent(sidecar, client="one")
        one, two, again = (event.client for event in search.kept_feedback(photos))
        assert one == again != two
        hashes.append(one)
        assert search.delete_feedback(photos) == 3
    assert hashes[0] != hashes[1]  # all was deleted, the salt too


def test_of_pictures_and_vectors_only_digests_are_kept(sidecar: Sidecar, search: Search, photos: str) -> None:
    picture = base64.b64encode(PICTURES[0]).decode()
    vector = [1.0, 2.0]
    minus = [{"image_url": "http://x/private?key=1", "weight": 2.0}, {"id": "p2"}]
    assert sent(sidecar, text=None, mix=[{"image": picture}, {"vector": vector}], minus=minus)[0] == 201
    (event,) = search.kept_feedback(photos)
    contents = (PICTURES[0], np.array(vector, "<f4").tobytes(), b"http://x/private?key=1")
    digests = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents]
    weights = (1.0, 1.0, -2.0)
    expected = [{"digest": digest, "weight": weight} for digest, weight in zip(digests, weights, strict=True)]
    assert event.query == [*expected, {"id": "p2", "weight": -1.0}]
    assert event.text is None


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"chosen": "p2"}, 400, "chosen is 'p2': expected one of the 3 ids in shown"),
        ({"shown": ["p3", "p1", "p3"]}, 400, "shown has 'p3' at 0 and at 2: expected each row once"),
        ({"shown": ["p3", "p1", "never"]}, 404, "shown has 'never', no row of collection photos"),
        ({"shown": ["a", "b", "p1"]}, 404, "shown has 'a' and 1 more, no row"),
        ({"text": None, "id": "never"}, 404, "id has 'never', no row"),
        ({"shown": []}, 400, "shown: List should have at least 1 item"),
        ({"shown": [f"p{n}" for n in range(1001)]}, 413, "shown is 1,001: expected at most 1,000"),
        ({"shown": [3]}, 400, "shown.0: Input should be a valid string, got '3'"),
        ({"shown": "p1"}, 400, "shown: Input should be a valid array, got 'p1'"),
        ({"shown": ["p1", ""]}, 400, "id is ''"),
        ({"chosen": 1}, 400, "chosen: Input should be a valid string"),
        ({"chosen": None}, 400, "chosen: Field required"),
        ({"kind": "like"}, 400, "kind: Input should be 'click', 'right' or 'wrong', got 'like'"),
        ({"text": None}, 400, "nothing was looked for"),
        ({"query_id": "a b"}, 400, "query_id"),
        ({"model": "x" * 65}, 400, "model"),
        ({"client": ""}, 400, "client"),
        ({"digest": "md5:1"}, 400, "digest"),
        ({"time": "now"}, 400, "time: Extra inputs are not permitted"),
        ({"text": "\udc00"}, 400, "lone leading surrogate"),
        ({"text": "x" * 131_072, "mix": [{"text": "y" * 131_072}]}, 413, "expected at most 262,144; send fewer as shown"),
    ],
)
def test_what_can_not_be_true_is_refused_by_name(
    sidecar: Sidecar, search: Search, photos: str, changes: dict[str, Any], status: int, reason: str
) -> None:
    got, answer = sent(sidecar, **changes)
    assert (got, reason in answer["message"]) == (status, True), answer
    assert search.feedback_books(photos).events == 0


def test_an_unknown_collection_is_named(sidecar: Sidecar, search: Search) -> None:
    for method in ("POST", "GET", "DELETE"):
        status, answer = sidecar.ask(method, "/v1/collections/none/feedback", EVENT if method == "POST" else None)
        assert (status, "no collection none" in answer["message"]) == (404, True)


def test_it_is_listed_page_by_page_and_the_books_balance(sidecar: Sidecar, search: Search, photos: str) -> None:
    for n in range(7):
        sent(sidecar, query_id=f"q{n}")
    first = sidecar.ask("GET", f"{ROUTE}?limit=4")[1]
    second = sidecar.ask("GET", f"{ROUTE}?limit=4&after={first['next']}")[1]
    assert [event["query_id"] for page in (first, second) for event in page["feedback"]] == [f"q{n}" for n in range(7)]
    assert second["next"] is None
    assert search.delete_feedback(photos, before=search_time(search, photos, 3)) == 3
    books = search.feedback_books(photos)
    assert books.taken == 7 == books.events + books.made_room + books.deleted
    assert [event.query_id for event in search.kept_feedback(photos)] == [f"q{n}" for n in range(3, 7)]
    for wrong in ("limit=0", "limit=1001", "after=-2", "limit=x"):
        assert sidecar.ask("GET", f"{ROUTE}?{wrong}")[0] == 400
    assert sidecar.ask("DELETE", f"{ROUTE}?before=yesterday")[0] == 400


def search_time(search: Search, collection: str, number: int) -> datetime.datetime:
    """The time of an event that came later than those before it."""
    times = [event.time for event in search.kept_feedback(collection)]
    return times[number]


def test_the_metrics_count_it(sidecar: Sidecar, photos: str) -> None:
    def number(line: str) -> float:
        text = sidecar.ask("GET", "/metrics")[1].decode()
        return next((float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line)), 0.0)

    names = [f'clipserve_feedback_total{{kind="{kind}"}}' for kind in ("click", "wrong", "refused")]
    before = [number(name) for name in names]
    sent(sidecar)
    sent(sidecar, kind="wrong")
    sent(sidecar, chosen="p2")
    assert [number(name) for name in names] == [count + 1 for count in before]
    assert number('clipserve_feedback_events{collection="photos"}') == 2


# the SDK


def test_the_sdk_tells_a_hit_and_sends_no_picture(search: Search, photos: str) -> None:
    hits = search.query(photos, [Term(image=PICTURES[0]), Term(text="red")], k=5)
    query_id = search.feedback(photos, [Term(image=PICTURES[0]), Term(text="red")], hits, hits[2], client="me")
    assert search.feedback(photos, "red", [hit.id for hit in hits], hits[0].id, kind="wrong", query_id=query_id) == query_id
    first, second = search.kept_feedback(photos)
    assert first.query[0] == {"digest": f"sha256:{hashlib.sha256(PICTURES[0]).hexdigest()}", "weight": 1.0}
    assert (first.shown, first.position, first.kind) == ([hit.id for hit in hits], 2, "click")
    assert (second.position, second.kind, second.client) == (0, "wrong", None)
    (about,) = search.collections()
    assert first.model == about["fingerprint"] != ""


def test_the_sdk_refuses_by_name(search: Search, photos: str) -> None:
    hit = Hit("p1", 1, 0.5, None, None, {})
    for shown, chosen, reason in (
        ("p1", "p1", "shown is a str: expected a list of hits"),
        ([hit, 3], hit, r"shown\[1\] is an int: expected a hit"),
        ([hit], None, "chosen is None: expected a hit"),
    ):
        with pytest.raises(InvalidInput, match=reason):
            search.feedback(photos, "a cat", shown, chosen)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="expected one of the 1 ids"):
        search.feedback(photos, "a cat", [hit], "p2")
    with pytest.raises(NotFound, match="no collection none"):
        search.feedback("none", "a cat", [hit], hit)


def test_the_sdk_for_event_loops_does_the_same(sidecar: Sidecar, search: Search, photos: str) -> None:
    async def told() -> None:
        async with AsyncSearch(sidecar.url) as loop:
            await loop.feedback(photos, "a cat", ["p1", "p2"], "p2")
            assert [event.position async for event in loop.kept_feedback(photos)] == [1]
            assert (await loop.feedback_books(photos)).events == 1
            assert await loop.delete_feedback(photos) == 1

    asyncio.run(told())


# the table


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "data"), tmp_path / "indexes")
    yield database
    database.close()


@pytest.fixture
def collection(database: Database, tmp_path: Path) -> Iterator[Collection]:
    table = database.create("c", About(SIZE, "abc"), {})
    collection = Collection("c", table, tmp_path / "indexes" / "c", OPTIONS, lambda count, **_: (unit(0), "texts"))
    vectors = unit(20)
    collection.add([NewRow(f"r{n}", {"image": vectors[n]}) for n in range(20)], on_conflict="error", fingerprint="").result()
    yield collection
    collection.close()


def click(table: FeedbackTable, collection: Collection, n: int = 0, **values: Any) -> tuple[str, int]:
    shown = [f"r{number}" for number in range(20)]
    return add(table, collection, Sent([("text", "a cat", 1.0)], shown, f"r{n}", "click", **values))


def test_it_is_there_after_a_restart_and_goes_with_the_collection(
    database: Database, collection: Collection, tmp_path: Path
) -> None:
    feedback = Feedback(database)
    click(feedback.of(collection), collection, 3, client="me")
    click(Feedback(database).of(collection), collection, 4, client="me")
    again = Feedback(database).of(collection)
    one, two = again.page(-1, 10)
    assert (one["number"], one["position"], two["number"], two["position"]) == (0, 3, 1, 4)
    assert one["client"] == two["client"]
    assert one["model"] == "abc"
    assert database.names() == ["c"]  # no collection of its own
    feedback.drop("c")
    assert not list((tmp_path / "data" / ".clipserve-feedback").iterdir())


def test_feedback_on_an_earlier_collection_of_the_name_counts_as_none(database: Database, collection: Collection) -> None:
    click(database.feedback("c", "another table"), collection)
    mine = Feedback(database).of(collection)
    assert mine.books()["events"] == 0
    assert mine.page(-1, 10) == []
    click(mine, collection, 5)
    assert [event["position"] for event in Feedback(database).of(collection).page(-1, 10)] == [5]


def test_the_oldest_make_room_by_number_and_by_size(
    database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback_table, "MOST_EVENTS", 30)
    table = Feedback(database).of(collection)
    for n in range(64):
        click(table, collection, n % 20)
        books = table.books()
        assert books["events"] <= 30
        assert books["taken"] == n + 1 == books["events"] + books["made_room"]
    assert [event["number"] for event in table.page(-1, 100)] == list(range(64 - books["events"], 64))
    monkeypatch.setattr(feedback_table, "MOST_BYTES", books["bytes"] // 2)
    click(table, collection)
    books = table.books()
    assert books["bytes"] <= feedback_table.MOST_BYTES
    assert books["taken"] == 65 == books["events"] + books["made_room"]
    assert Feedback(database).of(collection).books()["events"] == books["events"]


def test_nothing_of_what_was_deleted_stays_on_the_disk(database: Database, collection: Collection, tmp_path: Path) -> None:
    table = Feedback(database).of(collection)
    click(table, collection, query_id="secret-of-the-first")
    middle = table.page(-1, 1)[0]["time"] + datetime.timedelta(milliseconds=1)
    while click(table, collection, query_id="kept-as-it-came") and table.page(-1, 100)[-1]["time"] < middle:
        pass

    def on_disk(word: bytes) -> bool:
        folder = tmp_path / "data" / ".clipserve-feedback"
        return any(word in file.read_bytes() for file in folder.rglob("*") if file.is_file())

    assert on_disk(b"secret-of-the-first")
    assert table.delete(middle) >= 1
    assert not on_disk(b"secret-of-the-first")
    assert on_disk(b"kept-as-it-came")
    for never in (datetime.datetime.min, datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=14)))):
        assert table.delete(never) == 0
    table.delete()
    assert not on_disk(b"kept-as-it-came")


def test_many_at_once_are_each_kept_once(database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_table, "_COMMITS", 7)
    table = Feedback(database).of(collection)
    numbers: list[int] = []

    def clicks() -> None:
        numbers.extend(click(table, collection, n)[1] for n in range(10))

    threads = [threading.Thread(target=clicks) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(80)) == [event["number"] for event in table.page(-1, 100)]


def test_a_failed_write_is_told_and_the_next_one_goes_on(database: Database, collection: Collection) -> None:
    table = Feedback(database).of(collection)
    click(table, collection)

    def full(rows: Any) -> None:
        raise OSError("No space left on device")

    table._table.add, add_again = full, table._table.add
    with pytest.raises(Unavailable, match="the disk is full"):
        click(table, collection)
    table._table = None
    assert add_again
    assert click(table, collection)[1] == 1
    assert table.books() | {"bytes": 0} == {"events": 2, "bytes": 0, "taken": 2, "made_room": 0, "deleted": 0}


def test_a_lost_lease_and_a_dropped_collection_take_none(database: Database, collection: Collection) -> None:
    def lost() -> None:
        raise Conflict("another sidecar has the database")

    table = FeedbackTable("c", collection.table.identity, database._feedback, lost)
    with pytest.raises(Conflict, match="another sidecar"):
        click(table, collection)
    table = Feedback(database).of(collection)
    click(table, collection)
    table.drop()
    with pytest.raises(NotFound, match="collection c was dropped"):
        click(table, collection)


# a sidecar that only reads, and one without


def served(options: Options) -> Iterator[tuple[InProcess, TestClient]]:
    sidecar = InProcess(options)
    sidecar.open_all()
    yield sidecar, TestClient(app(sidecar), base_url="http://127.0.0.1")
    sidecar.close()


def test_a_reader_shows_feedback_and_refuses_more(database: Database, collection: Collection, tmp_path: Path) -> None:
    click(Feedback(database).of(collection), collection, 2)
    options = Options(str(tmp_path / "data"), tmp_path / "reader", "127.0.0.1:1", read_only=True)
    for sidecar, client in served(options):
        route, event = "/v1/collections/c/feedback", {"text": "a", "shown": ["r1"], "chosen": "r1"}
        assert client.get("/v1/collections").json()["feedback"] is False
        assert client.post(route, json=event).status_code == 403
        assert client.delete(route).status_code == 403
        assert client.get(route).json()["events"] == 1
        click(Feedback(database).of(collection), collection, 4)
        assert [event["position"] for event in client.get(route).json()["feedback"]] == [2, 4]
        with pytest.raises(ReadOnly):
            sidecar.feedback.of(sidecar.collection("c")).delete()


def test_without_feedback_the_route_says_so_and_lists_what_there_is(tmp_path: Path) -> None:
    for sidecar, client in served(Options(str(tmp_path / "data"), triton="127.0.0.1:1", feedback=False)):
        sidecar.create("c", SIZE, "abc", {})
        route = "/v1/collections/c/feedback"
        assert client.get("/v1/collections").json()["feedback"] is False
        answer = client.post(route, json={"text": "a", "shown": ["r1"], "chosen": "r1"})
        assert (answer.status_code, "--no-feedback" in answer.json()["message"]) == (403, True)
        assert client.get(route).json()["feedback"] == []
        assert client.delete(route).json() == {"deleted": 0}
        assert not (tmp_path / "data" / ".clipserve-feedback").exists()


# the commands


@pytest.fixture
def command(sidecar: Sidecar, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    def run(verb: str, *arguments: object, status: int = 0) -> tuple[str, str]:
        assert main([verb, "--url", sidecar.url, *map(str, arguments)]) == status
        told = capsys.readouterr()
        return told.out, told.err

    return run


def test_the_command_shows_exports_and_deletes(
    command: Callable[..., tuple[str, str]], search: Search, photos: str, tmp_path: Path
) -> None:
    where = ("--collection", photos)
    assert "there is no feedback yet" in command("feedback", *where)[1]
    shown = ["p4", "p2", "p9", "p0"]
    query_id = search.feedback(photos, "a cat", shown[:3], "p2", client="me")
    search.feedback(photos, "a cat", shown, "p0", kind="right", query_id=query_id, client="me")
    search.feedback(photos, "a cat", shown[:3], "p2", query_id=query_id, client="me")
    search.feedback(photos, "a cat", shown[:3], "p4", kind="wrong", query_id=query_id, client="me")
    search.feedback(photos, [Term(id="p1"), Term(text="red")], shown, "p9")
    search.delete(photos, ["p9"])
    out, err = command("feedback", *where)
    assert out.splitlines()[1].split("\t")[1:6] == ["a cat", "4", "2, 4", "4", "1"]
    assert "like p1, red" in out
    assert "5 events on 2 answers: 3 clicks, 1 right, 1 wrong" in err
    listed = json.loads(command("feedback", *where, "--json", "--limit", 1)[0])
    assert [answer["text"] for answer in listed["answers"]] == [None]
    assert listed["events"] == 5
    file = tmp_path / "clicks.parquet"
    assert f"5 events = 2 answers in {file}" in command("feedback", *where, "--export", file)[0]
    table = pq.read_table(file)
    assert table.schema.equals(COLUMNS)
    one, two = table.to_pylist()
    assert (one["query_id"], one["text"], json.loads(one["query"])) == (query_id, "a cat", [{"text": "a cat", "weight": 1.0}])
    assert (one["shown"], one["sources"]) == (shown, ["s4", "s2", None, "s0"])
    assert (one["chosen"], one["marked_right"], one["marked_wrong"]) == ([1, 3], [3], [0])
    assert (two["chosen"], two["text"], two["client"]) == ([2], None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["clicks.parquet"]
    assert "no terminal is there: pass --yes" in command("feedback", *where, "--delete", status=1)[1]
    assert "0 events deleted" in command("feedback", *where, "--delete", "--before", "2020-01-01", "--yes")[0]
    assert "5 events deleted" in command("feedback", *where, "--delete", "--yes")[0]
    assert search.feedback_books(photos).events == 0


def test_the_command_refuses_what_makes_no_sense(command: Callable[..., tuple[str, str]], photos: str, tmp_path: Path) -> None:
    where = ("--collection", photos)
    assert "--before goes with --delete" in command("feedback", *where, "--before", "2026-01-01", status=1)[1]
    with pytest.raises(SystemExit):
        command("feedback", *where, "--delete", "--before", "yesterday")
    gone = tmp_path / "none" / "x.parquet"
    assert "can't be written" in command("feedback", *where, "--export", gone, status=1)[1]
    assert "can't be written" in command("feedback", *where, "--export", tmp_path, status=1)[1]
    assert not list(tmp_path.iterdir())


def test_models_are_compared_by_the_command(command: Callable[..., tuple[str, str]], sidecar: Sidecar, photos: str) -> None:
    assert "nothing can be compared" in command("compare-models", photos)[1]
    for n in range(2 * LEAST):
        model, chosen = ("aaaa", "p3") if n % 2 else ("bbbb", "p7")
        assert sent(sidecar, model=model, chosen=chosen, client=f"c{n}")[0] == 201
    out, _ = command("compare-models", photos)
    assert "aaaa\t20\t20\t1.000 (1.000 to 1.000)\t1.000 (1.000 to 1.000)\t0.000 (0.000 to 0.000)" in out
    assert "bbbb against aaaa, reciprocal rank: -0.667 (-0.667 to -0.667), lower" in out
    assert "bbbb against aaaa, clicks: +0.000 (+0.000 to +0.000), within noise" in out
    told = json.loads(command("compare-models", photos, "--to", "bb", "--json")[0])
    assert [model["model"] for model in told["models"]] == ["bbbb", "aaaa"]
    assert told["differences"][1]["verdict"] == "higher"
    assert (
        "--to cc: 0 models with feedback begin so, expected one of aaaa, bbbb"
        in command("compare-models", photos, "--to", "cc", status=1)[1]
    )


# answers and models


def event(number: int, position: int, **values: Any) -> FeedbackEvent:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    query = [{"text": "a cat", "weight": 1.0}]
    usual: dict[str, Any] = {"query_id": f"q{number}", "shown": ["a", "b", "c", "d"], "kind": "click", "client": None}
    usual |= {"model": "m", "space": "s"} | values
    return FeedbackEvent(number=number, time=now, query=query, text="a cat", position=position, **usual)


def test_events_of_another_list_or_model_are_another_answer() -> None:
    same = {"query_id": "q"}
    events = [
        event(0, 1, **same),
        event(1, 0, **same, shown=["a", "b"]),
        event(2, 0, **same, shown=["b", "a"]),
        event(3, 1, **same, model="n"),
        event(4, 1, **same, kind="wrong"),
    ]
    assert [(answer.first.number, answer.chosen, answer.marked_wrong) for answer in answers(events)] == [
        (0, [1, 0], [1]),
        (2, [0], []),
        (3, [1], []),
    ]


def made(positions: Any, model: str, clients: Any = None) -> list[Answer]:
    names = [None] * len(positions) if clients is None else [f"c{n}" for n in clients]
    return answers(
        event(n, int(position), query_id=f"{model}{n}", model=model, client=name)
        for n, (position, name) in enumerate(zip(positions, names, strict=True))
    )


def test_the_interval_is_scipys() -> None:
    positions = np.random.default_rng(3).integers(0, 4, 200)
    (model,), _ = compared(made(positions, "m"))
    estimate = model.measures["reciprocal_rank"]
    theirs = scipy.stats.bootstrap((1 / (1 + positions),), np.mean, method="percentile", n_resamples=5000, rng=0)
    assert estimate.mean == pytest.approx(np.mean(1 / (1 + positions)))
    assert [estimate.low, estimate.high] == pytest.approx(theirs.confidence_interval, abs=0.006)


def test_answers_of_one_client_are_drawn_together() -> None:
    positions = np.repeat(np.random.default_rng(3).integers(0, 4, 40), 10)  # each client does the same ten times
    (alone,), _ = compared(made(positions, "m"))
    (together,), _ = compared(made(positions, "m", np.repeat(np.arange(40), 10)))
    widths = [model.measures["reciprocal_rank"].high - model.measures["reciprocal_rank"].low for model in (alone, together)]  # type: ignore[operator]
    assert widths[1] > 2.5 * widths[0]  # by the root of ten
    assert (alone.clients, together.clients) == (400, 40)


def test_a_difference_within_noise_is_not_called_one() -> None:
    random = np.random.default_rng(0)
    verdicts = []
    for _ in range(40):
        one, two = random.integers(0, 4, (2, 60))
        _, differences = compared([*made(one, "a"), *made(two, "b")])
        verdicts.append(next(each.verdict for each in differences if each.measure == "reciprocal_rank"))
    assert verdicts.count("within noise") >= 35  # 95 % of them
    _, differences = compared([*made(random.integers(0, 2, 60), "a"), *made(random.integers(1, 4, 59), "b")])
    assert next(each.verdict for each in differences if each.measure == "reciprocal_rank") == "lower"


def test_too_little_feedback_is_said_to_be_too_little() -> None:
    _, differences = compared([*made([0] * (LEAST - 1), "a"), *made([1] * 100, "b")])
    assert {each.verdict for each in differences} == {"too little"}
    _, differences = compared([*made([0] * 100, "a", [1] * 100), *made([1] * 100, "b")])
    assert {each.verdict for each in differences} == {"too little"}  # a hundred answers of one client
