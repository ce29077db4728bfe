"""Routes that a page needs beside searches: rows in other orders, hits by a column, counts, facets, near duplicates."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sidecars
from servers import free_ports
from sidecars import PICTURES, Sidecar, unit

from clip_client import InvalidInput, NotFound
from clip_client.search import Row, Search, Term
from clip_search.index.duplicates import joined, neighbours

SIZE = 16
ROWS = "/v1/collections/many"


def ids(rows: list[Any]) -> list[str]:
    return [row["id"] if isinstance(row, dict) else row.id for row in rows]


def made(search: Search, rows: list[Row], **columns: str) -> None:
    search.create("many", dimension=SIZE, fingerprint="", columns=columns)
    assert search.add("many", rows).added == len(rows)


def turned(degrees: float) -> list[float]:
    """A direction in the plane of the first two axes."""
    vector = np.zeros(SIZE)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return list(vector)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    """A sidecar without a Triton, which searches on the disk."""
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    with (
        sidecars.running(tmp_path_factory.mktemp("bare"), nowhere, "--engine", "lancedb") as sidecar,
        sidecar.client() as search,
    ):
        yield search


# the model


def test_statistics_have_the_served_model_and_its_notice_where_the_vectors_are_of_it(
    sidecar: Sidecar, search: Search, photos: str
) -> None:
    search.create("other", dimension=SIZE, fingerprint="another")
    (model,) = sidecar.ask("GET", "/v1/models")[1]["data"]
    assert model["notice"] == "Made for tests."
    told = {stats["name"]: (stats["model"], stats["notice"]) for stats in search.collections()}
    assert told == {photos: (model["id"], "Made for tests."), "other": (model["id"], "")}
    assert search.stats(photos)["notice"] == "Made for tests."
    assert search.rebuild(photos, wait=True)["notice"] == "Made for tests."


def test_without_a_model_statistics_come_at_once(bare: Search) -> None:
    bare.create("alone", dimension=SIZE, fingerprint="")
    assert (bare.stats("alone")["model"], bare.stats("alone")["notice"]) == ("", "")


# rows


def test_rows_come_by_number_by_time_or_at_random(search: Search) -> None:
    vectors = unit(30, SIZE)
    made(search, [Row(id=f"r{n}", vector=vectors[n], metadata={"n": n}) for n in range(20)])
    search.add("many", [Row(id=f"r{n}", vector=vectors[n], metadata={"n": n}) for n in range(20, 30)])
    search.add("many", [Row(id="r3", vector=vectors[3], metadata={"n": 3})], on_conflict="replace")
    newest = ["r3", *(f"r{n}" for n in range(29, -1, -1) if n != 3)]
    assert ids(list(search.rows("many", order="newest"))) == newest
    assert ids(list(search.rows("many", order="newest", page=7))) == newest[:7]
    assert ids(list(search.rows("many", order="newest", where="n < 5"))) == ["r3", "r4", "r2", "r1", "r0"]
    search.delete("many", ["r3", *(f"r{n}" for n in range(15, 29))])
    assert ids(list(search.rows("many", order="newest", page=3))) == ["r29", "r14", "r13"]
    whole = ids(list(search.rows("many", order="random", seed=1)))
    assert sorted(whole) == sorted(ids(list(search.rows("many"))))
    assert whole != ids(list(search.rows("many")))
    assert ids(list(search.rows("many", order="random", seed=1, page=4))) == whole[:4]
    assert ids(list(search.rows("many", order="random", seed=2))) != whole
    search.delete("many", [whole[1]])
    assert ids(list(search.rows("many", order="random", seed=1, page=3))) == [whole[0], whole[2], whole[3]]
    assert set(ids(list(search.rows("many", order="random", where="n < 5")))) == {"r0", "r1", "r2", "r4"} - {whole[1]}


def test_rows_of_an_empty_collection_and_of_one_whose_rows_are_gone(search: Search) -> None:
    made(search, [Row(id="a", vector=unit(1, SIZE)[0])])
    search.delete("many", ["a"])
    for order in ("number", "newest", "random"):
        assert list(search.rows("many", order=order)) == []  # type: ignore[arg-type]
    assert search.facets("many") == {"rows": 0, "facets": {}}
    assert search.duplicates("many").groups == []


def test_rows_say_where_their_thumbnail_is(sidecar: Sidecar, search: Search, photos: str) -> None:
    search.add(photos, [Row(id="text", text="a cat")])
    rows = {row["id"]: row for row in search.rows(photos)}
    assert rows["p1"]["thumbnail"] == f"/v1/collections/photos/thumbnails/{rows['p1']['row']}"
    assert sidecar.ask("GET", rows["p1"]["thumbnail"])[0] == 200
    assert rows["text"]["thumbnail"] is None
    assert search.get(photos, ["p1"])[0]["thumbnail"] == rows["p1"]["thumbnail"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("order=newest&after=3", "after is 3, order is newest"),
        ("order=none", "order: .*'number'"),
        ("order=random&seed=-1", "seed"),
        ("order=random&seed=99999999999999999999", "seed"),
        ("order=newest&limit=0", "limit is 0"),
        ("order=newest&filter=nope%20%3D%201", "No field named nope"),
    ],
)
def test_orders_that_are_none(sidecar: Sidecar, search: Search, photos: str, query: str, message: str) -> None:
    status, answer = sidecar.ask("GET", f"/v1/collections/photos/rows?{query}")
    assert status == 400
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(answer["message"])


# searches


def test_hits_are_sorted_by_a_column_with_gaps_and_of_any_kind(search: Search) -> None:
    values: list[Any] = [3, None, 1.5, 3, None, -2, 10]
    rows = [Row(id=f"r{n}", vector=turned(10 * n), metadata={} if v is None else {"v": v}) for n, v in enumerate(values)]
    made(search, rows, day="date", price="decimal(9,2)", tags="list<string>")
    search.add("many", [Row(id="late", vector=turned(80), metadata={"word": "b", "day": "2024-05-01", "price": "2.50"})])
    search.add("many", [Row(id="later", vector=turned(85), metadata={"word": "a", "day": "2023-05-01", "price": "12"})])
    near = Term(vector=turned(0))
    assert ids(search.query("many", near, k=20, sort="v")) == ["r5", "r2", "r0", "r3", "r6", "r1", "r4", "late", "later"]
    down = ["r6", "r0", "r3", "r2", "r5", "r1", "r4", "late", "later"]
    assert ids(search.query("many", near, k=20, sort="v", descending=True)) == down
    assert ids(search.query("many", near, k=3, offset=2, sort="v", descending=True)) == down[2:5]
    passing = search.query("many", near, k=20, sort="v", descending=True, threshold=0.75)
    assert ids(passing) == ["r0", "r3", "r2", "r1", "r4"]
    for column, first in (
        ("word", "later"),
        ("day", "later"),
        ("price", "late"),
        ("id", "late"),
        ("time", "r0"),
        ("row", "r0"),
    ):
        assert ids(search.query("many", near, k=1, sort=column)) == [first], column
    for column, message in (
        ("tags", "holds lists"),
        ("nope", "No field named nope. Valid fields are .*v.*leave sort out"),
        ("vector_image", "No field named vector_image"),
        ("wort", "did you mean word"),
    ):
        with pytest.raises(InvalidInput, match=message):
            search.query("many", near, sort=column)


def test_sorted_hits_are_the_ten_thousand_nearest_however_the_index_searches(search: Search) -> None:
    vectors = unit(10_500, SIZE)
    search.create("many", dimension=SIZE, fingerprint="")
    for start in range(0, len(vectors), 5_250):
        numbers = range(start, start + 5_250)
        search.add("many", [Row(id=str(n), vector=vectors[n], metadata={"n": n}) for n in numbers])
    search.rebuild("many", wait=True)
    assert search.stats("many")["indexes"]["image"]["parts"][0]["kind"] == "ivf"
    scores = vectors @ vectors[7]
    nearest = np.argsort(-scores)[:10_001]
    first = ids(search.query("many", Term(vector=vectors[7]), k=100, sort="n"))
    assert first == [str(n) for n in np.sort(nearest)[:100]] or first == [str(n) for n in np.sort(nearest[:-1])[:100]]
    for threshold in (0.5, 0.2, -0.1):
        count = search.count("many", Term(vector=vectors[7]), threshold=threshold)
        assert count.rows == pytest.approx(int((scores >= threshold).sum()), abs=2)  # half-precision vectors
        assert not count.more
    for threshold in (-1.0, None):
        count = search.count("many", Term(vector=vectors[7]), threshold=threshold)
        assert (count.rows, count.more) == (10_000, True)
    count = search.count("many", Term(vector=vectors[7]), where="n < 4000", threshold=0.2)
    assert count.rows == pytest.approx(int((scores[:4000] >= 0.2).sum()), abs=2)


def test_counts_are_exact_without_the_rows_that_are_asked_by(search: Search) -> None:
    made(search, [Row(id=f"r{n}", vector=turned(n), metadata={"n": n}) for n in range(60)])
    asked = Term(vector=turned(0))
    assert vars(search.count("many", asked, threshold=float(np.cos(np.radians(30.5))))) == {"rows": 31, "more": False}
    assert search.count("many", asked).rows == 60
    assert search.count("many", asked, where="n >= 10").rows == 50
    assert search.count("many", Term(id="r0")).rows == 59
    assert search.count("many", Term(id="r0"), where="n < 10", threshold=float(np.cos(np.radians(5.5)))).rows == 5
    search.delete("many", ["r1"])
    assert search.count("many", asked).rows == 59
    assert search.count("many", asked, modality="text").rows == 0
    with pytest.raises(InvalidInput, match=r"No field named nope\. Valid fields are n, id, row"):
        search.count("many", asked, where="nope = 1")


def test_an_answer_says_what_took_its_time_and_knows_nothing_that_was_not_asked(sidecar: Sidecar, search: Search) -> None:
    made(search, [Row(id=f"r{n}", vector=turned(n)) for n in range(3)])
    status, answer = sidecar.ask("POST", f"{ROWS}/search", {"vector": turned(0), "deduplicate": 0.9999})
    assert (status, sorted(answer)) == (200, ["hits", "milliseconds", "model", "space", "took_ms"])
    times = answer["milliseconds"]
    assert sorted(times) == ["embed", "search", "total"]
    assert 0 <= times["embed"] + times["search"] <= times["total"] + 0.01
    assert all("same" not in hit for hit in answer["hits"])


def test_a_hit_names_the_near_duplicates_that_it_stands_for(search: Search) -> None:
    made(search, [Row(id=f"a{n}", vector=turned(n / 2), metadata={"n": n}) for n in range(30)])
    search.add("many", [Row(id="b", vector=turned(70))])
    first, other = search.query("many", Term(vector=turned(0)), k=20, deduplicate=True)
    assert (first.id, list(first.same)) == ("a0", [f"a{n}" for n in range(1, 21)])
    assert (other.id, list(other.same)) == ("b", [])
    (hit, _) = search.query("many", Term(vector=turned(0)), k=20, deduplicate=True, sort="n", descending=True)
    assert hit.id == "a0"


# facets


def test_facets_are_built_from_the_columns(search: Search) -> None:
    columns = {"tags": "list<string>", "day": "date", "at": "timestamp", "price": "decimal(9,2)", "raw": "binary"}
    rows = [
        Row(
            id=f"r{n}",
            vector=turned(n),
            metadata={
                "genre": ["jazz", "rock", "jazz", "<b>folk</b>"][n % 4],
                "good": n % 4 == 0,
                "year": 2000 + n,
                "score": n / 2,
                "tags": ["a", "a", "b"] if n % 2 else ["b"],
                "day": f"2024-05-{n + 1:02d}",
                "at": f"2024-05-01T00:00:{n:02d}Z",
                "price": f"{n}.25",
                "raw": "AAAA",
            },
        )
        for n in range(8)
    ]
    made(search, [*rows, Row(id="bare", vector=turned(9))], **columns)
    answer = search.facets("many")
    assert answer["rows"] == 9
    facets = answer["facets"]
    assert facets["genre"] == {
        "kind": "string", "missing": 1, "more": False,
        "values": [{"value": "jazz", "rows": 4}, {"value": "rock", "rows": 2}, {"value": "<b>folk</b>", "rows": 2}],
    }  # fmt: skip
    assert facets["good"]["values"] == [{"value": False, "rows": 6}, {"value": True, "rows": 2}]
    assert facets["year"] == {"kind": "int", "missing": 1, "min": 2000, "max": 2007}
    assert facets["score"] == {"kind": "float", "missing": 1, "min": 0, "max": 3.5}
    assert facets["tags"]["values"] == [{"value": "b", "rows": 8}, {"value": "a", "rows": 4}]
    assert facets["day"] == {"kind": "date", "missing": 1, "min": "2024-05-01", "max": "2024-05-08"}
    assert (facets["price"]["min"], facets["price"]["max"]) == ("0.25", "7.25")
    assert facets["raw"] == {"kind": "binary", "missing": 1}
    assert datetime.datetime.fromisoformat(facets["at"]["max"].replace("Z", "+00:00")).second == 7
    some = search.facets("many", where="year < 2002", columns=["year", "genre"])
    assert (some["rows"], list(some["facets"])) == (2, ["year", "genre"])
    assert some["facets"]["year"] == {"kind": "int", "missing": 0, "min": 2000, "max": 2001}
    nothing = search.facets("many", where="year < 0", columns=["year", "genre", "time"])
    assert nothing["facets"]["year"] == {"kind": "int", "missing": 0, "min": None, "max": None}
    assert nothing["facets"]["genre"]["values"] == []


def test_facets_of_lists_count_rows_and_know_empty_ones(search: Search) -> None:
    kinds = {"flags": "list<bool>", "marks": "list<int>", "parts": "list<float>"}
    lists: list[Any] = [
        {"flags": [True, True, None], "marks": [3, None, 7]},
        {"flags": [], "marks": []},
        {"flags": [False, True]},
    ]
    made(search, [Row(id=f"r{n}", vector=turned(n), metadata=values) for n, values in enumerate(lists)], **kinds)
    facets = search.facets("many")["facets"]
    assert facets["flags"]["values"] == [{"value": True, "rows": 2}, {"value": False, "rows": 1}]
    assert facets["flags"]["missing"] == 0
    assert facets["marks"] == {"kind": "list<int>", "missing": 1, "min": 3, "max": 7}
    assert facets["parts"] == {"kind": "list<float>", "missing": 3, "min": None, "max": None}


def test_facets_of_columns_that_came_late_or_were_widened_or_are_long(search: Search) -> None:
    made(search, [Row(id=f"r{n}", vector=turned(n), metadata={"n": n, "long": f"{n} " + "x" * 300}) for n in range(30)])
    search.rebuild("many", wait=True)  # these rows are in a file now
    search.add("many", [Row(id="late", vector=turned(40), metadata={"n": 0.5, "word": "late"})])
    facets = search.facets("many")["facets"]
    assert facets["n"] == {"kind": "float", "missing": 0, "min": 0.0, "max": 29.0}
    assert facets["word"] == {"kind": "string", "missing": 30, "values": [{"value": "late", "rows": 1}], "more": False}
    assert facets["long"] == {"kind": "string", "missing": 1, "values": [], "more": True}
    many = search.facets("many", columns=["id"])["facets"]["id"]
    assert (len(many["values"]), many["more"]) == (20, True)


@pytest.mark.parametrize("columns", ["nope", "vector_image", "thumbnail", "n,source_state", "n;DROP", "`n`"])
def test_facets_of_what_is_no_column(search: Search, columns: str) -> None:
    made(search, [Row(id="a", vector=turned(0), metadata={"n": 1}, source_state="s")])
    with pytest.raises(InvalidInput, match=r"columns: No field named .* Valid fields are n, id, row"):
        search.facets("many", columns=[columns])


def test_what_asks_for_no_collection(sidecar: Sidecar, search: Search) -> None:
    with pytest.raises(NotFound, match="no collection many"):
        search.facets("many")
    with pytest.raises(NotFound, match="no collection many"):
        search.duplicates("many")
    assert sidecar.ask("GET", f"{ROWS}/pictures/1")[0] == 404


def test_an_unknown_column_in_a_filter_is_told_with_the_collections_own_first(search: Search) -> None:
    columns = {f"c{n:02d}": "int" for n in range(20)}
    made(search, [Row(id="a", vector=turned(0))], **columns)
    with pytest.raises(InvalidInput, match=r"Valid fields are c00, c01, .*c11 and 16 more: did you mean c01\?$"):
        search.query("many", Term(vector=turned(0)), where="C001 = 1")


# near duplicates


def test_near_duplicates_come_in_groups_the_largest_first(search: Search) -> None:
    far = unit(200, SIZE, seed=5)
    far[:, :2] = 0  # at right angles to the others
    rows = [Row(id=f"x{n}", vector=vector) for n, vector in enumerate(far)]
    rows += [Row(id=f"a{n}", vector=turned(5 * n), metadata={"a": True}) for n in range(4)]
    rows += [Row(id=f"b{n}", vector=turned(90 + 3 * n)) for n in range(3)]
    rows += [Row(id="text", text_vector=turned(0))]
    made(search, rows)
    answer = search.duplicates("many", threshold=0.99)
    assert (answer.checked, answer.more) == (207, False)
    assert [ids(group.hits) for group in answer.groups] == [["a0", "a1", "a2", "a3"], ["b0", "b1", "b2"]]
    scores = [hit.score for hit in answer.groups[0].hits]
    assert scores == pytest.approx([np.cos(np.radians(5 * n)) for n in range(4)], abs=1e-3)
    assert [group.size for group in search.duplicates("many", threshold=0.998).groups] == [3]
    page = search.duplicates("many", threshold=0.99, limit=1)
    assert (len(page.groups), page.more) == (1, True)
    assert ids(search.duplicates("many", threshold=0.99, limit=1, offset=1).groups[0].hits) == ["b0", "b1", "b2"]
    assert [group.size for group in search.duplicates("many", threshold=0.99, where="a").groups] == [4]
    search.delete("many", ["a1"])
    assert [group.size for group in search.duplicates("many", threshold=0.99).groups] == [3, 2]


def test_a_look_that_time_ended_says_so_and_is_taken_again() -> None:
    vectors = np.array([turned(n // 2 * 20) for n in range(20)], np.float32)
    nothing = neighbours(vectors.__getitem__, np.arange(20), threads=1, time_s=-1)
    assert (nothing.checked, nothing.groups(0.99)) == (0, [])
    whole = neighbours(vectors.__getitem__, np.arange(20), threads=2, time_s=60)
    assert whole.checked == 20
    assert [group.tolist() for group in whole.groups(0.99)] == [[n, n + 1] for n in range(0, 20, 2)]
    assert [len(group) for group in whole.groups(0.9)] == [20]


def test_planted_duplicates_among_more_than_are_compared_each_with_each_are_seen() -> None:
    vectors = unit(10_400, 32, seed=3)
    noise = 0.02 * np.random.default_rng(4).normal(size=(400, 32))
    vectors[10_000:] = vectors[:10_000:25] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = 3 * np.arange(10_400) + 7
    found = neighbours(lambda rows: vectors[(rows - 7) // 3], numbers, threads=1, time_s=60)
    groups = found.groups(0.95)
    assert found.checked == 10_400
    assert len(groups) >= 396  # of 400; lists are searched, not all
    assert {tuple(group) for group in groups} <= {(3 * 25 * n + 7, 3 * (10_000 + n) + 7) for n in range(400)}


def test_components_are_those_of_a_plain_search() -> None:
    draw = np.random.default_rng(0)
    line = np.arange(4_999)
    assert set(joined(5_000, line[::-1], line[::-1] + 1)) == {0}
    for edges in (0, 3, 40, 200):
        left, right = draw.integers(0, 100, (2, edges))
        label = joined(100, left, right)
        plain = list(range(100))
        for _ in range(100):
            for a, b in zip(left, right, strict=True):
                plain[a] = plain[b] = min(plain[a], plain[b])
        assert label.tolist() == plain


def test_the_same_picture_many_times_is_one_group(search: Search) -> None:
    made(search, [Row(id=f"r{n:04d}", vector=turned(30)) for n in range(1_500)])
    answer = search.duplicates("many", threshold=1.0)
    (group,) = answer.groups
    assert (group.size, len(group.hits), group.hits[0].id) == (1_500, 100, "r0000")


@pytest.mark.parametrize(
    ("body", "message"),
    [({"threshold": 2}, "threshold"), ({"threshold": 0}, "threshold"), ({"limit": 0}, "limit"), ({"offset": -1}, "offset"),
     ({"filter": "nope"}, "No field named nope"), ({"other": 1}, "other"), ({"limit": 10**9}, "limit")],
)  # fmt: skip
def test_requests_for_duplicates_that_can_not_be_used(
    sidecar: Sidecar, search: Search, body: dict[str, Any], message: str
) -> None:
    made(search, [Row(id="a", vector=turned(0))])
    status, answer = sidecar.ask("POST", f"{ROWS}/duplicates", body)
    assert (status, message in answer["message"]) == (400, True), answer


# the engine on disk


def test_the_engine_on_disk_counts_sorts_and_groups_too(bare: Search) -> None:
    made(bare, [Row(id=f"r{n}", vector=turned(10 * n), metadata={"n": n % 3}) for n in range(9)])
    asked = Term(vector=turned(0))
    assert bare.count("many", asked, threshold=0.75).rows == 5
    assert bare.count("many", asked).rows == 9
    assert ids(bare.query("many", asked, k=3, sort="n")) == ["r0", "r3", "r6"]
    assert [group.size for group in bare.duplicates("many", threshold=0.98).groups] == [9]


def test_pictures_that_are_added_are_found_as_duplicates(search: Search, photos: str) -> None:
    search.add(photos, [Row(id="again", image=PICTURES[3])])
    groups = search.duplicates(photos, threshold=0.99999).groups
    assert ["again", "p3"] in [sorted(ids(group.hits)) for group in groups]
