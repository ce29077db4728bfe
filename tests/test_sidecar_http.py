"""The sidecar's client raises the error that the sidecar meant, and no other where somebody else answers."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clip_client import (
    AsyncSearch,
    ClipError,
    Conflict,
    ContractMismatch,
    InvalidInput,
    NotFound,
    Search,
    Stalled,
    Timeout,
    TooLarge,
    Unauthorized,
    Unavailable,
    loop_session,
    sidecar_http,
)
from clip_client.errors import http_status
from clip_client.search import Row, Term
from clip_client.type_names import a_type
from clip_search import errors

MEANINGS = {
    400: InvalidInput,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    405: InvalidInput,
    408: Stalled,
    409: Conflict,
    413: TooLarge,
    422: InvalidInput,
    429: Unavailable,
    431: InvalidInput,
    500: Unavailable,
    503: Unavailable,
    504: Timeout,
    507: Unavailable,
}


@contextlib.contextmanager
def answering(code: int, body: bytes) -> Iterator[Search]:
    """A client of a server that has one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        with Search(f"http://127.0.0.1:{server.server_port}", timeout_s=3) as search:
            yield search
        server.shutdown()


def told(kind: str = "InvalidInput", **details: object) -> bytes:
    """An error as the sidecar words it."""
    return json.dumps({"message": "so it is", "error": {"message": "so it is", "type": kind, **details}}).encode()


@pytest.mark.parametrize("code", MEANINGS)
def test_a_status_is_the_error_that_it_stands_for(code: int) -> None:
    with answering(code, told()) as search, pytest.raises(ClipError, match="so it is") as caught:
        search.collections()
    assert type(caught.value) is MEANINGS[code]


def test_a_conflict_of_models_is_told_from_one_of_names() -> None:
    with answering(409, told("ContractMismatch")) as search, pytest.raises(ContractMismatch, match="so it is"):
        search.collections()


@pytest.mark.parametrize("code", [400, 404, 409, 413])
def test_reasons_by_position_arrive(code: int) -> None:
    with answering(code, told(errors={"3": "too dark"})) as search, pytest.raises(InvalidInput) as caught:
        search.collections()
    assert caught.value.errors == {3: "too dark"}


@pytest.mark.parametrize(("code", "told"), [(401, "asks for a token: pass token"), (403, "asks for a token")])
def test_a_proxy_that_asks_for_a_token_is_told(code: int, told: str) -> None:
    with answering(code, b"<html>nginx</html>") as search, pytest.raises(Unauthorized, match=told):
        search.stats("a")


@pytest.mark.parametrize("code", [302, 404, 413, 502, 504])
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>nginx</html>", b"[]", b"null", b'{"detail": "Not Found"}', b'{"error": "x"}', told(errors=[1]), b"\xff"],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_somebody_elses_answer_is_no_error_of_the_sidecar(code: int, body: bytes) -> None:
    with answering(code, body) as search, pytest.raises(Unavailable, match=f"answers {code}: is something else listening"):
        search.stats("a")


def test_an_answer_that_isnt_json_is_somebody_elses() -> None:
    for body in (b"", b"<html>nginx</html>", b"null", b"[]", b"\xff"):
        with answering(200, body) as search, pytest.raises(Unavailable, match="answers 200: is something else listening"):
            search.stats("a")


@pytest.mark.parametrize("kind", [NotFound, Conflict, TooLarge, Unauthorized, Stalled])
def test_code_that_catches_invalid_input_goes_on_working(kind: type[ClipError]) -> None:
    assert issubclass(kind, InvalidInput)
    assert issubclass(kind, ValueError)


def test_the_sidecars_errors_are_the_clients() -> None:
    for name in ("NotFound", "Conflict", "TooLarge", "Stalled"):
        assert getattr(errors, name) is globals()[name]
    statuses = {kind: errors.status(kind("x")) for kind in (NotFound, Conflict, TooLarge, Unauthorized, Stalled, InvalidInput)}
    assert [*statuses.values()] == [404, 409, 413, 401, 408, 400]
    others = (ContractMismatch, Unavailable, Timeout, errors.Busy, errors.StorageFull)
    assert [errors.status(kind("x")) for kind in others] == [409, 503, 504, 503, 507]


def test_an_error_comes_back_as_it_was_sent() -> None:
    for kind in (NotFound, Conflict, TooLarge, Unauthorized, Stalled, InvalidInput, ContractMismatch, Unavailable, Timeout):
        with answering(http_status(kind("x")), told(kind.__name__)) as search, pytest.raises(kind) as caught:
            search.collections()
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (None, "what is None: expected a text, a Term or a list of Terms"),
        (3, "what is an int"),
        (b"\x89PNG", "what is a bytes"),
        (Path("cat.jpg"), "what is a PosixPath"),
        (["a cat"], r"what\[0\] is a str"),
        ([Term(text="a cat"), None], r"what\[1\] is None"),
        ("http://localhost/cat.jpg", "names a picture, perhaps: pass Term"),
        (__file__, "names a picture, perhaps: pass Term"),
    ],
)
def test_what_cannot_be_searched_for_is_told(what: Any, told: str) -> None:
    with Search("http://127.0.0.1:9") as search:
        with pytest.raises(InvalidInput, match=told):
            search.query("photos", what)
        with pytest.raises(InvalidInput, match=told):
            search.count("photos", what)


def test_rows_that_are_none_are_told() -> None:
    with Search("http://127.0.0.1:9") as search:
        for rows in (None, "a.jpg", {"id": "a"}, Row(id="a")):
            with pytest.raises(InvalidInput, match=f"rows is {a_type(rows)}: expected a list of Row"):
                search.add("photos", rows)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="none of 2 rows can be sent; row 0: it is a dict: expected a Row") as refused:
            search.add("photos", [{"id": "a"}, "a.jpg"])  # type: ignore[list-item]
    assert refused.value.errors.keys() == {0, 1}


class _TiredHandler(http.server.BaseHTTPRequestHandler):
    """One answer a connection, which is closed when the next request has come, as a server that thought it idle does."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if self.server.seen.count(self.client_address):
            self.close_connection = True
            return
        self.server.seen.append(self.client_address)
        body = b'{"deleted": 1}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def tired() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _TiredHandler) as server:
        server.seen = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_no_change_is_sent_on_a_connection_that_was_idle(tired: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Search(tired) as search:
        search.rebuild("a")
        with pytest.raises(Unavailable):
            search.rebuild("a")
        monkeypatch.setattr(sidecar_http, "IDLE_S", 0.0)
        search.rebuild("a")
        search.rebuild("a")


def test_nor_on_an_event_loop(tired: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def delete(pause_s: float) -> None:
        async with AsyncSearch(tired) as search:
            for _ in range(3):
                await search.rebuild("a")
                await asyncio.sleep(pause_s)

    with pytest.raises(Unavailable):
        asyncio.run(delete(0))
    monkeypatch.setattr(loop_session, "IDLE_S", 0.01)
    asyncio.run(delete(0.05))
