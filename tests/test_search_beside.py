"""Work side by side: drops, creations, changes, requests that are given up, and a Triton that stands still."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import sidecars
import urllib3
from amount import amount
from servers import Server
from sidecars import PICTURES, Sidecar, base64_of, unit

SIZE = 8
VECTORS = unit(500, SIZE)
NOWHERE = "127.0.0.1:9"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar without Triton."""
    with sidecars.running(tmp_path_factory.mktemp("alone"), NOWHERE) as sidecar:
        yield sidecar


def rows(*numbers: int) -> dict[str, Any]:
    return {"rows": [{"id": f"r{n}", "vector": VECTORS[n].tolist(), "metadata": {"n": n}} for n in numbers]}


def create(sidecar: Sidecar, name: str) -> int:
    return sidecar.ask("POST", "/v1/collections", {"name": name, "dimension": SIZE})[0]


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Return the outcome of each of several threads that begin together."""
    ready = threading.Barrier(count)

    def begin(n: int) -> Any:
        ready.wait()
        return work(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_of_several_drops_at_once_one_succeeds(alone: Sidecar) -> None:
    for _ in range(10):
        assert create(alone, "a") == 201
        answers = at_once(8, lambda n: alone.ask("DELETE", "/v1/collections/a")[0])
        assert Counter(answers) == {200: 1, 404: 7}


def test_of_several_creations_at_once_one_succeeds(alone: Sidecar) -> None:
    for _ in range(5):
        answers = at_once(8, lambda n: create(alone, "a"))
        assert Counter(answers) == {201: 1, 409: 7}
        assert alone.ask("DELETE", "/v1/collections/a")[0] == 200


def test_whatever_is_asked_beside_a_drop_ends_and_is_no_fault_of_the_sidecar(alone: Sidecar) -> None:
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/v1/collections/a/search", {"vector": VECTORS[0].tolist()}),
        ("POST", "/v1/collections/a/search", {"vector": VECTORS[0].tolist(), "filter": "n > 3"}),
        ("POST", "/v1/collections/a/search", {"id": "r1"}),
        ("POST", "/v1/collections/a/delete", {"ids": ["r1"]}),
        ("POST", "/v1/collections/a/delete", {"filter": "n = 5"}),
        ("GET", "/v1/collections/a/rows?filter=n>2", None),
        ("POST", "/v1/collections/a/get", {"ids": ["r2"]}),
        ("GET", "/v1/collections/a", None),
        ("GET", "/v1/collections", None),
        ("GET", "/metrics", None),
        ("POST", "/v1/collections/a/rebuild", None),
        ("GET", "/v1/collections/a/thumbnails/1", None),
    ]
    answers: Counter[int] = Counter()
    for _ in range(6):
        assert create(alone, "a") == 201
        assert alone.ask("POST", "/v1/collections/a/rows", rows(*range(100)))[0] == 201
        stop = threading.Event()

        def work(n: int, stop: threading.Event = stop) -> list[int]:
            seen: list[int] = []
            for turn in range(1000):
                if stop.is_set():
                    break
                request = asked[(n + turn) % len(asked)]
                add = ("POST", "/v1/collections/a/rows", rows(100 + (50 * n + turn) % 400))
                seen.append(alone.ask(*(request if turn % 2 else add))[0])
            return seen

        with ThreadPoolExecutor(8) as pool:
            working = [pool.submit(work, n) for n in range(8)]
            time.sleep(0.3)
            dropped = alone.ask("DELETE", "/v1/collections/a")[0]
            stop.set()
            answers.update(status for future in working for status in future.result(30))
        assert dropped == 200
        assert alone.ask("GET", "/v1/collections")[1]["collections"] == []
    assert set(answers) <= {200, 201, 202, 404, 409}
    assert answers[404]


def test_drops_and_creations_by_turns_leave_what_the_last_one_made(alone: Sidecar) -> None:
    def work(n: int) -> Counter[int]:
        seen: Counter[int] = Counter()
        for _ in range(15):
            seen[create(alone, "a")] += 1
            seen[alone.ask("POST", "/v1/collections/a/rows", rows(n))[0]] += 1
            seen[alone.ask("DELETE", "/v1/collections/a")[0]] += 1
        return seen

    total = sum(at_once(4, work), Counter[int]())
    assert set(total) <= {200, 201, 404, 409}
    alone.ask("DELETE", "/v1/collections/a")
    assert create(alone, "a") == 201
    assert alone.ask("GET", "/v1/collections/a")[1]["rows"] == 0
    assert alone.ask("DELETE", "/v1/collections/a")[0] == 200


@pytest.mark.long
def test_rows_are_found_by_id_while_they_are_replaced(alone: Sidecar) -> None:
    create(alone, "a")
    alone.ask("POST", "/v1/collections/a/rows", rows(*range(50)))
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            alone.ask("POST", "/v1/collections/a/rows", {**rows(1, 2, 3), "on_conflict": "replace"})

    with ThreadPoolExecutor(1) as pool:
        replacing = pool.submit(replace)
        counts = {
            len(alone.ask("POST", "/v1/collections/a/get", {"ids": ["r1", "r2", "r3", "r4"]})[1]["rows"]) for _ in range(200)
        }
        stop.set()
        replacing.result(30)
    alone.ask("DELETE", "/v1/collections/a")
    assert counts == {4}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/collections/a/search", {"vector": [1] * SIZE, "k": 100_001}),
        ("/v1/collections/a/search", {"vector": [1] * SIZE, "k": 2**70}),
        ("/v1/collections/a/search", {"vector": [1] * SIZE, "k": 10_001}),  # with metadata
        ("/v1/collections/a/search", {"vector": [1] * SIZE, "k": 1, "offset": 100_000, "columns": []}),
        ("/v1/collections/a/search", {"vector": [1] * SIZE, "k": 2_001, "deduplicate": True}),
        ("/knn-service", {"modality": "image", "num_images": 10_001, "indice_name": "a", "embedding_input": [1] * SIZE}),
        (
            "/knn-service",
            {
                "modality": "image",
                "num_images": 1,
                "num_result_ids": 100_001,
                "indice_name": "a",
                "embedding_input": [1] * SIZE,
            },
        ),
        ("/metadata", {"ids": [1] * 10_001, "indice_name": "a"}),
        ("/v1/collections/a/rows?limit=10001", None),
        ("/v1/collections/a/get", {"ids": ["x"] * 1001}),
        ("/v1/collections/a/delete", {"ids": ["x"] * 10_001}),
        ("/v1/collections/a/rows", {"rows": [{"id": "x", "text": "a"}] * 10_001}),
    ],
)
def test_more_than_is_allowed_at_once_is_413_wherever_it_is_sent(alone: Sidecar, path: str, body: Any) -> None:
    create(alone, "a")
    status, answer = alone.ask("GET" if body is None else "POST", path, body)
    assert (status, answer["error"]["type"]) == (413, "TooLarge")
    assert "expected at most" in answer["message"]
    assert alone.ask("DELETE", "/v1/collections/a")[0] == 200


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", None, True])
def test_a_k_that_is_no_number_of_hits_is_400(alone: Sidecar, k: Any) -> None:
    create(alone, "a")
    assert alone.ask("POST", "/v1/collections/a/search", {"vector": [1] * SIZE, "k": k})[0] == 400
    alone.ask("DELETE", "/v1/collections/a")


@contextlib.contextmanager
def suspended(server: Server) -> Iterator[None]:
    """The server and all of its processes stand still."""
    own = psutil.Process(server.process.pid)
    processes = [own, *own.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(processes):
            process.resume()


def slowest(sidecar: Sidecar, asked: list[tuple[str, str, Any]], rounds: int = 5) -> tuple[float, Counter[int]]:
    """Seconds of the slowest answer, and how often each status came."""
    took, seen = 0.0, Counter[int]()
    for n in range(rounds):
        for method, path, body in asked:
            start = time.monotonic()
            seen[sidecar.ask(method, path.format(n), json.loads(json.dumps(body).replace("NEW", f"new{n}")))[0]] += 1
            took = max(took, time.monotonic() - start)
    return took, seen


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_triton_that_stands_still_holds_up_only_what_needs_it(repository: Path, tmp_path: Path) -> None:
    server = Server(repository)
    server.wait_ready()
    image = base64_of(PICTURES[0])
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        sidecar = stack.enter_context(sidecars.running(tmp_path, server.address))
        assert sidecar.ask("POST", "/v1/collections", {"name": "a"})[0] == 201
        added = sidecar.ask("POST", "/v1/collections/a/rows", {"rows": [{"id": "p", "image": image}]})
        assert added[0] == 201, added
        vector = sidecar.ask("POST", "/v1/collections/a/get", {"ids": ["p"], "vectors": True})[1]["rows"][0]["vector_image"]
        needy: list[tuple[str, Any]] = [
            ("/v1/collections/a/search", {"text": "a cat"}),
            ("/v1/collections/a/search", {"image": image}),
            ("/v1/collections/a/rows", {"rows": [{"image": image}]}),
            ("/v1/embeddings", {"model": "clip", "input": "a dog"}),
            ("/knn-service", {"modality": "image", "num_images": 1, "indice_name": "a", "image": image}),
        ]
        free: list[tuple[str, str, Any]] = [
            ("POST", "/v1/collections/a/search", {"vector": vector}),
            ("POST", "/v1/collections/a/search", {"id": "p"}),
            ("GET", "/health/live", None),
            ("GET", "/health/ready", None),
            ("GET", "/v1/collections/a", None),
            ("GET", "/v1/collections", None),
            ("GET", "/v1/collections/a/rows", None),
            ("GET", "/metrics", None),
            ("POST", "/v1/collections/a/rows", {"rows": [{"id": "NEW", "vector": vector}]}),
            ("DELETE", "/v1/collections/a/rows/new{}", None),
        ]
        with ThreadPoolExecutor(120) as pool, suspended(server):
            waiting = [pool.submit(_asked, sidecar, *needy[n % len(needy)]) for n in range(120)]
            time.sleep(2)
            took, seen = slowest(sidecar, free)
            assert took < 1
            assert set(seen) == {200, 201, 503}  # 503: /health/ready
            assert seen[503] == 5
            ended = [future.result(60) for future in waiting]
        assert set(Counter(status for status, _ in ended)) <= {503, 504}
        assert max(seconds for _, seconds in ended) < 50
        assert sidecar.ready_again() < 10
        assert sidecar.ask("POST", "/v1/collections/a/search", {"text": "a cat"})[0] == 200
        assert sidecar.ask("POST", "/v1/collections/a/search", {"image": image})[0] == 200


def _asked(sidecar: Sidecar, path: str, body: Any) -> tuple[int, float]:
    start = time.monotonic()
    answer = urllib3.request("POST", sidecar.url + path, body=json.dumps(body), retries=False, timeout=100)
    return answer.status, time.monotonic() - start


def given_up(sidecar: Sidecar, path: str, body: Any, seconds: float) -> int:
    """A request whose client goes away."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{sidecar.port}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", sidecar.port)) as connection:
        connection.sendall(head + content[: len(content) // 2 if seconds < 0.001 else len(content)])
        time.sleep(seconds)
    return 0


@pytest.mark.long
@pytest.mark.timeout(120)
def test_mixed_load_with_clients_that_go_away_gives_no_fault(sidecar: Sidecar, photos: str, capfd: Any) -> None:
    image = [base64_of(picture) for picture in PICTURES]
    where = f"/v1/collections/{photos}"

    def work(n: int) -> Counter[int]:
        draw, seen = random.Random(n), Counter[int]()
        end = time.monotonic() + amount(3, 8)
        while time.monotonic() < end:
            text = {"text": f"a cat {draw.randrange(40)}", "filter": f"year > {1990 + draw.randrange(60)}"}
            id = f"x{n}-{draw.randrange(5)}"
            requests: list[tuple[str, str, Any]] = [
                ("POST", f"{where}/search", text),
                ("POST", f"{where}/search", {"mix": [{"text": "a dog"}, {"id": "p1"}, {"image": draw.choice(image)}]}),
                ("POST", f"{where}/rows", {"rows": [{"id": id, "image": draw.choice(image)}], "on_conflict": "replace"}),
                ("POST", f"{where}/rows", {"rows": [{"id": id, "text": "a bird"}], "on_conflict": "skip"}),
                ("DELETE", f"{where}/rows/{id}", None),
                ("POST", "/v1/embeddings", {"model": "clip", "input": ["a", "b"]}),
                ("GET", "/health/ready", None),
            ]
            if draw.random() < 0.3:
                seen[given_up(sidecar, f"{where}/search", text, draw.choice([0, 0.001, 0.005]))] += 1
            else:
                seen[sidecar.ask(*draw.choice(requests))[0]] += 1
        return seen

    total = sum(at_once(8, work), Counter[int]())
    assert set(total) <= {0, 200, 201}
    assert total[200] > 50
    assert sidecar.ask("POST", f"{where}/search", {"text": "still there"})[0] == 200
    counted = sidecar.ask("GET", "/metrics")[1].decode()
    assert 'status="500"' not in counted
    assert "Traceback" not in capfd.readouterr().err


def test_a_rebuild_that_many_wait_for_is_one(alone: Sidecar) -> None:
    create(alone, "a")
    alone.ask("POST", "/v1/collections/a/rows", rows(*range(200)))
    waiting: list[Future[Any]] = []
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(alone.ask, "POST", "/v1/collections/a/rebuild?wait=true") for _ in range(60)]
        assert alone.ask("POST", "/v1/collections/a/search", {"vector": np.ones(SIZE).tolist()})[0] == 200
        assert {future.result(60)[0] for future in waiting} == {200}
    alone.ask("DELETE", "/v1/collections/a")
