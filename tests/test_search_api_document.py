"""The OpenAPI document says what is really sent, and the page that shows it works without the internet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import browsers
import pytest
import sidecars
import urllib3
from jsonschema import Draft202012Validator
from playwright.sync_api import Browser, Page, expect
from servers import Server
from sidecars import PICTURES, Sidecar, base64_of

from clip_client.search import Search

TOKEN = "s3cret-token"
PHOTOS, NEW = {"name": "photos"}, "/v1/collections"
ROWS, ROW, SEARCH = (f"{NEW}/{{name}}/{path}" for path in ("rows", "rows/{id}", "search"))
KNN = {"modality": "image", "num_images": 3, "num_result_ids": 6, "indice_name": "photos", "text": "a cat"}
SENT = base64_of(PICTURES[0])
EMBEDDINGS = {"model": "clip", "input": ["a cat"]}

ANSWERS: list[tuple[int, str, str, Any]] = [
    (200, "GET", NEW, None), (201, "POST", NEW, {"name": "new", "dimension": 4}), (409, "POST", NEW, {"name": "photos"}),
    (400, "POST", NEW, {"name": 1}), (413, "POST", NEW, b"x" * 5_000_000),
    (200, "GET", f"{NEW}/{{name}}", None), (404, "GET", f"{NEW}/{{none}}", None), (404, "DELETE", f"{NEW}/{{none}}", None),
    (201, "POST", ROWS, {"rows": [{"id": "x", "text": "a"}, {"id": "y"}], "on_conflict": "replace"}),
    (201, "POST", ROWS, {"rows": [{"id": "x", "text": "a", "source_state": "1"}], "on_conflict": "replace"}),
    (400, "POST", ROWS, {"rows": [{"id": "y"}]}), (409, "POST", ROWS, {"rows": [{"id": "p1", "text": "a"}]}),
    (200, "GET", f"{ROWS}?vectors=true&limit=5", None), (200, "GET", f"{ROWS}?filter=false", None),
    (400, "GET", f"{ROWS}?limit=0", None), (400, "GET", f"{ROWS}?limit=a", None), (413, "GET", f"{ROWS}?limit=99999", None),
    (200, "GET", f"{ROW}?vectors=1", None), (404, "GET", f"{NEW}/{{name}}/rows/{{none}}", None),
    (200, "POST", f"{NEW}/{{name}}/get", {"ids": ["p1", "none"], "vectors": True}),
    (200, "POST", SEARCH, {"text": "a cat"}), (200, "POST", SEARCH, {"id": "p1", "filter": "false"}),
    (400, "POST", SEARCH, {}), (400, "POST", SEARCH, {"vector": [1.0]}), (413, "POST", SEARCH, {"text": "a", "k": 10**6}),
    (200, "GET", f"{ROWS}?order=newest&limit=3", None), (200, "GET", f"{ROWS}?order=random&seed=3", None),
    (400, "GET", f"{ROWS}?order=none", None), (200, "POST", SEARCH, {"text": "a", "sort": {"column": "year"}, "count": True}),
    (200, "POST", SEARCH, {"text": "a", "deduplicate": -0.5}), (400, "POST", SEARCH, {"text": "a", "sort": {"column": "x"}}),
    (200, "GET", f"{NEW}/{{name}}/facets", None), (400, "GET", f"{NEW}/{{name}}/facets?columns=x", None),
    (200, "POST", f"{NEW}/{{name}}/duplicates", {"threshold": 0.5}),
    (400, "POST", f"{NEW}/{{name}}/duplicates", {"threshold": 5}),
    (404, "GET", f"{NEW}/{{name}}/pictures/0", None), (201, "POST", "/v1/queries", {"image": base64_of(PICTURES[0])}),
    (404, "GET", "/v1/queries/x", None), (400, "POST", "/v1/queries", {"image": "AAAA"}),
    (200, "POST", "/knn-service", KNN), (404, "POST", "/knn-service", {**KNN, "indice_name": "none"}),
    (200, "POST", "/metadata", {"ids": [1], "indice_name": "photos"}), (400, "POST", "/metadata", {}),
    (200, "GET", "/indices-list", None), (200, "GET", "/config.json", None),
    (200, "POST", "/v1/embeddings", EMBEDDINGS), (200, "POST", "/v1/embeddings", {**EMBEDDINGS, "encoding_format": "base64"}),
    (400, "POST", "/v1/embeddings", {**EMBEDDINGS, "input": ["data:;base64,AAAA"]}), (200, "GET", "/v1/models", None),
    (200, "POST", "/v1/compare", {"subject": [SENT, "AAAA"], "prompt": ["a cat", "a dog"]}),
    (200, "POST", "/v1/compare", {"subject": "a", "subject_type": "text", "prompt": SENT, "prompt_type": "image"}),
    (400, "POST", "/v1/compare", {"subject": "AAAA", "prompt": "a"}),
    (413, "POST", "/v1/compare", {"subject": ["a"] * 2049, "prompt": "a"}),
    (200, "POST", "/v1/classify", {"images": [SENT, "AAAA"], "labels": ["cat", "dog"], "templates": "a {}", "top": 1}),
    (400, "POST", "/v1/classify", {"images": SENT, "labels": ["cat", "cat"]}),
    (200, "POST", "/clip/embed_image", {"image": {"type": "base64", "value": SENT}}),
    (400, "POST", "/clip/embed_image", {"image": {"type": "numpy", "value": SENT}}),
    (200, "POST", "/clip/embed_text", {"text": ["a cat"]}), (400, "POST", "/clip/embed_text", {}),
    (200, "POST", "/clip/compare", {"subject": {"type": "base64", "value": SENT}, "prompt": {"cat": "a cat"}}),
    (200, "POST", "/clip/compare", {"subject": "a", "subject_type": "text", "prompt": "b"}),
    (400, "POST", "/clip/compare", {"subject": "a", "subject_type": "sound", "prompt": "b"}),
    (200, "GET", "/health/live", None), (200, "GET", "/health/ready", None),
    (200, "POST", f"{NEW}/{{name}}/delete", {"ids": ["p3"]}), (400, "POST", f"{NEW}/{{name}}/delete", {}),
    (200, "DELETE", ROW, None), (202, "POST", f"{NEW}/{{name}}/rebuild", None),
    (200, "POST", f"{NEW}/{{name}}/rebuild?wait=1", None), (200, "DELETE", f"{NEW}/{{name}}", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def document(sidecar: Sidecar) -> dict[str, Any]:
    status, document = sidecar.ask("GET", "/openapi.json")
    assert status == 200
    return document


def closed(schema: Any) -> Any:
    """A schema in which objects have no other properties than those that are named."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    fixed = {"additionalProperties": False} if "properties" in schema else {}
    return {**fixed, **{name: closed(part) for name, part in schema.items()}}


def declared(document: dict[str, Any], method: str, template: str, status: int) -> Draft202012Validator:
    """A validator of what the document says of a route and a status; of an error that it doesn't name, the default."""
    pattern = template.partition("?")[0].replace("{none}", "{id}" if "/rows/" in template else "{name}")
    pattern = pattern.replace("/pictures/0", "/pictures/{row}").replace("/queries/x", "/queries/{id}")
    path = document["paths"][pattern]
    responses = path[method.lower()]["responses"]
    response = responses.get(str(status)) or responses["default" if status >= 400 else str(status)]
    schema = response["content"]["application/json"]["schema"]
    return Draft202012Validator(closed({**schema, "components": document["components"]}))


def test_real_answers_are_as_the_document_says(sidecar: Sidecar, search: Search, photos: str, document: dict[str, Any]) -> None:
    for status, method, template, body in ANSWERS:
        got, content = sidecar.ask(method, template.format(name="photos", id="p2", none="none"), body)
        problems = [error.message for error in declared(document, method, template, status).iter_errors(content)]
        assert (got, problems) == (status, []), (method, template, content)


def test_metrics_and_thumbnails_have_their_media_types(document: dict[str, Any]) -> None:
    def media(path: str) -> set[str]:
        return set(document["paths"][path]["get"]["responses"]["200"]["content"])

    assert media("/metrics") == media("/metrics-summary") == {"text/plain"}
    assert media("/v1/collections/{name}/thumbnails/{row}") == {"image/jpeg"}
    assert media("/v1/queries/{id}") == {"image/jpeg"}
    pictures = {f"image/{kind}" for kind in ("jpeg", "png", "webp", "gif", "avif")}
    assert media("/v1/collections/{name}/pictures/{row}") == pictures


def test_errors_are_those_that_are_sent(document: dict[str, Any]) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    for operation in operations:
        assert {"400", "401", "403", "default"} <= set(operation["responses"])
        assert "422" not in operation["responses"]
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])


def test_examples_are_bodies_that_are_taken(sidecar: Sidecar, document: dict[str, Any]) -> None:
    shown = 0
    for path, operations in document["paths"].items():
        schema = (
            operations.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        )
        for example in schema.get("examples", []):
            status, content = sidecar.ask("POST", path, example)
            assert status == 200, (path, content)
            shown += 1
    assert shown == 5


def test_the_token_is_in_the_document(sidecar: Sidecar, document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["security"] == [{}, {"bearer": []}]
    assert document["paths"]["/health/live"]["get"]["security"] == []
    assert document["paths"]["/v1/collections"]["get"]["security"] == [{}, {"bearer": ["read"]}]
    assert document["paths"]["/v1/collections"]["post"]["security"] == [{}, {"bearer": ["write"]}]


# the page


@pytest.fixture(scope="module")
def guarded(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that asks for a token."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(TOKEN)
    with sidecars.running(folder / "data", server.address, "--token-file", str(folder / "token")) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.running() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may not ask anybody but the sidecar, and whose console stays empty, but for answers of 401."""
    with browser.new_context() as context:
        page = context.new_page()
        elsewhere: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: elsewhere.append(request.url) if "//127.0.0.1:" not in request.url else None)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        assert [url for url in elsewhere if not url.startswith(("data:", "blob:"))] == []
        assert [line for line in complaints if "status of 401" not in line] == []


def asked_for_all(page: Page) -> None:
    """Try the route of all collections."""
    page.locator("#operations-collections-list_collections_v1_collections_get").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tr.response .response-col_status")).to_have_text("200")


@pytest.mark.long
def test_the_api_is_shown_and_tried_without_the_internet(page: Page, sidecar: Sidecar) -> None:
    page.goto(f"{sidecar.url}/docs")
    expect(page.get_by_role("heading", name="clipserve search")).to_be_visible()
    expect(page.locator("#access")).to_be_hidden()
    asked_for_all(page)


@pytest.mark.long
def test_behind_a_token_the_page_asks_for_it(page: Page, guarded: Sidecar) -> None:
    page.goto(f"{guarded.url}/docs")
    expect(page.get_by_role("status")).to_contain_text("the token is missing or wrong")
    for token in ("wrong", TOKEN):
        expect(page.locator("#access")).to_be_visible()
        page.get_by_label("token").fill(token)
        page.get_by_role("button", name="Show the API").click()
    expect(page.get_by_role("heading", name="clipserve search")).to_be_visible()
    expect(page.locator("#access")).to_be_hidden()
    asked_for_all(page)
    page.reload()
    expect(page.get_by_role("heading", name="clipserve search")).to_be_visible()
    assert TOKEN not in page.url


def test_nothing_of_the_api_is_told_without_the_token(guarded: Sidecar) -> None:
    assert guarded.ask("GET", "/openapi.json")[0] == 401
    for path in ("/docs", "/page/docs.js", "/page/swagger-ui.css", "/page/swagger-ui-bundle.js"):
        status, content = guarded.ask("GET", path)
        assert (status, TOKEN.encode() in content, b"/v1/collections" in content) == (200, False, False)
    document = guarded.ask("GET", "/openapi.json", Authorization=f"Bearer {TOKEN}")[1]
    assert document["security"] == [{"bearer": []}]
    assert document["paths"]["/health/ready"]["get"]["security"] == []


def test_the_policy_of_the_pages_allows_no_code_from_elsewhere(sidecar: Sidecar) -> None:
    for path in ("/", "/docs", "/page/swagger-ui-bundle.js"):
        policy = urllib3.request("GET", sidecar.url + path).headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self';")
