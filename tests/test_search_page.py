"""The page in a real Chromium: every function clicked through, nothing on the console."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import browsers
import numpy as np
import pytest
import sidecars
from playwright.sync_api import Browser, Page, Route, expect
from servers import Server, http_files
from sidecars import Sidecar, base64_of

from clip_client import Clip
from clip_client.search import Row, Term
from pictures import encoded, picture

pytestmark = pytest.mark.timeout(60, func_only=True)  # evaluate and a download's path have no timeout of their own

COUNT = 100
PICTURES = [encoded(picture(64 + n % 7, 64, seed=n), "PNG") for n in range(COUNT)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.running() as browser:
        yield browser


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with sidecars.running(tmp_path_factory.mktemp("page"), server.address) as sidecar, sidecar.client() as search:
        search.create("pictures")
        rows = [Row(id=f"p{n}", image=one, metadata={"caption": f"picture {n}", "year": n}) for n, one in enumerate(PICTURES)]
        search.add("pictures", rows)
        search.create("texts")
        search.add("texts", [Row(id=text, text=text) for text in ("a cat", "<b>a dog</b>")])
        yield sidecar


@pytest.fixture
def page(browser: Browser, sidecar: Sidecar) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1000, "height": 600}, accept_downloads=True) as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(sidecar.url)
        expect(page.get_by_role("status")).to_contain_text("Describe what you look for")
        yield page
        assert complaints == []


def ids(page: Page) -> list[str]:
    return page.locator("figure button").evaluate_all("all => all.map(one => one.dataset.id)")


def look_for(page: Page, text: str) -> None:
    page.get_by_label("Search", exact=True).fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("hits")


def expected(sidecar: Sidecar, *terms: Term, **options: object) -> list[str]:
    with sidecar.client() as search:
        return [hit.id for hit in search.query("pictures", terms, k=COUNT, **options)]


def test_a_text_finds_and_scrolling_finds_more(page: Page, sidecar: Sidecar) -> None:
    look_for(page, "a cat")
    figures = page.locator("figure")
    for count, told in ((40, "40 or more"), (80, "80 or more"), (COUNT, str(COUNT))):
        expect(figures).to_have_count(count)
        expect(page.get_by_role("status")).to_have_text(f"{told} hits")
        figures.last.scroll_into_view_if_needed()
    assert ids(page) == expected(sidecar, Term(text="a cat"))
    expect(figures.last.locator("img")).not_to_have_js_property("naturalWidth", 0)


def test_captions_and_scores_on_demand(page: Page) -> None:
    look_for(page, "a cat")
    first = page.locator("figcaption").first
    expect(first).to_be_hidden()
    page.get_by_label("captions").check()
    expect(first).to_be_visible()
    assert "picture" in first.inner_text()
    assert first.locator("b").inner_text()[-4] == "."


def test_more_like_this_and_back(page: Page, sidecar: Sidecar) -> None:
    look_for(page, "a cat")
    before = ids(page)[:40]
    page.locator("figure button").nth(2).click()
    page.wait_for_url("**like=*")
    expect(page.locator("figure")).not_to_have_count(0)
    assert ids(page)[:10] == expected(sidecar, Term(id=before[2]))[:10]
    page.go_back()
    expect(page.get_by_label("Search", exact=True)).to_have_value("a cat")
    expect(page.locator("figure button").first).to_have_attribute("data-id", before[0])


def test_a_filter(page: Page) -> None:
    page.get_by_label("Filter").fill("year >= 90 AND year < 95")
    look_for(page, "a cat")
    expect(page.get_by_role("status")).to_have_text("5 hits")
    assert set(ids(page)) == {f"p{n}" for n in range(90, 95)}


def upload(page: Page, content: bytes) -> None:
    page.get_by_label("Search with a picture").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": content})


def test_a_picture_by_upload_and_its_removal(page: Page) -> None:
    upload(page, PICTURES[7])
    expect(page.locator("figure button").first).to_have_attribute("data-id", "p7")
    expect(page.get_by_alt_text("the picture that is searched for")).to_be_visible()
    page.get_by_label("Remove the picture").click()
    expect(page.locator("figure")).to_have_count(0)


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_by_drop_and_by_paste(page: Page, way: str) -> None:
    page.evaluate(
        """([way, content]) => {
            const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0)), given = new DataTransfer();
            given.items.add(new File([bytes], "a.png", { type: "image/png" }));
            const event = new Event(way, { bubbles: true, cancelable: true });
            event[way === "drop" ? "dataTransfer" : "clipboardData"] = given;
            document.body.dispatchEvent(event);
        }""",
        [way, base64_of(PICTURES[9])],
    )
    expect(page.locator("figure button").first).to_have_attribute("data-id", "p9")


def test_a_file_that_is_no_picture(page: Page) -> None:
    upload(page, b"no picture")
    expect(page.get_by_role("status")).to_have_text("a.png isn't a picture that this browser can read.")


def test_a_text_and_a_picture_mixed(page: Page, clip: Clip) -> None:
    upload(page, PICTURES[7])
    expect(page.locator("figure")).not_to_have_count(0)
    look_for(page, "a cat")
    share = page.get_by_label("Share of the picture")
    expect(share).to_be_visible()
    mixed = ids(page)[:40]
    share.fill("1")
    expect(page.locator("figure button").first).to_have_attribute("data-id", "p7")
    share.fill("0")
    best = int(np.argmax(clip.embed_image(PICTURES) @ clip.embed_text("a cat")))
    expect(page.locator("figure button").first).to_have_attribute("data-id", f"p{best}")
    assert mixed != ids(page)[:40]


def test_another_collection_and_what_looks_like_markup(page: Page) -> None:
    page.get_by_label("Collection").select_option("texts")
    look_for(page, "a dog")
    assert sorted(page.locator("figure .words").all_inner_texts()) == ["<b>a dog</b>", "a cat"]
    assert page.locator("figure b b, .words b").count() == 0


def test_what_is_typed_before_a_slow_answer_stays(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/collections", lambda route: held.append(route))
    with page.expect_request("**/v1/collections"):
        page.get_by_label("Collection").select_option("texts")
    page.get_by_label("Search", exact=True).fill("a dog")
    with page.expect_response("**/v1/collections"):
        held.pop().continue_()
    page.evaluate("() => new Promise(requestAnimationFrame)")
    page.keyboard.press("Enter")
    expect(page.locator("figure")).to_have_count(2)


def test_hits_as_json(page: Page) -> None:
    look_for(page, "a cat")
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    saved = json.loads(Path(download.value.path()).read_text())
    assert (saved["text"], [hit["id"] for hit in saved["hits"]]) == ("a cat", ids(page)[: len(saved["hits"])])
    assert download.value.suggested_filename == "pictures-hits.json"


def test_a_link_restores_the_search_picture_included(page: Page, browser: Browser) -> None:
    upload(page, PICTURES[7])
    page.get_by_label("Filter").fill("year < 50")
    look_for(page, "a cat")
    page.get_by_label("captions").check()
    page.get_by_role("button", name="Link").click()
    expect(page.get_by_role("status")).to_contain_text("link")
    with browser.new_context() as context:
        other = context.new_page()
        other.goto(page.url)
        expect(other.locator("figure")).to_have_count(40)
        other.locator("figure").last.scroll_into_view_if_needed()
        expect(other.locator("figure")).to_have_count(50)
        assert ids(other)[:40] == ids(page)[:40]
        expect(other.get_by_label("Filter")).to_have_value("year < 50")
        expect(other.get_by_alt_text("the picture that is searched for")).to_be_visible()
        expect(other.locator("figcaption").first).to_be_visible()


def focused(page: Page) -> str:
    return page.evaluate("document.activeElement.dataset.id || document.activeElement.id")


def test_keys(page: Page) -> None:
    look_for(page, "a cat")
    hits = ids(page)
    across = page.evaluate("getComputedStyle(document.getElementById('hits')).gridTemplateColumns.split(' ').length")
    for key, target in (
        ("ArrowDown", hits[0]),
        ("ArrowRight", hits[1]),
        ("ArrowDown", hits[1 + across]),
        ("ArrowUp", hits[1]),
        ("Escape", "text"),
        ("Tab", "file"),
    ):
        page.keyboard.press(key)
        assert focused(page) == target
    page.locator("figure button").nth(3).focus()
    page.keyboard.press("/")
    assert focused(page) == "text"
    page.locator("figure button").nth(3).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**like={hits[3]}**")


def test_the_reason_of_a_refusal_is_shown(browser: Browser, sidecar: Sidecar) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{sidecar.url}/#collection=pictures&text=a&filter=nope%20%3D%201")
        expect(page.get_by_role("status")).to_contain_text("No field named nope")


@pytest.mark.parametrize(("width", "columns"), [(360, 3), (1400, 8)])
@pytest.mark.parametrize(("scheme", "back"), [("light", "rgb(251, 251, 250)"), ("dark", "rgb(23, 24, 26)")])
def test_phone_and_desk_light_and_dark(
    browser: Browser, sidecar: Sidecar, width: int, columns: int, scheme: str, back: str
) -> None:
    with browser.new_context(viewport={"width": width, "height": 700}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(f"{sidecar.url}/#collection=pictures&text=a%20cat")
        expect(page.locator("figure")).not_to_have_count(0)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == back
        assert (
            page.evaluate("getComputedStyle(document.getElementById('hits')).gridTemplateColumns.split(' ').length") == columns
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_token_is_asked_for_and_pictures_come_with_it(browser: Browser, server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    with sidecars.running(tmp_path / "data", server.address, "--token-file", str(tmp_path / "token")) as sidecar:
        with sidecar.client(token="s3cret") as search:
            search.create("few")
            search.add("few", [Row(id="only", image=PICTURES[0])])
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(sidecar.url)
            expect(page.get_by_role("status")).to_contain_text("the token is missing or wrong")
            page.get_by_label("Token").fill("s3cret")
            look_for(page, "a cat")
            image = page.locator("figure img")
            expect(image).to_have_attribute("src", re.compile("^blob:"))
            expect(image).not_to_have_js_property("naturalWidth", 0)


def test_a_page_that_was_allowed_shows_thumbnails(browser: Browser, server: Server, tmp_path: Path) -> None:
    show = "url => { document.body.append(Object.assign(new Image(), {src: url})) }"
    with (
        http_files({"/": b"<title>a front end</title>"}) as site,
        browser.new_page() as page,
        sidecars.running(tmp_path, server.address, "--cors", site) as sidecar,
        sidecar.client() as search,
    ):
        search.create("few")
        search.add("few", [Row(id="only", image=PICTURES[0])])
        page.goto(site)
        with page.expect_response("**/thumbnails/0") as shown:
            page.evaluate(show, f"{sidecar.url}/v1/collections/few/thumbnails/0")
        assert shown.value.status == 200


def test_a_link_on_another_site_leads_to_the_page(browser: Browser, sidecar: Sidecar) -> None:
    link = f"<a href='{sidecar.url}/#collection=pictures'>search</a>".encode()
    with http_files({"/": link}) as site, browser.new_page() as page:
        page.goto(site)
        page.get_by_text("search").click()
        expect(page.get_by_role("status")).to_contain_text("Describe what you look for")
