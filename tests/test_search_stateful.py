"""Random operations of several clients and random faults, compared with a dictionary and exact search.

    CLIPSERVE_STEPS=50000 python -m pytest tests/test_search_stateful.py      more steps than the 300 of make test
    CLIPSERVE_SEED=7 …                                                        the sequence of a failure once more

A client's operations come from the seed alone; how those of several clients fall together doesn't. CLIPSERVE_CLIENTS=1 leaves
nothing to chance but the upkeep in the background.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from amount import amount
from stateful_client import Client, check_hit
from stateful_model import Sent, Wanted, unit
from stateful_shared import Shared
from stateful_steps import FAULTS, step
from stateful_world import World

from clip_client.search import Term
from clip_client.spec import TOWERS

STEPS = amount(300, 2000, "CLIPSERVE_STEPS")
SEED = int(os.environ.get("CLIPSERVE_SEED", "0"))
CLIENTS = int(os.environ.get("CLIPSERVE_CLIENTS", "4"))
_ROUND = 25
"""Steps of each client between two looks at everything."""
_LOG_LINES = 60


@contextlib.contextmanager
def explained(world: World, seed: int) -> Iterator[None]:
    """Say with a failure how to have it again, and what went before."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as problem:
        log, errors = "\n".join(world.log[-_LOG_LINES:]), world.errors()
        again = f"CLIPSERVE_SEED={seed} CLIPSERVE_CLIENTS={CLIENTS} CLIPSERVE_STEPS={STEPS}"
        raise AssertionError(f"{problem}\n\nagain with {again}\n\n{log}\n\nthe sidecar's log ends with\n{errors}") from problem
    finally:
        world.close()


def side_by_side(clients: Sequence[Client], shared: Shared, steps: int) -> None:
    """Let each client do some steps in a thread of its own; raises the first failure."""
    failures: list[BaseException] = []

    def work(client: Client) -> None:
        try:
            for _ in range(steps):
                if failures:
                    return
                step(client, shared)
        except BaseException as problem:
            where = traceback.extract_tb(problem.__traceback__)
            client.world.note(f"{client.owner} FAILS in {' > '.join(f'{one.name}:{one.lineno}' for one in where)}")
            failures.append(problem)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check_everything(world: World, clients: Sequence[Client], shared: Shared) -> None:
    """Nothing is under way: the collection holds the rows of all clients and no others, each of them once, and finds them."""
    world.disarm()
    world.check_alive()
    with world.client() as search:
        for other in search.collections():
            if other["name"] != world.name:  # or each restart would open more of them
                search.drop(other["name"])
        listed = list(search.rows(world.name, vectors=True, page=10_000))
        shared.settle(listed)
        rows = {id: row for holder in (shared, *clients) for id, row in holder.rows.items()}
        assert sorted(row["id"] for row in listed) == sorted(rows)
        for client in clients:
            client.check_rows(row for row in listed if row["id"] in client.ids)
        stats = search.stats(world.name)
        held = {tower: sum(row.vector(tower) is not None for row in rows.values()) for tower in TOWERS}
        assert stats["rows"] == len(rows)
        assert {tower: stats["indexes"][tower]["rows"] for tower in TOWERS} == held
        check_searches(world, clients[0].draw, rows)


def check_searches(world: World, draw: random.Random, rows: dict[str, Sent]) -> None:
    """Without a filter, searches find what exact search does."""
    for tower in TOWERS:
        for k in (10, 1000):
            wanted = Wanted(unit(draw.randrange(10**6)), tower, k)
            with world.client() as search:
                hits = search.query(world.name, Term(vector=wanted.query), k=k, modality=tower)
            wanted.check(hits, rows)
            for hit in hits:
                assert check_hit(hit, world, wanted.query, tower) is rows[hit.id]


@pytest.mark.timeout(600 + STEPS)
@pytest.mark.parametrize(
    ("engine", "steps"), [("faiss", STEPS), pytest.param("lancedb", max(100, STEPS // 10), marks=pytest.mark.long)]
)
def test_many_clients_and_many_faults_leave_no_difference(tmp_path: Path, engine: str, steps: int) -> None:
    world = World(tmp_path, engine)
    with explained(world, SEED):
        world.begin("rows")
        shared, clients = Shared(), [Client(world, number, SEED) for number in range(CLIENTS)]
        for done in range(0, steps, _ROUND * CLIENTS):
            for client in clients:
                client.progress = done / steps
            side_by_side(clients, shared, _ROUND)
            check_everything(world, clients, shared)
        points, modes, _ = map(set, zip(*world.fired(), strict=True))
        assert steps < 1000 or (points, modes) == tuple(map(set, zip(*FAULTS, strict=True))), f"only {points}, {modes} came"
