"""Asynchronous clients: the answers of the blocking ones, on a loop that nothing blocks and that nothing is left on."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from documents import blocks
from fastapi.testclient import TestClient
from servers import Server, free_ports
from sidecars import PICTURES, Sidecar

import pictures
from clip_client import AsyncClip, AsyncSearch, Clip, Conflict, InvalidInput, NotFound, Search, Unavailable
from clip_client.blocking import run
from clip_client.clip_calls import ClipCalls
from clip_client.search import Row, Term
from clip_client.search_calls import SearchCalls
from clip_client.tasks import Tasks

JPEGS = pictures.jpegs(70)
TEXTS = [f"a picture of thing number {n}" for n in range(70)]
LATE_S = 60.0


def with_clip(server: Server, work: Callable[[AsyncClip], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """Do work with a client, on a loop of its own."""

    async def begun() -> Any:
        async with AsyncClip(server.address, **options) as clip:
            answer = await asyncio.wait_for(work(clip), LATE_S)
        assert asyncio.all_tasks() == {asyncio.current_task()}  # nothing is left behind
        return answer

    return asyncio.run(begun())


def test_answers_are_those_of_the_blocking_client(server: Server, clip: Clip) -> None:
    async def ask(asked: AsyncClip) -> list[Any]:
        await asked.wait_ready()
        comparison = await asked.compare(JPEGS[:3], TEXTS[:2])
        return [
            await asked.embed_text(TEXTS),
            await asked.embed_image(JPEGS),
            await asked.embed_text("a cat"),
            await asked.embed_text([]),
            comparison.cosines,
            comparison.probabilities,
            await asked.count_tokens(TEXTS),
            (await asked.spec()).fingerprint,
        ]

    comparison = clip.compare(JPEGS[:3], TEXTS[:2])
    expected = [clip.embed_text(TEXTS), clip.embed_image(JPEGS), clip.embed_text("a cat"), clip.embed_text([])]
    expected += [comparison.cosines, comparison.probabilities, np.array(clip.count_tokens(TEXTS))]
    *answers, fingerprint = with_clip(server, ask)
    for answer, reference in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer, reference, atol=1e-5)
    assert fingerprint == clip.spec.fingerprint


def test_the_client_prepares_images_as_the_server_does(server: Server, clip: Clip) -> None:
    async def ask(asked: AsyncClip) -> Any:
        return await asked.embed_image(JPEGS[:5])

    np.testing.assert_allclose(with_clip(server, ask, preprocess="client"), clip.embed_image(JPEGS[:5]), atol=1e-5)


def test_errors_are_those_of_the_blocking_client(server: Server, clip: Clip) -> None:
    images = [JPEGS[0], b"no picture", Path("missing.jpg"), JPEGS[1]]

    async def ask(asked: AsyncClip) -> tuple[Any, InvalidInput]:
        with pytest.raises(InvalidInput) as raised:
            await asked.embed_image(images)
        with pytest.raises(InvalidInput, match="images can't be an int"):
            await asked.embed_image(3)  # type: ignore[call-overload]
        return await asked.embed_image(images, on_error="none"), raised.value

    embeddings, problem = with_clip(server, ask)
    assert [row is None for row in embeddings] == [False, True, True, False]
    assert embeddings.errors == problem.errors == clip.embed_image(images, on_error="none").errors
    with pytest.raises(InvalidInput, match=re.escape(str(problem))):
        clip.embed_image(images)


def test_many_tasks_share_a_client_and_its_connection(server: Server, clip: Clip) -> None:
    texts = [f"text {n}" for n in range(200)]

    async def ask(asked: AsyncClip) -> tuple[list[Any], int]:
        rows = await asyncio.gather(*(asked.embed_text(text) for text in texts))
        return rows, connections(server)

    before = connections(server)
    rows, during = with_clip(server, ask)
    assert during - before <= 1
    np.testing.assert_allclose(np.stack(rows), clip.embed_text(texts), atol=1e-5)


def test_many_threads_share_a_client_and_its_connection(server: Server, clip: Clip) -> None:
    texts = [f"text {n}" for n in range(200)]
    with ThreadPoolExecutor(32) as pool:
        rows = [*pool.map(clip.embed_text, texts)]
    np.testing.assert_allclose(np.stack(rows), clip.embed_text(texts), atol=1e-5)


def connections(server: Server) -> int:
    """Number of this process's connections to a server."""
    port = int(server.address.rpartition(":")[2])
    return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process().net_connections("tcp"))


def test_reading_blocks_no_loop(server: Server) -> None:
    released = threading.Event()

    class Slow:
        def read(self) -> bytes:
            assert released.wait(LATE_S)
            return JPEGS[0]

    async def ask(asked: AsyncClip) -> Any:
        reading = asyncio.create_task(asked.embed_image(Slow()))  # type: ignore[call-overload]
        await asked.embed_text("meanwhile")
        released.set()
        return await reading

    assert with_clip(server, ask).ndim == 1


def test_a_cancelled_task_leaves_the_client_as_it_was(server: Server) -> None:
    async def ask(asked: AsyncClip) -> None:
        whole = await asked.embed_text(TEXTS[:3])
        for turns in (0, 1, 2, 5, 20, 100):
            task = asyncio.create_task(asked.embed_text(TEXTS * 20))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        np.testing.assert_allclose(await asked.embed_text(TEXTS[:3]), whole, atol=1e-5)

    with_clip(server, ask)


def test_a_task_that_is_cancelled_while_all_begin_stops_no_other(server: Server) -> None:
    async def ask(asked: AsyncClip) -> Any:
        first, *others = [asyncio.create_task(asked.embed_text(f"text {n}")) for n in range(5)]
        await asyncio.sleep(0)
        first.cancel()
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, *others = with_clip(server, ask)
    assert isinstance(first, asyncio.CancelledError)
    assert [row.shape for row in others] == [others[0].shape] * 4


def test_no_request_is_cancelled_on_its_way(server: Server) -> None:
    texts, before = TEXTS * 3, cancelled(server)

    async def leave(asked: AsyncClip) -> None:
        tasks = [asyncio.create_task(asked.embed_text(texts)) for _ in range(20)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        tasks = [asyncio.create_task(asked.embed_image(JPEGS)) for _ in range(4)]
        await asked.embed_text("a cat")
        with pytest.raises(InvalidInput):
            await asyncio.gather(asked.embed_text(texts), asked.embed_image(b"no picture"))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asked.embed_text(texts), 0)
        await asked.close()  # amid them
        await asyncio.gather(*tasks, return_exceptions=True)

    with_clip(server, leave)
    with ThreadPoolExecutor(4) as pool:
        clip = Clip(server.address)
        threads = [pool.submit(clip.embed_text, TEXTS * 10) for _ in range(4)]
        clip.embed_text("a cat")
        clip.close()
        assert all(isinstance(thread.exception(LATE_S), Unavailable | None) for thread in threads)
    assert cancelled(server) == before
    with Clip(server.address) as clip:
        assert clip.embed_text(texts).shape[0] == len(texts)


def cancelled(server: Server) -> list[str]:
    """Lines of the server's metrics that count cancelled requests."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports[2]}/metrics", timeout=LATE_S) as answer:
        lines = answer.read().decode().splitlines()
    counts = sorted(line for line in lines if 'reason="CANCELED"' in line)
    assert counts
    return counts


def test_closing_ends_what_is_under_way_with_an_error(server: Server) -> None:
    async def ask(asked: AsyncClip) -> None:
        begun = asyncio.create_task(asked.embed_text(TEXTS * 50))
        beginning = asyncio.create_task(AsyncClip(server.address).embed_text("a cat"))
        await asyncio.sleep(0)
        await asked.close()
        with pytest.raises(Unavailable, match="closed: make a new client"):
            await begun
        await asked.close()
        with pytest.raises(Unavailable, match="closed: make a new client"):
            await asked.embed_text("a cat")
        assert "closed" in repr(asked)
        await beginning

    with_clip(server, ask)


def test_a_client_belongs_to_one_loop(server: Server) -> None:
    asked = AsyncClip(server.address)
    begun, ending = threading.Event(), threading.Event()

    async def use() -> None:
        await asked.embed_text("a cat")
        begun.set()
        await asyncio.to_thread(ending.wait, LATE_S)
        await asked.embed_text("a cat")

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(asyncio.run, use())
        assert begun.wait(LATE_S)
        for call in (lambda: asked.embed_text("a dog"), asked.close):
            with pytest.raises(InvalidInput, match="belongs to another event loop: make one per loop"):
                asyncio.run(call())
        ending.set()
        other.result(LATE_S)
    with pytest.raises(Unavailable, match="belongs to an event loop that has ended"):
        asyncio.run(asked.embed_text("a cat"))
    asyncio.run(asked.close())


def test_a_server_that_is_down_is_told_to_every_task() -> None:
    async def ask() -> list[Any]:
        async with AsyncClip(f"localhost:{free_ports(1)[0]}") as asked:
            return await asyncio.gather(*(asked.embed_text("a cat") for _ in range(20)), return_exceptions=True)

    problems = asyncio.run(ask())
    assert {type(problem) for problem in problems} == {Unavailable}
    assert "can't be reached" in str(problems[0])


ENDINGS = """
import asyncio, gc, os, sys
from clip_client import AsyncClip
address = sys.argv[1]

async def leave():  # without a close, with calls under way
    clip = AsyncClip(address)
    await clip.embed_text("a cat")
    asyncio.create_task(clip.embed_text(["a cat"] * 500))
    await asyncio.sleep(0)

asyncio.run(leave())

loop = asyncio.new_event_loop()  # closed by hand, as older programs do
clip = AsyncClip(address)
task = loop.create_task(clip.embed_text(["a cat"] * 500))
loop.run_until_complete(asyncio.sleep(0))
task.cancel()
loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
loop.run_until_complete(clip.close())
loop.close()
gc.collect()

async def fork():
    async with AsyncClip(address) as clip:
        await clip.embed_text("a cat")
        if not (child := os.fork()):
            try:
                clip._concurrency.check()
            except ConnectionError as problem:
                print(problem, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        await clip.embed_text("a cat")

asyncio.run(fork())
print("end")
"""


def test_nothing_is_left_to_warn_about(server: Server) -> None:
    environment = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    command = [sys.executable, "-W", "error", "-c", ENDINGS, server.address]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    forked, end = ended.stdout.splitlines()
    assert end == "end"
    assert "from which this one was forked: make one here" in forked


def test_the_search_answers_as_the_blocking_client_does(sidecar: Sidecar, search: Search, photos: str) -> None:
    async def ask() -> list[Any]:
        async with AsyncSearch(sidecar.url) as asked:
            await asked.wait_ready()
            with pytest.raises(Conflict, match="photos"):
                await asked.create(photos)
            with pytest.raises(NotFound, match="nowhere"):
                await asked.query("nowhere", "a cat")
            answers = await asyncio.gather(*(asked.query(photos, "a cat", k=5) for _ in range(50)))
            assert all(answer == answers[0] for answer in answers)
            added = await asked.add(photos, [Row(id="new", image=PICTURES[0]), Row(id="bad", image=Path("missing.jpg"))])
            return [
                answers[0],
                await asked.query(photos, Term(image=PICTURES[3])),
                [row async for row in asked.rows(photos, page=5)],
                await asked.get(photos, ["p1"]),
                await asked.count(photos, "a cat"),
                await asked.facets(photos),
                await asked.delete(photos, ["new"]),
                added,
            ]

    query, similar, rows, got, count, facets, deleted, added = asyncio.run(ask())
    assert query == search.query(photos, "a cat", k=5)
    assert similar[0].id in ("p3", "new")
    assert [row["id"] for row in rows] == [f"p{n}" for n in range(12)] + ["new"]
    assert got == search.get(photos, ["p1"])
    assert (count.rows, deleted, added.added, [*added.errors]) == (13, 1, 1, [1])
    assert [*facets] == [*search.facets(photos)]


def test_an_iterator_can_be_left_early(search: Search, photos: str) -> None:
    rows = search.rows(photos, page=2)
    assert next(rows)["id"] == "p0"
    rows.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(rows)


def test_a_closed_search_says_so(sidecar: Sidecar) -> None:
    async def ask() -> AsyncSearch:
        async with AsyncSearch(sidecar.url) as asked:
            await asked.collections()
        await asked.close()
        with pytest.raises(Unavailable, match="closed: make a new client"):
            await asked.collections()
        return asked

    assert repr(asyncio.run(ask())) == f"<AsyncSearch at {sidecar.url}, closed>"


def test_clients_tell_what_they_are(server: Server, sidecar: Sidecar) -> None:
    with Clip(server.address) as clip, Search(sidecar.url, token="a secret") as search:
        assert repr(clip) == f"<Clip 'clip' at {server.address}, not asked yet>"
        assert clip.spec.fingerprint in repr(clip)
        assert repr(search) == f"<Search at {sidecar.url}, open>"
    assert repr(clip) == f"<Clip 'clip' at {server.address}, closed>"


@pytest.mark.parametrize(("blocking", "calls"), [(Clip, ClipCalls), (Search, SearchCalls)])
def test_blocking_clients_have_every_call_with_its_signature(blocking: type, calls: type) -> None:
    coroutines = [name for name, _ in inspect.getmembers(calls, is_call) if not name.startswith("_")]
    hidden = {"embed_each", "spec"}
    assert len(coroutines) > 5
    for name in sorted({*coroutines} - hidden):
        ours, theirs = getattr(blocking, name), getattr(calls, name)
        assert [*inspect.signature(ours).parameters.values()] == [*inspect.signature(theirs).parameters.values()], name
        assert ours.__doc__, name


def is_call(member: Any) -> bool:
    """Return true for a coroutine method, or an asynchronous generator."""
    return inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)


def test_the_service_of_the_page_answers(server: Server, clip: Clip) -> None:
    [service] = [
        piece.content for piece in blocks("python") if piece.document.name == "async.md" and "FastAPI" in piece.content
    ]
    defined: dict[str, Any] = {"__name__": "service"}
    exec(compile(service.replace("localhost:8001", server.address), "service", "exec"), defined)
    with TestClient(defined["app"]) as user:
        answer = user.post("/is-it-a-cat", content=JPEGS[0])
        refused = user.post("/is-it-a-cat", content=b"no picture")
    expected = clip.compare(JPEGS[0], ["a cat", "something else"]).probabilities[0]
    assert answer.json()["probability"] == pytest.approx(expected, abs=1e-3)
    assert (refused.status_code, "picture" in refused.json()["detail"]) == (400, True)


def test_a_coroutine_that_waits_for_a_loop_is_refused() -> None:
    async def wait() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waits for an event loop"):
        run(wait())


def test_work_is_bounded_and_a_failure_ends_the_rest() -> None:
    under_way: list[int] = []
    most: list[int] = []

    async def work(n: int) -> int:
        under_way.append(n)
        most.append(len(under_way))
        try:
            await asyncio.sleep(0)
            if n == 50:
                raise InvalidInput("the fiftieth")
            return n
        finally:
            under_way.remove(n)

    async def both() -> None:
        tasks = Tasks("the test")
        assert await tasks.each(work, range(50), 3) == [*range(50)]
        with pytest.raises(InvalidInput, match="the fiftieth"):
            await tasks.each(work, range(1000), 3)
        assert not under_way
        assert max(most) == 3
        assert len(most) < 110
        await tasks.close()

    asyncio.run(both())


def test_an_import_loads_no_loop_and_no_client() -> None:
    heavy = "asyncio|aiohttp|grpc|tritonclient|numpy|torch|faiss|matplotlib"
    code = f"import sys, re, clip_client; print([m for m in sys.modules if re.fullmatch('{heavy}', m)])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "[]\n"
