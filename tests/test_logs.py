"""Logs: lines that nothing breaks, a line a request, ids from the client to Triton and back."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from servers import running as serving
from sidecars import Sidecar
from span_collector import collecting

import clip_client
from clip_client import AsyncClip, Clip, InvalidInput, Search, Unavailable, logs, request_ids
from clip_client.logs import LogOptions
from clip_client.request_ids import RequestContext, current, entered
from clip_search.embedder import _of_all
from clip_search.options import Options
from clip_search.steps import begin, step
from clip_search.web.app import app
from clip_serve.log_lines import LogLines

LOG = logging.getLogger("clip_search.requests")
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
NASTY = 'a\nb\r\x1b[31m\x00\u2028\u202e\x85\ttab "quoted" \udcff'


class Written:
    """Log of this process while it is open."""

    def __init__(self, form: str, level: str = "info") -> None:
        self._options, self.text = LogOptions(form, level), ""

    def __enter__(self) -> Written:
        reading, self._writing = os.pipe()
        self._reader = threading.Thread(target=self._read, args=[reading])
        self._reader.start()
        self._open = logs.written(self._options, self._writing)
        self._open.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self._open.__exit__(None, None, None)
        os.close(self._writing)
        self._reader.join()

    def _read(self, descriptor: int) -> None:
        with open(descriptor, "rb") as pipe:
            self.text = pipe.read().decode()

    @property
    def lines(self) -> list[str]:
        return self.text.removesuffix("\n").split("\n")

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_that_a_client_sends_breaks_a_line(form: str) -> None:
    with Written(form) as written, entered(RequestContext("id-1", TRACEPARENT)):
        logs.log(LOG, logging.INFO, NASTY, {"route": NASTY, "steps_ms": {"embed": 1.5}})
        LOG.warning("with %s", NASTY)
        LOG.info("wrong %d", "x")
    assert len(written.lines) == 3
    assert written.text.replace("\n", "").isprintable()
    assert "id-1" in written.lines[0]
    assert "can't be logged (TypeError): " in written.lines[2]


def test_a_line_in_json_has_the_ids_and_the_values() -> None:
    with Written("json") as written, entered(RequestContext("id-1", TRACEPARENT)):
        logs.log(LOG, logging.INFO, "request", {"status": 200, "steps_ms": {"embed": 1.5}})
    [line] = written.objects
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    ids = {"request_id": "id-1", "trace_id": "ab" * 16}
    own = {"status": 200, "steps_ms": {"embed": 1.5}}
    assert line == {"level": "info", "logger": "clip_search.requests", "message": "request", **ids, **own}


def test_a_line_of_text_has_them_too() -> None:
    with Written("text") as written, entered(RequestContext("id-1")):
        logs.log(LOG, logging.INFO, "request", {"status": 200, "steps_ms": {"embed": 1.5}, "name": "two words"})
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO request request_id=id-1 status=200 steps_ms\.embed=1\.5 name="two words"',
        written.lines[0],
    )


def test_no_line_of_a_traceback_passes_for_a_record() -> None:
    with Written("text") as written:
        try:
            raise ValueError("first\n2026-01-01 00:00:00,000 INFO forged")
        except ValueError:
            LOG.exception("failed")
    assert written.lines[0].endswith("ERROR failed")
    assert all(line.startswith("    ") for line in written.lines[1:])
    assert "    2026-01-01 00:00:00,000 INFO forged" in written.lines


@pytest.mark.parametrize(("level", "expected"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_the_level_says_what_is_logged(level: str, expected: int) -> None:
    with Written("json", level) as written:
        LOG.debug("a")
        LOG.info("b")
        LOG.warning("c")
        logging.getLogger("of.others").info("never")
    assert len(written.text.splitlines()) == expected


def test_a_log_that_nobody_reads_stops_nothing_and_tells_what_it_left_out() -> None:
    reading, writing = os.pipe()
    try:
        start = time.monotonic()
        with logs.written(LogOptions("json"), writing):
            for _ in range(15_000):
                LOG.warning("x" * 100)
            content = bytearray()
            while b"lines were left out" not in content:
                content += os.read(reading, 2**16)
                LOG.warning("again")
        assert time.monotonic() - start < 60
        lines = [json.loads(line) for line in bytes(content).split(b"\n")[:-1]]
        assert any(
            re.fullmatch(r"\d{4} lines were left out: the log wasn't read fast enough", line["message"]) for line in lines
        )
    finally:
        os.close(reading)
        os.close(writing)


def test_a_process_ends_though_nobody_reads_its_log() -> None:
    code = """if True:
        import logging
        from clip_client import logs
        with logs.written(logs.LogOptions("json")):
            for _ in range(3000):
                logging.getLogger("clip_search").warning("x" * 100)
    """
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    assert process.wait(60) == 0
    process.stderr.close()  # type: ignore[union-attr]


def test_steps_add_up_and_arent_counted_twice() -> None:
    steps = begin()
    with step("embed"), step("search"), step("embed"):
        pass
    with step("embed"):
        pass
    assert [name for name, _, _ in steps.taken] == ["search", "embed", "embed"]
    assert list(steps.seconds()) == ["search", "embed"]


@pytest.mark.parametrize("request_id", ["", "a b", "a\nb", "é", "x" * 129, "a,b", '"'])
def test_an_id_that_would_break_a_header_or_a_line_is_refused(request_id: str) -> None:
    assert not request_ids.is_id(request_id)
    if request_id:
        with pytest.raises(InvalidInput, match="expected 1 to 128 letters"), clip_client.request_context(request_id):
            pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00-abc",
        f"ff-{'ab' * 16}-{'cd' * 8}-01",
        f"00-{'00' * 16}-{'cd' * 8}-01",
        f"00-{'ab' * 16}-{'00' * 8}-01",
        f"{TRACEPARENT}\n",
    ],
)
def test_what_isnt_a_traceparent_is_refused(text: str) -> None:
    assert not request_ids.is_traceparent(text)
    assert request_ids.is_traceparent(TRACEPARENT)
    if text:
        with pytest.raises(InvalidInput, match="traceparent is"), clip_client.request_context(traceparent=text):
            pass


def test_ids_of_a_call_are_new_ones_or_the_callers() -> None:
    with request_ids.call("a") as first, request_ids.call("b") as inner:
        assert inner == first
    assert request_ids.is_id(first.id)
    assert request_ids.is_traceparent(first.traceparent)
    assert first.id == first.trace_id
    with clip_client.request_context("mine", traceparent=TRACEPARENT), request_ids.call("a") as context:
        assert context == RequestContext("mine", TRACEPARENT)
    assert current() == RequestContext()
    assert request_ids.sent({"x-request-id": "of the client"}) == {"x-request-id": "of the client"}


def test_a_micro_batch_has_the_ids_of_all_its_requests() -> None:
    requests = [RequestContext("a"), RequestContext("b", TRACEPARENT), RequestContext("a"), RequestContext()]
    assert _of_all(requests) == RequestContext("a,b", TRACEPARENT)


def test_errors_name_their_request() -> None:
    mine = clip_client.request_context
    with pytest.raises(Unavailable, match=r"^gone \(request mine\)$") as caught, mine("mine"), request_ids.call("a"):
        raise Unavailable("gone")
    assert caught.value.request_id == "mine"
    with pytest.raises(InvalidInput, match=r"^wrong$") as refused, mine("mine"), request_ids.call("a"):  # the message says all
        raise InvalidInput("wrong")
    assert refused.value.request_id == "mine"


class World:
    """An application of a sidecar without Triton, asked without a socket."""

    def __init__(self, folder: Path, **http: Any) -> None:
        from dataclasses import replace

        from clip_search.sidecar import Sidecar as Inside

        options = Options(str(folder), triton="localhost:1")
        self.sidecar = Inside(replace(options, http=replace(options.http, **http)))
        self.app = app(self.sidecar)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        sent: list[Any] = []
        named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "query_string": b"q=hush", "client": ("10.1.2.3", 5)}
        scope |= {"http_version": "1.1", "scheme": "http", "root_path": "", "headers": [(b"host", b"localhost"), *named]}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        headers_of = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers_of, b"".join(part.get("body", b"") for part in sent[1:])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, log_addresses=True)
    yield world
    world.sidecar.close()


def test_each_request_has_a_line_without_texts_and_tokens(world: World) -> None:
    world.sidecar.create("photos", 4, "f" * 16, {})
    with Written("json") as written:
        row = {"rows": [{"id": "hush-1", "vector": [1, 0, 0, 0], "text_vector": [1, 0, 0, 0], "metadata": {"caption": "hush"}}]}
        added = world.ask("POST", "/v1/collections/photos/rows", json.dumps(row).encode(), authorization="Bearer hush")
        assert added[0] == 201, added
        found = world.ask("POST", "/v1/collections/photos/search", b'{"vector": [1, 0, 0, 0], "k": 1}', x_request_id="mine-7")
        world.ask("POST", "/v1/collections/photos/search", b'{"text": "hush hush"}', traceparent=TRACEPARENT)
        world.ask("GET", "/v1/collections/photos/rows/hush-1")
        world.ask("GET", "/v1/collections/hush hush", x_request_id="not\tgood")
        world.ask("GET", "/hush\nhush")
        world.ask("GET", "/health/live")
    assert found[:2] == (200, found[1] | {"x-request-id": "mine-7"})
    add, search, failed, row_line, unknown, other = written.objects
    assert "hush" not in written.text
    assert (search["request_id"], search["route"]) == ("mine-7", "/v1/collections/{name}/search")
    assert (search["collection"], search["status"], search["method"], search["client"]) == ("photos", 200, "POST", "10.1.2.3")
    assert set(search["steps_ms"]) == {"read", "parse", "embed", "search", "rows", "send"}
    assert sum(search["steps_ms"].values()) <= search["ms"] + 1
    assert (search["bytes_in"], search["bytes_out"]) == (32, len(found[2]))
    assert "write" in add["steps_ms"]
    assert (failed["status"], failed["trace_id"]) == (503, "ab" * 16)
    assert (row_line["route"], row_line["status"]) == ("/v1/collections/{name}/rows/{id:path}", 200)
    assert (unknown["route"], unknown["status"], unknown.get("collection")) == ("/v1/collections/{name}", 404, None)
    assert unknown["request_id"] != "not\tgood"
    assert (other["route"], other["status"]) == ("other", 404)


def test_addresses_are_logged_only_where_that_is_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    with Written("text", "debug") as written:
        world.ask("GET", "/health/live")
    world.sidecar.close()
    assert "route=/health/live" in written.text
    assert "10.1.2.3" not in written.text


def test_an_answer_has_the_id_and_an_error_names_it(sidecar: Sidecar, search: Search) -> None:
    answer = urllib3.request("GET", f"{sidecar.url}/v1/collections", headers={"X-Request-ID": "mine-1"}, retries=False)
    assert answer.headers["x-request-id"] == "mine-1"
    status, refused = sidecar.ask("GET", "/v1/collections/none", **{"X-Request-ID": "mine-2"})
    assert (status, refused["error"]["request_id"]) == (404, "mine-2")
    with pytest.raises(InvalidInput) as caught, clip_client.request_context("mine-3"):
        search.stats("none")
    assert caught.value.request_id == "mine-3"


def test_triton_gets_the_ids(clip: Clip, server: Any) -> None:
    with clip_client.request_context("mine-4", traceparent=TRACEPARENT):
        rows = clip.embed_text([f"a text {n}" for n in range(100)])  # in several requests, in threads
    assert len(rows) == 100

    async def embed() -> None:
        async with AsyncClip(server.address) as own:
            with clip_client.request_context("mine-5"):
                assert len(await own.embed_text(["a", "b"])) == 2

    asyncio.run(embed())


def test_an_application_that_traces_has_spans_of_its_calls() -> None:
    code = """if True:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from clip_client import Unavailable, request_ids
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        try:
            with trace.get_tracer("of the application").start_as_current_span("mine") as own:
                with request_ids.call("embed_text") as ids:
                    raise Unavailable("gone")
        except Unavailable:
            pass
        call, mine = exporter.get_finished_spans()
        assert ids.traceparent == request_ids.traceparent_of(call), (ids, call)
        assert call.parent.span_id == own.get_span_context().span_id
        assert call.attributes["clipserve.request_id"] == ids.id == ids.trace_id
        assert not call.status.is_ok and not call.events
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_tritons_lines_become_json() -> None:
    with Written("json") as written:
        lines = LogLines("json")
        lines.notice("stopping")
        lines.triton(b'E1127 03:53:17.240000 77 model.cc:12] "it failed\\nI1127 forged"\n')
        message = json.dumps('clipserve requests: {"step": "encode tokens", "ms": 1.5, "request_ids": ["a,b"]}')
        lines.triton(f"I1127 03:53:17.240000 77 request_lines.py:41] {message}\n".encode())
        lines.triton(b"+---+\n")
        lines.triton(b"what a library says \xff\x1b\n")
    notice, failed, requests, table, library = written.objects
    assert (notice["level"], notice["message"], notice["logger"]) == ("warning", "stopping", "clip_serve")
    assert (failed["level"], failed["place"], failed["message"]) == ("error", "model.cc:12", "it failed\nI1127 forged")
    assert (requests["step"], requests["ms"], requests["request_ids"]) == ("encode tokens", 1.5, ["a,b"])
    assert (table["level"], library["level"]) == ("info", "warning")


@pytest.mark.long
def test_a_request_is_followed_through_all_logs_and_one_trace(exported: Path, tmp_path: Path) -> None:
    with collecting() as collector, open(tmp_path / "sidecar.log", "w+") as log:
        options = ("--log-format", "json", "--log-level", "info", "--traces", collector.url)
        with serving(exported / "model_repository", *options) as triton:
            sidecar = Sidecar(tmp_path / "data", triton.address, options, log=log)
            try:
                sidecar.wait_open()
                with sidecar.client() as search, clip_client.request_context("mine-8", traceparent=TRACEPARENT):
                    search.create("photos")
                    search.query("photos", "a cat", k=1)
            finally:
                sidecar.stop()
            whole = {
                ("clipserve-triton", "InferRequest"),
                ("clipserve-triton", "clip_text"),
                ("clipserve-search", "embed_text"),
            }
            spans = collector.wait_for(lambda spans: whole <= {(span.service, span.name) for span in spans})
            _, _, told = triton.stop()
    mine = {(span.service, span.name): span for span in spans if span.trace == "ab" * 16}
    request = mine["clipserve-search", "POST /v1/collections/{name}/search"]
    assert request.parent == "cd" * 8
    assert request.attributes["clipserve.request_id"] == "mine-8"
    steps = {span.name for span in mine.values() if span.parent == request.id}
    assert {"read", "parse", "embed", "search", "rows", "send", "embed_text"} <= steps
    embedding, inference = mine["clipserve-search", "embed_text"], mine["clipserve-triton", "InferRequest"]
    assert (embedding.parent, inference.parent) == (request.id, embedding.id)
    assert mine["clipserve-triton", "clip_text"].parent == inference.id
    assert "a cat" not in str(spans)
    lines = [json.loads(line) for line in (tmp_path / "sidecar.log").read_text().splitlines()]
    assert [line["status"] for line in lines if line.get("request_id") == "mine-8"] == [201, 200]
    of_triton = [json.loads(line) for line in told.splitlines()]
    assert [line["step"] for line in of_triton if "mine-8" in line.get("request_ids", ())]
