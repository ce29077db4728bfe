"""Client of a stateful test: it changes rows of its own and compares the answers with what it sent.

Its ids are its own, so after each answer it knows what must be there. After an operation that failed it may be there or not:
the client looks, and from then on that is what must stay. Of the rows of others it knows what was sent.
"""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from stateful_model import ROUNDED, Sent, Wanted, a_filter, metadata, quoted
from stateful_world import World

from clip_client import InvalidInput, Search, Unavailable
from clip_client.search import Added, Hit, OnConflict, Row, Term
from clip_client.spec import TOWERS

IDS, VECTORS, CLIENTS = 120, 400, 8
"""Ids of a client; seeds that its vectors have; the most clients."""
WRITES = ("add", "upsert", "delete", "columns", "read")
"""Faults that an operation of a client may meet; upkeep's and those of derived files mustn't reach it."""
MODES: tuple[OnConflict, ...] = ("error", "replace", "skip")
_SHAPES = ("r{}", "ü{} 漢", "it's {}; --", "a/b/{}", "100% {}?x=1#y", '"{}"\\')
_Answer = TypeVar("_Answer")


def check_hit(hit: Hit, world: World, query: Any, tower: Any) -> Sent:
    """A hit shows a row as somebody sent it, with that row's cosine; returns it."""
    row = world.sent.get(hit.metadata["serial"])
    assert row, f"hit {hit.id!r} is no row that was sent: {hit}"
    wrong = row.shown_differences({"id": hit.id, "source": hit.source, "metadata": hit.metadata})
    assert not wrong, f"hit {hit.id!r} shows {wrong}"
    assert row.vector(tower) is not None, f"hit {hit.id!r} has no {tower} vector"
    cosine = float(row.vector(tower) @ query)
    assert abs(hit.score - cosine) <= 2 * ROUNDED, f"hit {hit.id!r} has score {hit.score}, its row's cosine is {cosine}"
    check_number(world, hit.row, row.serial)
    return row


def check_number(world: World, number: int, serial: int) -> None:
    """A row's number was never another row's."""
    before = world.numbers.setdefault(number, serial)
    assert before == serial, f"row number {number} is given to row {serial}, it was that of {before}"


class Client:
    """A client with rows of its own.

    Attributes:
        rows: what must be there, by id.
        progress: from 0 to 1, how far the test has come.
    """

    def __init__(self, world: World, number: int, seed: int) -> None:
        self.world, self.owner, self.progress = world, f"c{number}", 0.0
        self.draw = random.Random(f"{seed}/{number}")
        self.rows: dict[str, Sent] = {}
        self._number, self._count, self._epoch, self._search = number, 0, 0, world.client()
        self.ids = [f"{self.owner}/{_SHAPES[n % len(_SHAPES)].format(n)}" for n in range(IDS)]

    @property
    def search(self) -> Search:
        """A client of the process that runs."""
        if self._epoch != self.world.epoch:
            self._search.close()
            self._search, self._epoch = self.world.client(), self.world.epoch
        return self._search

    # What it sends

    def new_row(self, id: str, owner: str = "") -> Sent:
        """A row that was never sent; its vectors may have been."""
        serial = self._count * CLIENTS + self._number
        self._count += 1
        seeds = [self.draw.randrange(VECTORS) * CLIENTS + self._number for _ in TOWERS]
        sides = self.draw.choice(((1, 0), (1, 0), (1, 0), (0, 1), (1, 1), (1, 1)))
        image, text = (seed if side else None for seed, side in zip(seeds, sides, strict=True))
        values = {**metadata(self.draw, self.progress), "owner": owner or self.owner, "serial": serial}
        row = Sent(id, serial, image, text, values, self.draw.choice((None, f"/pictures/{serial}.jpg")))
        self.world.sent[serial] = row
        return row

    def some_ids(self, most: int) -> list[str]:
        """Some of its ids, none twice."""
        return self.draw.sample(self.ids, self.draw.randint(1, most))

    def add(self, rows: Sequence[Sent], mode: OnConflict, bad: Mapping[int, Row] | None = None) -> None:
        """Add rows, among them bad ones at some places, and check what is said and what is there."""
        there = {row.id for row in rows if row.id in self.rows}
        sent = [row.row() for row in rows]
        for place, row in sorted((bad or {}).items()):
            sent.insert(place, row)
        after = {row.id: row for row in rows if mode == "replace" or row.id not in there}
        self.world.note(f"{self.owner} adds {[(row.id, row.serial) for row in rows]}, {mode}, bad {sorted(bad or {})}")
        try:
            done = self.attempt(lambda: self.search.add(self.world.name, sent, on_conflict=mode), WRITES)
        except Unavailable as problem:
            self.settle({id: [row] for id, row in after.items()}, problem)
        except InvalidInput as problem:
            self._check_refused(problem, rows, bad or {}, bool(mode == "error" and there))
            self.check_ids([row.id for row in rows])
        else:
            assert not (mode == "error" and there), f"{sorted(there)} are there already, the answer is {done}"
            self._check_added(done, rows, bad or {}, there, mode)
            self.rows |= after
            self.check_ids([row.id for row in rows])

    def _check_refused(self, problem: InvalidInput, rows: Sequence[Sent], bad: Mapping[int, Row], conflict: bool) -> None:
        if not conflict:
            assert not rows, f"good rows are refused: {problem}"
            assert set(problem.errors) == set(bad), f"reasons for {sorted(problem.errors)} instead of {sorted(bad)}"

    def _check_added(
        self, done: Added, rows: Sequence[Sent], bad: Mapping[int, Row], there: set[str], mode: OnConflict
    ) -> None:
        assert set(done.errors) == set(bad), f"reasons for {done.errors} instead of {sorted(bad)}"
        old = len(there)
        expected = (len(rows) - old, old if mode == "replace" else 0, old if mode == "skip" else 0)
        assert (done.added, done.replaced, done.skipped) == expected, f"{done} instead of {expected}"
        assert set(done.ids) == {row.id for row in rows}, f"ids {done.ids}"

    def delete(self, ids: Sequence[str], where: str = "") -> None:
        """Delete rows by id, or those of a filter, which are these."""
        self.world.note(f"{self.owner} deletes {where or ids}")
        there = [id for id in ids if id in self.rows]
        try:
            count = self.attempt(lambda: self.search.delete(self.world.name, () if where else ids, where=where), WRITES)
        except Unavailable as problem:
            self.settle({id: [None] for id in there}, problem)
        else:
            assert count == len(there), f"{count} rows deleted instead of {len(there)}"
            for id in there:
                del self.rows[id]
            self.check_ids(ids)

    def give_up(self, rows: Sequence[Sent], gone: Sequence[str], wait_s: float) -> None:
        """Replace rows or delete some, and close the connection before the answer."""
        self.world.note(f"{self.owner} gives up replacing {[row.id for row in rows]} or deleting {gone}")
        tag = f"{self.owner}-{self.draw.random()}"
        what = {"rows": [row.row().to_json() for row in rows], "on_conflict": "replace"} if rows else {"ids": list(gone)}
        connection = http.client.HTTPConnection("127.0.0.1", self.world.port, timeout=wait_s)
        with suppress(OSError, http.client.HTTPException):
            connection.request(
                "POST", f"/v1/collections/{self.world.name}/{'rows' if rows else 'delete'}", json.dumps(what), {"X-Tag": tag}
            )
            connection.getresponse().read()
        connection.close()
        self.world.wait_done(tag)
        self.settle({**{row.id: [row] for row in rows}, **{id: [None] for id in gone}}, None)

    # What it makes sure of

    def attempt(self, ask: Callable[[], _Answer], points: tuple[str, ...] = ("read",), before_s: float = 0.0) -> _Answer:
        """An answer; none may be had only if a fault or a restart is to blame, which came ``before_s`` or later."""
        start = time.monotonic() - before_s
        try:
            return ask()
        except Unavailable as problem:
            if not self.world.excused(start, points):
                raise AssertionError(f"fails although nothing did: {problem}") from problem
            raise

    def read(self, ask: Callable[[], _Answer]) -> _Answer:
        """The answer of what changes nothing: asked again after a fault."""
        for _ in range(50):
            with suppress(Unavailable):
                return self.attempt(ask)
        raise AssertionError("no answer after 50 faults")

    def settle(self, after: Mapping[str, Sequence[Sent | None]], problem: Unavailable | None) -> None:
        """Find out what came of a change that failed: each row is as before or as it was to be, one of several."""
        if not after:
            return
        found = {row["id"]: row for row in self.read(lambda: self.search.get(self.world.name, list(after), vectors=True))}
        seen = [row for id, wanted in after.items() for row in (self.rows.get(id), *wanted)]
        for id, wanted in after.items():
            choices = [self.rows.get(id), *([] if problem and "nothing was added" in str(problem) else wanted)]
            fits = [choice for choice in choices if _fits(choice, found.get(id))]
            assert fits, f"after {problem!r} {id!r} is {found.get(id)}, neither of {choices}"
            self.rows.pop(id, None)
            if fits[0]:
                self.rows[id] = fits[0]
        self.world.note(f"    settled ({problem}): {sorted(id for id in after if id in self.rows)} are there")
        self.check_ids(list(after))
        self._look_for(seen[:6])

    def _look_for(self, rows: Iterable[Sent | None]) -> None:
        """Of what may have been, only what is there is found."""
        for row in filter(None, rows):
            for tower in TOWERS:
                if (vector := row.vector(tower)) is not None:
                    self.check_search(vector, tower, 3)

    def check_ids(self, ids: Iterable[str]) -> None:
        """These rows are as they must be, and found, or not there."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return
        rows = self.read(lambda: self.search.get(self.world.name, wanted, vectors=True))
        assert [row["id"] for row in rows] == [id for id in wanted if id in self.rows], f"wrong ids: {rows}"
        self.check_rows(rows)
        self._look_for([self.rows.get(wanted[0])])

    def check_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows that came back with their vectors are as they were sent."""
        for row in rows:
            assert row["id"] in self.rows, f"{row['id']!r} isn't there any more"
            wrong = self.rows[row["id"]].differences(row)
            assert not wrong, f"row {row['id']!r}: {wrong}"
            check_number(self.world, row["row"], self.rows[row["id"]].serial)

    def check_search(self, query: Any, tower: Any, k: int) -> None:
        """Among all rows: own ones are as they must be, others as somebody sent them."""
        for hit in self.read(lambda: self.search.query(self.world.name, Term(vector=query), k=k, modality=tower)):
            row = check_hit(hit, self.world, query, tower)
            if hit.id in self.ids:
                assert self.rows.get(hit.id) is row, f"hit {hit.id!r} is {row}, there is {self.rows.get(hit.id)}"
        own = self.kept(None)
        self.check_exactly(Wanted(query, tower, k), *own)

    def kept(self, draw: random.Random | None) -> tuple[str, dict[str, Sent]]:
        """A filter on its own rows, and what it keeps."""
        where, keeps = a_filter(draw) if draw else ("", _all)
        rows = {id: row for id, row in self.rows.items() if keeps(row.metadata)}
        return f"owner = {quoted(self.owner)}" + (f" AND {where}" if where else ""), rows

    def check_exactly(self, wanted: Wanted, where: str, rows: Mapping[str, Sent], term: Term | None = None) -> None:
        """Its own rows, as a filter keeps them, are found as by exact search."""
        hits = self.read(
            lambda: self.search.query(
                self.world.name,
                term or Term(vector=wanted.query),
                k=wanted.k,
                offset=wanted.offset,
                threshold=wanted.threshold,
                modality=wanted.tower,
                where=where,
            )
        )
        try:
            wanted.check(hits, rows)
        except AssertionError as problem:
            raise AssertionError(f"{problem}; k {wanted.k}, offset {wanted.offset}, {wanted.tower}, {where}") from problem
        for hit in hits:
            check_number(self.world, hit.row, rows[hit.id].serial)
            assert hit.metadata["serial"] == rows[hit.id].serial, f"hit {hit.id!r} shows another row's metadata"


def _fits(choice: Sent | None, row: Mapping[str, Any] | None) -> bool:
    return choice is row is None if choice is None or row is None else not choice.differences(row)


def _all(row: Mapping[str, Any]) -> bool:
    return True
