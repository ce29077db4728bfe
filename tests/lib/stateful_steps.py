"""Operations of a stateful test's client, and how often each comes."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from stateful_client import MODES, WRITES, Client
from stateful_model import EXACT, ROUNDED, SIZE, Wanted, unit
from stateful_shared import Shared

from clip_client import InvalidInput, Unavailable
from clip_client.search import Row, Term
from clip_client.spec import TOWERS

FAULTS = [
    *((point, mode) for point in ("add", "upsert", "delete") for mode in ("full", "fails", "durable", "slow")),
    *((point, mode) for point in ("columns", "compaction") for mode in ("full", "fails", "durable")),
    *((point, "fails") for point in ("read", "files")),
    ("files", "full"),
]
EXTRA = 100
"""Columns beside those that all rows may have; a collection has at most 256."""
_BAD = (
    Row(id="short", vector=[1.0] * (SIZE - 1)),
    Row(id="zero", vector=[0.0] * SIZE),
    Row(id="nan", vector=[float("nan")] * SIZE),
    Row(id="huge", vector=[float("inf")] * SIZE),
    Row(id="", vector=[1.0] * SIZE),
    Row(id="line\nbreak", vector=[1.0] * SIZE),
    Row(id="nothing"),
    Row(id="column", vector=[1.0] * SIZE, metadata={"vector_image": 1}),
    Row(id="kind", vector=[1.0] * SIZE, metadata={"flag": "yes"}),
)


def add(client: Client) -> None:
    """Some rows, of ids that may be there."""
    most = client.draw.choice((1, 5, 15))
    client.add([client.new_row(id) for id in client.some_ids(most)], client.draw.choice(MODES))


def add_many(client: Client) -> None:
    """Most of its rows, in the place of what is there."""
    client.add([client.new_row(id) for id in client.some_ids(len(client.ids))], client.draw.choice(("replace", "skip")))


def add_with_bad(client: Client) -> None:
    """Bad rows among good ones, or alone."""
    rows = [client.new_row(id) for id in client.some_ids(4)][client.draw.randrange(2) * 4 :]
    count = client.draw.randint(1, 3)
    places = client.draw.sample(range(len(rows) + count), count)
    client.add(rows, client.draw.choice(MODES), {place: client.draw.choice(_BAD) for place in places})


def add_column(client: Client) -> None:
    """A row with a column that may be new."""
    row = client.new_row(client.some_ids(1)[0])
    row.metadata[f"extra_{client.draw.randrange(EXTRA)}"] = client.draw.randrange(9)
    client.add([row], client.draw.choice(MODES))


def add_twice(client: Client) -> None:
    """Send an id twice in a request: one row is there then, and no row is missing in the answer."""
    (id,) = client.draw.sample(client.ids, 1)
    rows = [client.new_row(id), client.new_row(id)]
    client.world.note(f"{client.owner} adds {id!r} twice, serials {[row.serial for row in rows]}")
    try:
        sent = [row.row() for row in rows]
        done = client.attempt(lambda: client.search.add(client.world.name, sent, on_conflict="replace"), WRITES)
    except Unavailable as problem:
        client.settle({id: rows}, problem)
        return
    total = done.added + done.replaced + done.skipped + len(done.errors)
    assert total == 2, f"2 rows sent, {total} are in the answer {done}"
    left = [n for n in range(2) if n not in done.errors]
    client.rows[id] = rows[left[-1]]
    client.check_ids([id])


def widen(client: Client) -> None:
    """Whole numbers in a column, then others."""
    name = f"wide_{client.owner}_{client.draw.randrange(4)}"
    for value in (client.draw.randrange(9), client.draw.choice((1.5, -0.25, 3))):
        row = client.new_row(client.some_ids(1)[0])
        row.metadata[name] = value
        client.add([row], "replace")


def write_shared(client: Client, shared: Shared) -> None:
    """A row that others change too."""
    shared.write(client, client.draw.choice(MODES))


def delete_shared(client: Client, shared: Shared) -> None:
    """The same, deleted."""
    shared.delete(client)


def delete_ids(client: Client) -> None:
    """By id, also of rows that aren't there."""
    client.delete(client.some_ids(client.draw.choice((1, 4, 20))))


def delete_filter(client: Client) -> None:
    """By filter."""
    where, rows = client.kept(client.draw)
    client.delete(list(rows), where)


def get(client: Client) -> None:
    """By id, also of rows that aren't there."""
    client.check_ids(client.some_ids(20))


def search(client: Client) -> None:
    """By vector among its rows that a filter keeps, or among all."""
    draw, tower = client.draw, client.draw.choice(TOWERS)
    query = unit(draw.randrange(10**6))
    client.world.note(f"{client.owner} searches {tower}")
    threshold = draw.choice((None, None, -0.2, 0.0, 0.3, 0.7))
    wanted = Wanted(query, tower, draw.choice((1, 3, 10, 200)), draw.choice((0, 0, 0, 1, 7, 300)), threshold)
    client.check_exactly(wanted, *client.kept(draw.choice((draw, None))))
    client.check_search(query, tower, draw.choice((1, 10, 500)))


def search_like(client: Client) -> None:
    """More like one of its rows."""
    (id,) = client.draw.sample(client.ids, 1)
    tower, k = client.draw.choice(TOWERS), client.draw.choice((1, 10))
    where, rows = client.kept(None)
    client.world.note(f"{client.owner} searches {tower} like {id!r}")
    row = rows.pop(id, None)
    if row is None:
        with pytest.raises(InvalidInput, match="no row"):
            client.read(lambda: client.search.query(client.world.name, Term(id=id), modality=tower, where=where))
        return
    vector = next(vector for side in (tower, *TOWERS) if (vector := row.vector(side)) is not None)
    wanted = Wanted(vector, tower, k, tolerance=2 * (ROUNDED + EXACT))
    client.check_exactly(wanted, where, rows, Term(id=id))


def pages(client: Client) -> None:
    """All its rows that a filter keeps, page by page."""
    where, rows = client.kept(client.draw.choice((client.draw, None)))
    page = client.draw.choice((3, 7, 1000)) + len(rows) // 10
    client.world.note(f"{client.owner} lists {len(rows)} rows by {page}: {where}")
    found = client.read(lambda: list(client.search.rows(client.world.name, where=where, vectors=True, page=page)))
    numbers = [row["row"] for row in found]
    assert numbers == sorted(numbers)
    assert sorted(row["id"] for row in found) == sorted(rows), f"other rows than exact for {where}"
    client.check_rows(found)


def bad_filter(client: Client) -> None:
    """Filter by what no database takes."""
    where = client.draw.choice(("nope = 1", "n ==== 3", "kind = 5 AND", "'"))
    client.world.note(f"{client.owner} filters by {where}")
    for ask in (
        lambda: client.search.delete(client.world.name, where=where),
        lambda: client.search.query(client.world.name, Term(vector=unit(0)), where=where),
        lambda: list(client.search.rows(client.world.name, where=where)),
    ):
        with pytest.raises(InvalidInput):
            client.read(ask)


def rebuild(client: Client) -> None:
    """Index everything anew."""
    wait = client.draw.random() < 0.5
    client.world.note(f"{client.owner} rebuilds, wait {wait}")
    try:
        ask = partial(client.search.rebuild, client.world.name, wait=wait)
        client.attempt(ask, (*WRITES, "compaction", "files"), _REBUILD_S)
    except Unavailable as problem:
        client.world.note(f"    {problem}")
    client.check_ids(client.some_ids(20))


def other_collection(client: Client) -> None:
    """Make another collection or drop it, which others do at the same time."""
    name, make = f"other{client.world.epoch}-{client.draw.randrange(2)}", client.draw.random() < 0.5
    client.world.note(f"{client.owner} {'makes' if make else 'drops'} {name}")
    ask = partial(client.search.create, name, dimension=SIZE, fingerprint="") if make else partial(client.search.drop, name)
    with suppress(InvalidInput, Unavailable):
        client.attempt(ask, WRITES)


def fault(client: Client) -> None:
    """Something fails, most likely of what comes now."""
    point, mode = client.draw.choice(FAULTS)
    client.world.note(f"{client.owner} lets {point} fail: {mode}")
    client.world.arm(point, mode)
    _CALLS.get(point, add)(client)


_REBUILD_S = 5.0  # one that is under way is joined, and what it met before that counts
_CALLS = {"delete": delete_ids, "columns": add_column, "compaction": rebuild, "files": rebuild}


def give_up(client: Client) -> None:
    """Close the connection while a change is under way."""
    ids, wait_s = client.some_ids(5), client.draw.choice((0.001, 0.005, 0.02))
    replace = client.draw.random() < 0.6
    client.give_up([client.new_row(id) for id in ids] if replace else [], [] if replace else ids, wait_s)


def freeze(client: Client) -> None:
    """The process stands still for a while."""
    client.world.note(f"{client.owner} freezes the sidecar")
    client.world.freeze(client.draw.choice((0.05, 0.3)))


def stop(client: Client) -> None:
    """The process is told to stop, and started again."""
    _restart(client, signal.SIGTERM)


def kill(client: Client) -> None:
    """The process is killed, and started again."""
    _restart(client, signal.SIGKILL)


def _restart(client: Client, how: signal.Signals) -> None:
    damage = random.Random(client.draw.random()) if client.draw.random() < 0.8 else None
    client.world.note(f"{client.owner} restarts the sidecar by {how.name}, damage {damage is not None}")
    client.world.restart(how, damage)
    client.check_ids(client.ids)


SHARED: dict[Callable[[Client, Shared], None], float] = {write_shared: 5, delete_shared: 2}
OPERATIONS: dict[Callable[[Client], None], float] = {
    add: 30,
    add_many: 2,
    add_with_bad: 4,
    add_column: 1,
    add_twice: 1,
    widen: 1,
    delete_ids: 8,
    delete_filter: 3,
    get: 6,
    search: 18,
    search_like: 5,
    pages: 4,
    bad_filter: 1,
    rebuild: 1,
    other_collection: 1,
    fault: 6,
    give_up: 4,
    freeze: 0.3,
    stop: 0.15,
    kill: 0.25,
}


def step(client: Client, shared: Shared) -> None:
    """Do one of them."""
    (one,) = client.draw.choices([*OPERATIONS, *SHARED], [*OPERATIONS.values(), *SHARED.values()])
    one(client, shared) if one in SHARED else one(client)
