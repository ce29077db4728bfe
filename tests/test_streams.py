"""Streams of any length: in order, each item once, bounded, and nothing left behind however they end."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from servers import Server, free_ports, running

import pictures
from clip_client import AsyncClip, Clip, InvalidInput, Unavailable
from clip_client.embedded import Embedded, source_of
from clip_client.stream_parts import PAUSE

BATCH = 32
"""Most items of one request of the small checkpoint."""
TEXTS = [f"a picture of thing number {n}" for n in range(150)]


def small(n: int) -> bytes:
    """A small picture that differs from all others."""
    return pictures.encoded(Image.new("RGB", (8, 8), (n % 256, n // 256 % 256, n * 7 % 256)), "PNG")


def threads() -> list[str]:
    """Names of the threads of streams."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("clip_client-stream")]


@pytest.fixture
def narrow(server: Server) -> Iterator[Clip]:
    """A client with two requests at once."""
    with Clip(server.address, requests_in_flight=2) as clip:
        yield clip


def test_results_come_in_order_with_the_embeddings_of_a_list(clip: Clip) -> None:
    images = [small(n) for n in range(100)]
    results = list(clip.embed_images(image for image in images))
    assert [result.position for result in results] == [*range(100)]
    np.testing.assert_allclose(np.stack([result.embedding for result in results]), clip.embed_image(images), atol=1e-6)
    texts = list(clip.embed_texts(iter(TEXTS)))
    np.testing.assert_allclose(np.stack([result.embedding for result in texts]), clip.embed_text(TEXTS), atol=1e-6)
    assert texts[3].source == TEXTS[3]


def test_a_bad_item_has_its_position_its_source_and_its_reason(clip: Clip, tmp_path: Path) -> None:
    good, text = tmp_path / "good.png", tmp_path / "text.png"
    good.write_bytes(small(1))
    text.write_text("no picture")
    stream = clip.embed_images([good, text, small(2), str(tmp_path / "none.png"), None, b"", *[small(3)] * 40], on_error="none")
    results = list(stream)
    assert [result.position for result in results if result.embedding is None] == [1, 3, 4, 5]
    assert [result.source for result in results[:6]] == [str(good), str(text), "", str(tmp_path / "none.png"), "", ""]
    assert "no image file" in results[3].reason
    assert "can't be None" in results[4].reason
    assert all(not result.reason for result in results if result.embedding is not None)
    assert (stream.books.read, stream.books.embedded, stream.books.left_out) == (46, 42, 4)


def test_an_error_that_is_raised_comes_behind_the_results_before_it(clip: Clip) -> None:
    stream, results = clip.embed_images(small(n) if n != 40 else b"x" for n in range(100)), []
    with pytest.raises(InvalidInput, match=r"^image 40: .*; on_error='none' goes on behind it$") as caught:
        results.extend(result.position for result in stream)
    for result in stream:  # it has ended
        results.append(result.position)
    assert results == [*range(40)]
    assert caught.value.errors.keys() == {40}
    assert threads() == []


def test_what_a_generator_gave_before_its_error_comes_out(clip: Clip) -> None:
    def broken() -> Iterator[str]:
        yield from TEXTS[:70]
        raise LookupError("the cursor is gone")

    results: list[Embedded] = []
    message = r"texts ended at position 70 with an error of their own \(LookupError: the cursor is gone\)"
    with pytest.raises(InvalidInput, match=message) as caught:
        results.extend(clip.embed_texts(broken()))
    assert len(results) == 70
    assert isinstance(caught.value.__cause__, LookupError)


def test_little_is_read_ahead_however_long_the_stream_is(narrow: Clip) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"text {read}"

    with narrow.embed_texts(endless()) as stream:
        ahead = [read - result.position for result, _ in zip(stream, range(500), strict=False)]
    assert max(ahead) <= (2 * 2 + 1) * BATCH
    assert stream.books.read == read


def test_threads_share_a_stream(clip: Clip) -> None:
    out: list[int] = []
    with clip.embed_texts(f"text {n}" for n in range(100)) as stream:
        readers = [threading.Thread(target=lambda: out.extend(item.position for item in stream)) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(120)
    assert sorted(out) == [*range(100)]


def test_tasks_share_a_stream(server: Server) -> None:
    async def read() -> list[int]:
        async with AsyncClip(server.address) as clip:
            stream = clip.embed_texts(f"text {n}" for n in range(100))

            async def some() -> list[int]:
                return [item.position async for item in stream]

            return [position for part in await asyncio.gather(*(some() for _ in range(4))) for position in part]

    assert sorted(asyncio.run(read())) == [*range(100)]


def test_results_come_out_while_nothing_comes_in(clip: Clip) -> None:
    out: list[int] = []

    def idle() -> Iterator[object]:
        for n in range(3):
            yield f"text {n}"
            while len(out) <= n:  # the next one comes behind the result of this one
                yield PAUSE

    for item in clip.embed_texts(idle()):  # type: ignore[arg-type]
        out.append(item.position)
    assert out == [0, 1, 2]


def test_results_of_a_slow_source_come_out_soon(clip: Clip) -> None:
    out: list[int] = []
    seen: list[int] = []

    def slow() -> Iterator[str]:
        for n in range(3):
            time.sleep(1)
            seen.append(len(out))
            yield f"text {n}"

    for item in clip.embed_texts(slow()):
        out.append(item.position)
    assert out == [0, 1, 2]
    assert seen[2] >= 1


def leave_the_loop(stream: Iterator[Embedded]) -> None:
    for _ in stream:
        break


def raise_in_the_loop(stream: Iterator[Embedded]) -> None:
    with contextlib.suppress(ZeroDivisionError):
        for result in stream:
            result.position / 0


@pytest.mark.parametrize(
    "end",
    [leave_the_loop, raise_in_the_loop, lambda stream: (next(stream), stream.close()), lambda stream: None],
    ids=["break", "exception", "close", "never begun"],
)
def test_no_thread_is_left_however_a_stream_ends(end: Callable[[Iterator[Embedded]], None], clip: Clip) -> None:
    end(clip.embed_texts(f"text {n}" for n in range(10_000)))
    assert threads() == []


def test_nothing_gives_nothing(clip: Clip) -> None:
    stream = clip.embed_images([])
    assert list(stream) == []
    assert repr(stream) == "<stream: 0 images read = 0 embedded + 0 left out>"


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        ("cat.jpg", {}, r"images is a str: expected an iterable of images; embed_image takes one"),
        (small(0), {}, r"images is a bytes: expected"),
        (io.BytesIO(small(0)), {}, r"images is a BytesIO"),
        (np.zeros((8, 8, 3), np.uint8), {}, r"images is a ndarray"),
        (None, {}, r"images can't be None: expected an iterable"),
        ([], {"on_error": "ignore"}, r"on_error is 'ignore', expected 'raise' or 'none'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(items, options: dict, message: str, clip: Clip) -> None:
    with pytest.raises(InvalidInput, match=message):
        clip.embed_images(items, **options)


def test_an_asynchronous_source_is_for_the_other_client(clip: Clip) -> None:
    async def items():
        yield "x"

    with pytest.raises(InvalidInput, match=r"texts is an asynchronous async_generator: .* AsyncClip"):
        clip.embed_texts(items())


def test_models_in_this_process_stream_too(repository: Path, clip: Clip) -> None:
    with Clip.local(repository) as local:
        results = list(local.embed_texts(TEXTS[:70]))
    np.testing.assert_allclose([result.embedding for result in results], clip.embed_text(TEXTS[:70]), atol=1e-5)
    assert threads() == []


def test_pictures_of_one_array_are_a_stream(clip: Clip) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    results = list(clip.embed_images(batch))
    np.testing.assert_allclose([result.embedding for result in results], clip.embed_image(list(batch)), atol=1e-6)


def test_progress_says_at_the_end_what_was_read(clip: Clip, capfd: pytest.CaptureFixture[str]) -> None:
    list(clip.embed_images([small(0), b""], on_error="none", progress=True))
    assert capfd.readouterr().err.splitlines()[-1] == "2 images read = 1 embedded + 1 left out"
    clip.embed_images([small(0)], progress=True)
    assert capfd.readouterr().err == ""  # nothing was begun
    with clip.embed_texts((f"text {n}" for n in range(10_000)), progress=True) as stream:
        next(stream)
    ahead = stream.books.read - 1
    assert f"{ahead + 1} texts read = 1 embedded + 0 left out + {ahead} read ahead, not embedded" in capfd.readouterr().err


def test_a_server_that_stays_away_is_an_error_with_positions() -> None:
    with Clip(f"127.0.0.1:{free_ports(1)[0]}", timeout_s=1) as clip, pytest.raises(Unavailable, match="can't be reached"):
        next(clip.embed_texts(["x"]))


def test_results_are_shown_shortly(clip: Clip) -> None:
    [good, bad] = clip.embed_images([small(0), b""], on_error="none")
    assert repr(good) == f"Embedded(position=0, source='', embedding=float32 [{clip.spec.embedding_size}])"
    assert repr(bad).startswith("Embedded(position=1, source='', reason='")


def test_sources_are_the_names_of_items(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(small(0))
    with open(path, "rb") as file, Image.open(path) as picture:
        assert source_of(file) == source_of(picture) == source_of(path) == str(path)
    assert source_of(b"x") == source_of(np.zeros(3)) == source_of(Image.new("RGB", (1, 1))) == ""
    assert len(source_of("word " * 1000)) == 200


SCRIPT = """
    import itertools, signal, sys, threading
    from clip_client import Clip
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Clip(sys.argv[1]) as clip:
            for result in clip.embed_texts(f"text {n}" for n in itertools.count()):
                if result.position == 100:
                    print("running", flush=True)
    except KeyboardInterrupt:
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("clip_client")]
        print(f"interrupted, left: {left}", flush=True)
"""


def test_ctrl_c_leaves_no_thread(server: Server) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), server.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted, left: []\n"
        assert process.wait(60) == 0


async def slowly(texts: list[object]) -> AsyncIterator[object]:
    for text in texts:
        await asyncio.sleep(0)
        yield text


def test_an_event_loop_streams_as_threads_do(server: Server, clip: Clip) -> None:
    texts = [*TEXTS[:40], 7, *TEXTS[40:]]

    async def both() -> list[list[Embedded]]:
        async with AsyncClip(server.address) as awaited:
            plain = [item async for item in awaited.embed_texts(texts, on_error="none")]
            return [plain, [item async for item in awaited.embed_texts(slowly(texts), on_error="none")]]

    expected = list(clip.embed_texts(texts, on_error="none"))
    for results in asyncio.run(both()):
        assert [(item.position, item.source, item.reason) for item in results] == [
            (item.position, item.source, item.reason) for item in expected
        ]
        good = [n for n in range(len(texts)) if n != 40]
        np.testing.assert_allclose([results[n].embedding for n in good], [expected[n].embedding for n in good], atol=1e-5)


def test_a_loop_gets_results_while_nothing_comes_in(server: Server) -> None:
    async def questions(answered: asyncio.Event) -> AsyncIterator[str]:
        for n in range(3):
            async with asyncio.timeout(120):  # which is bound to a task
                yield f"text {n}"
                await answered.wait()
                answered.clear()

    async def read() -> list[int]:
        answered, out = asyncio.Event(), []
        async with AsyncClip(server.address) as clip:
            async for item in clip.embed_texts(questions(answered)):
                out.append(item.position)
                answered.set()
        return out

    assert asyncio.run(read()) == [0, 1, 2]


def test_a_stream_that_is_left_leaves_no_task(server: Server) -> None:
    async def leave() -> tuple[int, int]:
        async with AsyncClip(server.address) as clip:
            before = len(asyncio.all_tasks())
            async with clip.embed_texts(slowly([f"text {n}" for n in range(10_000)])) as stream:
                assert (await anext(stream)).position == 0
            return before, len(asyncio.all_tasks())

    before, after = asyncio.run(leave())
    assert before == after


def test_a_generator_that_raises_on_a_loop_is_told(server: Server) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "x"
        raise LookupError("gone")

    async def read(results: list[Embedded]) -> None:
        async with AsyncClip(server.address) as clip:
            async for item in clip.embed_texts(broken()):
                results.append(item)

    results: list[Embedded] = []
    with pytest.raises(InvalidInput, match=r"ended at position 1 with an error of their own \(LookupError: gone\)"):
        asyncio.run(read(results))
    assert len(results) == 1


def test_labels_images_and_health_on_a_loop(server: Server, clip: Clip) -> None:
    images, labels = [small(n) for n in range(3)], ["cat", "dog"]

    async def ask() -> None:
        async with AsyncClip(server.address) as awaited:
            classifier = await awaited.zero_shot(labels)
            result = await classifier.classify(images)
            assert result.best == (await awaited.classify(images, labels)).best == clip.classify(images, labels).best
            assert [item.best async for item in classifier.stream(iter(images))] == result.best
            np.testing.assert_allclose(await awaited.similarity(images, labels), clip.similarity(images, labels), atol=1e-5)
            assert (await awaited.health()).ready
            assert (await awaited.server_metadata()).fingerprint == clip.spec.fingerprint

    asyncio.run(ask())


class Restarts:
    """Texts, with a server that is killed and started again at some positions."""

    def __init__(self, server: Server, at: list[int]) -> None:
        self.server = server
        self.at = at

    def texts(self, count: int) -> Iterator[object]:
        for n in range(count):
            if n in self.at:
                threading.Thread(target=self.restart).start()
            yield f"text {n}" if n % 100 else n

    def restart(self) -> None:
        self.server.tritonserver().kill()
        self.server.ended(60)
        self.server = Server(self.server.repository, ports=self.server.ports)
        self.server.wait_ready()


@pytest.mark.parametrize(
    ("at", "count"),
    [pytest.param([300], 1000, marks=pytest.mark.long), pytest.param([1000, 2500], 4000, marks=pytest.mark.slow)],
    ids=["once", "twice"],
)
def test_a_server_that_is_killed_and_started_again_costs_nothing(
    at: list[int], count: int, repository: Path, clip: Clip
) -> None:
    with running(repository) as server, Clip(server.address, timeout_s=120) as own:
        restarts = Restarts(server, at)
        try:
            results = list(own.embed_texts(restarts.texts(count), on_error="none"))
        finally:
            restarts.server.process.terminate()
            restarts.server.ended()
    assert [result.position for result in results] == [*range(count)]
    assert [result.position for result in results if result.embedding is None] == [*range(0, count, 100)]
    chosen = [n for n in range(1, count, 7) if n % 100]
    np.testing.assert_allclose(
        [results[n].embedding for n in chosen], clip.embed_text([f"text {n}" for n in chosen]), atol=1e-5
    )
