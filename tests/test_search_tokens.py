"""Tokens of the sidecar: scopes by route, hashes, and a file that changes while it runs."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sidecars
from sidecars import Sidecar

from clip_client.errors import InvalidInput, Unauthorized
from clip_client.search import Row
from clip_search.options import SCOPES, HttpOptions, Options
from clip_search.sidecar import Sidecar as Collections
from clip_search.web import pages
from clip_search.web import tokens as tokens_module
from clip_search.web.app import app
from clip_search.web.guard import is_open
from clip_search.web.scopes import ROUTES, scope_of
from clip_search.web.tokens import Tokens

NOWHERE = "127.0.0.1:9"
HASH = hashlib.sha256(b"w-secret").hexdigest()
FILE = f"# who may what\n\nreader:read:r-secret\nfeeder:read,write:sha256:{HASH}\nboss:read,write,admin:b:secret\n"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar with three tokens and a collection."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "tokens").write_text(FILE)
    with sidecars.running(folder / "data", NOWHERE, "--token-file", str(folder / "tokens")) as sidecar:
        with sidecar.client(token="b:secret") as search:
            search.create("a", dimension=sidecars.SIZE)
        yield sidecar


def test_every_route_has_one_scope(tmp_path: Path) -> None:
    collections = Collections(Options(str(tmp_path), triton=NOWHERE))
    document = app(collections).openapi()
    routes = {(verb.upper(), path) for path, verbs in document["paths"].items() for verb in verbs if not is_open(path)}
    hidden = {("GET", route.path) for route in pages.router.routes if not is_open(route.path.partition("{")[0])}  # type: ignore[attr-defined]
    assert routes | hidden == set(ROUTES)
    assert scope_of("GET", "/v1/nothing") == "admin"
    assert document["paths"]["/v1/collections/{name}/rows/{id}"]["delete"]["security"] == [{}, {"bearer": ["write"]}]
    collections.close()


@pytest.mark.parametrize(
    ("token", "scopes"), [("r-secret", {"read"}), ("w-secret", {"read", "write"}), ("b:secret", {"read", "write", "admin"})]
)
def test_a_token_opens_the_routes_of_its_scopes_alone(asking: Sidecar, token: str, scopes: set[str]) -> None:
    for (method, path), scope in ROUTES.items():
        path = path.replace("{name}", "none").replace("{id}", "x").replace("{row}", "0")
        status, answer = asking.ask(method, path, b"{}", Authorization=f"Bearer {token}")
        assert (status != 403) == (scope in scopes), (method, path, status)
        assert status != 401
        if status == 403:
            assert f"this needs {scope}" in answer["message"]
            assert token not in answer["message"]


def test_a_wrong_token_and_a_hash_open_nothing(asking: Sidecar) -> None:
    for wrong in ("", "r-secre", "reader", HASH, f"sha256:{HASH}", "reader:read:r-secret"):
        assert asking.ask("GET", "/v1/collections", Authorization=f"Bearer {wrong}")[0] == 401
    with (
        asking.client(token="r-secret") as search,
        pytest.raises(Unauthorized, match="reader has the scope read, this needs write"),
    ):
        search.add("a", [Row(id="x", vector=sidecars.unit(1)[0])])


def test_tokens_change_while_the_sidecar_runs(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(FILE)
    tokens = Tokens(HttpOptions(token_file=tmp_path / "tokens"))
    tokens.start()
    (tmp_path / "new").write_text("reader:read:another\n")
    (tmp_path / "new").replace(tmp_path / "tokens")
    until(lambda: tokens.caller("Bearer another") is not None)
    assert tokens.caller("Bearer r-secret") is None
    tokens.stop()
    until(lambda: all(thread.name != "tokens" for thread in threading.enumerate()))


def test_a_file_that_gets_bad_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(FILE)
    tokens = Tokens(HttpOptions(token_file=tmp_path / "tokens"))
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger(tokens_module.__name__).addHandler(handler)
    tokens.start()
    (tmp_path / "tokens").write_text("reader:read:x\nreader:rite:a-new-secret\n")
    until(lambda: "stay as they were" in log.getvalue())
    tokens.stop()
    logging.getLogger(tokens_module.__name__).removeHandler(handler)
    assert tokens.caller("Bearer r-secret")
    assert "secret" not in log.getvalue()
    assert "line 2: expected NAME:SCOPES:TOKEN" in log.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("# none\n# at all", "has no token"),
        ("a:read:x\na:read:y", "a and a with the same name"),
        ("a:read:x\nb:read:x", "a and b with the same token"),
        (f"a:read:{HASH}\nb:read:sha256:{HASH[:9]}", "line 2: expected 64 small hexadecimal digits"),
        ("a:read:x\nhidden", "line 2: expected NAME:SCOPES:TOKEN"),
        ("a:read:x\nb::hidden", "line 2: expected NAME:SCOPES:TOKEN"),
        ("a:read:x\nb:read:hid den", "line 2: expected NAME:SCOPES:TOKEN"),
    ],
)
def test_a_file_that_cant_be_used_is_told_without_its_content(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(InvalidInput, match=told) as caught:
        Tokens(HttpOptions(token_file=tmp_path / "tokens"))
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("token", ["s3cret", "with:colons:inside", "# odd", "ünicode", "a:rite:x"])
def test_one_token_alone_is_for_everything(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(f"\n{token}\n")
    caller = Tokens(HttpOptions(token_file=tmp_path / "token")).caller(f"bearer  {token} ")
    assert caller
    assert caller.scopes == set(SCOPES)
    assert token not in repr(caller)


def until(true: object) -> None:
    """Wait until something holds, for a minute at most."""
    end = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)
