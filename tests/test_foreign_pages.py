"""A page of another origin in a real browser can neither stop, read nor change anything on either server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import browsers
import pytest
import sidecars
from playwright.sync_api import Browser, Page
from servers import Server, http_files
from sidecars import Sidecar

from clip_client import Clip
from clip_client.search import Row, Term
from pictures import encoded, picture

pytestmark = pytest.mark.timeout(120, func_only=True)

ATTACK = (Path(__file__).parent / "data" / "foreign_page.js").read_text()
BOMB = "length(repeat(id,99999999))>5"
NOWHERE = "127.0.0.1:9"
SECRET = "hush"
ROWS = "/v1/collections/pictures"
SIDECAR: dict[str, Any] = {
    "secrets": [SECRET],
    "reads": [
        "/v1/collections", ROWS, f"{ROWS}/rows", f"{ROWS}/rows?filter={BOMB}", f"{ROWS}/rows/p0", f"{ROWS}/thumbnails/0",
        f"{ROWS}/pictures/0", f"{ROWS}/facets", f"{ROWS}/rows?order=newest", "/v1/queries/aaaaaaaaaaaaaaaa",
        "/v1/models", "/indices-list", "/health/live", "/health/ready", "/metrics", "/metrics-summary", "/openapi.json",
    ],
    "writes": [
        [f"{ROWS}/rows", '{"rows": [{"id": "foreign=", "vector": [0, 1, 0, 0]}]}'],
        [f"{ROWS}/delete", '{"ids": ["p0", "="]}'],
        [f"{ROWS}/delete", '{"filter": "id != \'a\'"}'],
        [f"{ROWS}/rebuild", "="],
        [f"{ROWS}/search", '{"vector": [0, 1, 0, 0], "filter": "caption != \'a\'"}'],
        [f"{ROWS}/duplicates", '{"threshold": 0.9, "filter": "id != \'a\'"}'],
        ["/v1/queries", '{"image": "data:image/png;base64,="}'],
        [f"{ROWS}/rows/p1", "="],
        [ROWS, "="],
        ["/v1/collections", '{"name": "foreign", "dimension": 4, "fingerprint": "="}'],
        ["/v1/embeddings", '{"input": ["http://127.0.0.1/?a=b"]}'],
        ["/knn-service", '{"text": "=", "indice_name": "pictures", "num_images": 3}'],
    ],
}  # fmt: skip
HUGE = '{"inputs":[{"name":"tokens","datatype":"INT32","shape":[1,1099511627776],"data":[1],"parameters":{"a":"="}}]}'
TRITON: dict[str, Any] = {
    "secrets": ["nv_", "clip_text"],
    "reads": [
        "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/clip_text", "/v2/models/stats", "/metrics", "/v2/logging",
    ],
    "writes": [
        ["/v2/models/clip_text_encoder/infer", HUGE],
        ["/v2/models/clip_text/infer", '{"inputs":[{"name":"text","datatype":"BYTES","shape":[1,1],"data":["="]}]}'],
        ["/v2/repository/index", '{"ready=": true}'],
        ["/v2/repository/models/clip_text/unload", '{"parameters": {"unload_dependents": true, "=": 1}}'],
        ["/v2/systemsharedmemory/region/a/register", '{"key": "/=", "offset": 0, "byte_size": 9}'],
        ["/v2/systemsharedmemory/unregister", "="],
        ["/v2/trace/setting", '{"trace_level": ["TIMESTAMPS"], "=": 1}'],
        ["/v2/logging", '{"log_file": "/tmp/a=b"}'],
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # This Chromium keeps pages of names from loopback addresses by itself; other browsers don't.
    options = ("--host-resolver-rules=MAP rebound.test 127.0.0.1", "--disable-features=LocalNetworkAccessChecks")
    with browsers.running(*options) as browser:
        yield browser


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecars.running(tmp_path_factory.mktemp("foreign"), NOWHERE) as sidecar, sidecar.client() as search:
        search.create("pictures", dimension=4)
        shown = encoded(picture(64, 64, seed=1), "PNG")
        search.add(
            "pictures",
            [Row(id=f"p{n}", image=shown, vector=[1, n, 0, 0], metadata={"caption": f"{SECRET} {n}"}) for n in range(3)],
        )
        yield sidecar


@pytest.fixture
def unharmed(sidecar: Sidecar) -> Iterator[Sidecar]:
    """The sidecar; afterwards it is the same process with the same rows."""

    def told() -> tuple[object, ...]:
        with sidecar.client() as search:
            stats = search.collections()
            kept = [{name: one[name] for name in ("name", "rows", "columns", "table_version")} for one in stats]
            return kept, list(search.rows("pictures")), [hit.id for hit in search.query("pictures", Term(id="p0"), k=9)]

    before = told()
    yield sidecar
    assert told() == before
    assert sidecar.process.poll() is None


@pytest.fixture
def unharmed_triton(server: Server) -> Iterator[Server]:
    """Triton; afterwards all its processes of before are there and it embeds."""
    before = {process.pid for process in server.family()}
    yield server
    with Clip(server.address, timeout_s=30) as clip:
        clip.embed_text("still there")
    assert {process.pid for process in server.family()} == before


def attack(page: Page, target: dict[str, Any], host: str, port: int) -> dict[str, set[int]]:
    """Let a page do all that it can, which shows it nothing; gives the statuses that the server answered, by path."""
    answers: dict[str, set[int]] = {}

    def answered(response: Any) -> None:
        parts = urlsplit(response.url)
        if parts.port == port:
            answers.setdefault(parts.path, set()).add(response.status)

    page.context.on("response", answered)
    assert page.evaluate(ATTACK, {**target, "url": f"http://{host}:{port}"}) == []
    return answers


def check_refused(answers: dict[str, set[int]], target: dict[str, Any]) -> None:
    """All that was sent came, and got 403."""
    paths = {path.partition("?")[0] for path in target["reads"]} | {path for path, _ in target["writes"]}
    assert paths - answers.keys() == set()
    assert {path: statuses for path, statuses in answers.items() if statuses != {403}} == {}


def foreign(browser: Browser, target: dict[str, Any], host: str, port: int) -> dict[str, set[int]]:
    with http_files({"/": b"<body><title>another site</title>"}) as site, browser.new_page() as page:
        page.goto(site)
        return attack(page, target, host, port)


def rebound(browser: Browser, target: dict[str, Any], port: int) -> dict[str, set[int]]:
    """A page whose name pointed elsewhere when it was loaded, and to this machine since: it has the server's own origin."""
    with browser.new_page() as page:
        address = f"http://rebound.test:{port}/start"
        page.route(address, lambda route: route.fulfill(body="<body>another site", content_type="text/html"))
        page.goto(address)
        return attack(page, target, "rebound.test", port)


@pytest.mark.parametrize(
    "host", [pytest.param("127.0.0.1", marks=pytest.mark.long), "localhost"], ids=["same site", "another site"]
)
def test_the_sidecar_refuses_pages_of_others(browser: Browser, unharmed: Sidecar, host: str) -> None:
    check_refused(foreign(browser, SIDECAR, host, unharmed.port), SIDECAR)


@pytest.mark.long
def test_the_sidecar_refuses_a_name_that_was_pointed_at_it(browser: Browser, unharmed: Sidecar) -> None:
    check_refused(rebound(browser, SIDECAR, unharmed.port), SIDECAR)


@pytest.mark.parametrize(
    ("host", "door"),
    [
        pytest.param("127.0.0.1", 0, marks=pytest.mark.long),
        ("localhost", 0),
        pytest.param("localhost", 2, marks=pytest.mark.long),
    ],
)
def test_triton_refuses_pages_of_others(browser: Browser, unharmed_triton: Server, host: str, door: int) -> None:
    check_refused(foreign(browser, TRITON, host, unharmed_triton.ports[door]), TRITON)


@pytest.mark.parametrize("door", [pytest.param(0, id="HTTP"), pytest.param(2, id="metrics", marks=pytest.mark.long)])
def test_triton_refuses_a_name_that_was_pointed_at_it(browser: Browser, unharmed_triton: Server, door: int) -> None:
    check_refused(rebound(browser, TRITON, unharmed_triton.ports[door]), TRITON)


def test_a_browser_gets_no_word_with_grpc(browser: Browser, unharmed_triton: Server) -> None:
    assert foreign(browser, TRITON, "127.0.0.1", unharmed_triton.ports[1]) == {}
