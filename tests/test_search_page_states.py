"""The page in a real Chromium: when something is missing, when content is hostile, and what axe-core says of each state."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe
import browsers
import page_world
import pytest
import sidecars
from page_world import CAPTIONS, IDS, PICTURES, give, ids, look_for, opened, status, tiles, upload
from playwright.sync_api import Browser, Page, expect
from servers import Server, http_files
from sidecars import Sidecar, base64_of

from clip_client.search import Row

pytestmark = pytest.mark.timeout(60, func_only=True)  # evaluate and a download's path have no timeout of their own

DESK, PHONE = {"width": 1000, "height": 600}, {"width": 320, "height": 640}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.running() as browser:
        yield browser


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with page_world.running(server, tmp_path_factory.mktemp("states")) as sidecar:
        yield sidecar


def test_a_token_is_asked_for_and_pictures_come_with_it(browser: Browser, server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    with sidecars.running(tmp_path / "data", server.address, "--token-file", str(tmp_path / "token")) as sidecar:
        with sidecar.client(token="s3cret") as search:
            search.create("few")
            search.add("few", [Row(id="only", image=PICTURES[0])])
        with opened(browser, sidecar) as page:
            expect(status(page)).to_contain_text("the token is missing or wrong")
            expect(page.get_by_label("Token")).to_be_focused()
            assert axe.violations(page) == []
            page.get_by_label("Token").fill("gehéim")
            page.keyboard.press("Enter")
            expect(status(page)).to_contain_text("a character that no request can carry")
            page.get_by_label("Token").fill("s3cret")
            page.keyboard.press("Enter")
            expect(page.get_by_label("Token")).to_be_hidden()
            image = tiles(page).locator("img")
            expect(image).to_have_attribute("src", re.compile("^blob:"))
            expect(image).not_to_have_js_property("naturalWidth", 0)
            tiles(page).first.click()
            page.get_by_role("button", name="Delete…").click()
            page.get_by_role("button", name="Delete it").click()
            expect(status(page)).to_have_text("only is deleted. This collection is empty.")
            assert "s3cret" not in page.content() + page.url


def test_a_collection_that_is_gone_is_said_and_not_replaced(browser: Browser, sidecar: Sidecar) -> None:
    with opened(browser, sidecar, "#collection=lost&text=a%20cat") as page:
        expect(page.get_by_role("heading", name="This collection is gone")).to_be_visible()
        expect(page.get_by_label("Collection", exact=True)).to_have_value("lost")
        expect(tiles(page)).to_have_count(0)
        page.locator("#state").get_by_role("button", name="pictures").click()
        expect(status(page)).to_contain_text("100 rows")
    with sidecar.client() as search:
        search.create("passing")
        search.add("passing", [Row(id="a", image=PICTURES[0])])
        with opened(browser, sidecar, "#collection=passing") as page:
            expect(tiles(page)).to_have_count(1)
            search.drop("passing")
            page.get_by_label("Search", exact=True).fill("a cat")
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", name="This collection is gone")).to_be_visible()


def test_a_collection_that_somebody_made_a_moment_ago_is_searched(browser: Browser, sidecar: Sidecar) -> None:
    with opened(browser, sidecar, "#collection=pictures") as page, sidecar.client() as search:
        expect(status(page)).to_contain_text("Describe")
        search.create("new", columns={"kind": "string"})
        try:
            search.add("new", [Row(id=f"p{n}", image=PICTURES[n], metadata={"kind": ("art", "map")[n % 2]}) for n in range(4)])
            page.evaluate("location.hash = '#collection=new'")
            expect(tiles(page)).to_have_count(4)
            expect(page.get_by_label("Collection", exact=True)).to_have_value("new")
            page.get_by_role("button", name="Columns").click()
            expect(page.get_by_role("region", name="Columns").get_by_label("art")).to_be_visible()
        finally:
            search.drop("new")


def test_the_page_goes_on_once_the_sidecar_answers_again(browser: Browser, sidecar: Sidecar) -> None:
    with opened(browser, sidecar, "#collection=pictures") as page:
        expect(status(page)).to_contain_text("Describe")
        page.context.set_offline(True)
        page.get_by_label("Search", exact=True).fill("a cat")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="The sidecar doesn't answer")).to_be_visible()
        assert page.evaluate("document.activeElement.id") == "text"
        page.context.set_offline(False)
        expect(status(page)).to_contain_text("100 rows")
        expect(page.get_by_role("heading", name="The sidecar doesn't answer")).to_be_hidden()


def test_a_model_that_is_down_is_named_and_more_like_this_goes_on(browser: Browser, tmp_path: Path, spec: Any) -> None:
    with sidecars.running(tmp_path, "127.0.0.1:9") as sidecar, sidecar.client() as search:
        search.create("vectors", dimension=32, fingerprint="a")
        search.add("vectors", [Row(id=f"v{n}", vector=vector) for n, vector in enumerate(sidecars.unit(3))])
        with opened(browser, sidecar, "#collection=vectors&text=a%20cat") as page:
            expect(page.get_by_role("heading", name="The model isn't ready")).to_be_visible()
            expect(page.locator("#state")).to_contain_text("127.0.0.1:9")
            page.goto(f"{sidecar.url}/#collection=vectors&like=v1")
            expect(tiles(page)).to_have_count(2)


def test_without_a_collection_the_page_says_how_to_begin(browser: Browser, server: Server, tmp_path: Path) -> None:
    with sidecars.running(tmp_path, server.address) as sidecar, opened(browser, sidecar) as page:
        expect(page.get_by_role("heading", name="No collection yet")).to_be_visible()
        give(page, "drop", {"a.png": base64_of(PICTURES[0])})
        page.get_by_label("Name of the new collection").fill("mine")
        page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
        page.get_by_role("button", name="Show the collection").click()
        expect(tiles(page)).to_have_count(1)


def test_hostile_names_captions_and_columns_are_text(browser: Browser, sidecar: Sidecar) -> None:
    with opened(browser, sidecar, "#collection=hostile&text=a%20cat&captions=1") as page:
        expect(tiles(page)).to_have_count(len(IDS))
        assert sorted(ids(page)) == sorted(IDS)
        captions = page.locator("#hits .caption").all_inner_texts()
        for expected in (CAPTIONS[0], CAPTIONS[1], "\ufffdgpj.exe", "one two three", CAPTIONS[6], CAPTIONS[7]):
            assert any(expected in caption for caption in captions), expected
        assert max(len(caption) for caption in captions) < 330
        page.get_by_role("button", name="Columns", exact=True).click() if page.locator("#narrow:visible").count() else None
        for n in range(len(IDS)):
            tiles(page).nth(n).click()
            expect(page.locator("#viewer dt", has_text="note")).to_be_visible()
            page.keyboard.press("Escape")
        page.get_by_label("Order").select_option("note")
        expect(status(page)).to_contain_text("by note")
        assert page.evaluate("window.hacked") is None
        assert page.locator("script").count() == 1
        assert page.locator("#hits script, #hits b b, #viewer script, main img[onerror], main i").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1000


@pytest.mark.parametrize(
    "address",
    [
        "#collection=pictures&text=%3Cimg%20src%3Dx%20onerror%3Dwindow.hacked%3D1%3E&weights=NaN,-1,1e999&share=x&near=9&view=x",
        "#collection=%3Cscript%3Ewindow.hacked%3D1%3C/script%3E&text=a",
        "#collection=pictures&url=javascript:window.hacked%3D1&-text=%3Cb%3E&sort=%22%3E%3Cb%3E",
        "#collection=pictures&q=../../v1/x&facets=%7B%22__proto__%22%3A%7B%22from%22%3A1%7D,%22year%22%3A%5B%7B%7D%5D%7D",
        "#__proto__=1&constructor=2&toString=3&text=a&filter=" + "x" * 3000,
        "#collection=pictures&image=data:text/html,%3Cscript%3Ewindow.hacked%3D1%3C/script%3E&like=" + "y" * 3000,
    ],
)
def test_a_hostile_link_runs_nothing(browser: Browser, sidecar: Sidecar, address: str) -> None:
    with opened(browser, sidecar, address) as page:
        expect(status(page)).not_to_be_empty()
        expect(page.locator("#hits")).to_have_attribute("aria-busy", "false")
        assert page.evaluate("window.hacked") is None
        assert page.locator("main b:not(.caption b), main script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 1000


def test_what_a_browser_stored_is_no_code_either(browser: Browser, sidecar: Sidecar) -> None:
    with opened(browser, sidecar, "#collection=pictures") as page:
        entries = (
            '[{"hash": "javascript:window.hacked=1", "title": "<img src=x onerror=window.hacked=1>"}, {"title": 1}, null, 7]'
        )
        page.evaluate(
            "entries => { localStorage.setItem('clipserve.saved', entries); localStorage.setItem('clipserve.recent', '{'); }",
            entries,
        )
        page.get_by_role("button", name="Searches").click()
        expect(page.get_by_role("list", name="Saved searches").get_by_role("listitem")).to_have_count(0)
        assert page.evaluate("window.hacked") is None


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
        expect(status(page)).to_contain_text("Describe what you look for")


def test_nothing_comes_from_elsewhere(browser: Browser, sidecar: Sidecar) -> None:
    with opened(browser, sidecar) as page:
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add("/".join(request.url.split("/")[:3])))
        for path in ("/", "/docs"):
            page.goto(sidecar.url + path, wait_until="networkidle")
        assert {host for host in hosts if host.startswith("http")} == {sidecar.url}


@pytest.mark.long
@pytest.mark.timeout(300, func_only=True)  # 51 audits
def test_axe_finds_nothing_in_any_state_light_dark_and_on_a_phone(browser: Browser, sidecar: Sidecar) -> None:
    with opened(browser, sidecar, "#collection=pictures") as page:
        faults = {}
        for state, show in STATES.items():
            show(page)
            faults[state] = _faults(page)
        assert {state: each for state, each in faults.items() if each} == {}


def _faults(page: Page) -> list[str]:
    faults = axe.violations(page)
    page.emulate_media(color_scheme="dark")
    faults += [f"dark: {fault}" for fault in axe.violations(page, "color-contrast")]
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)
    faults += [f"phone: {fault}" for fault in axe.violations(page)]
    end = time.monotonic() + 10
    while (width := page.evaluate("document.documentElement.scrollWidth")) > PHONE["width"] and time.monotonic() < end:
        page.wait_for_timeout(50)  # the grid follows the window a moment later; the page's policy forbids to wait inside it
    page.set_viewport_size(DESK)
    return faults + ([f"phone: {width} pixels wide"] if width > PHONE["width"] else [])


def _start(page: Page) -> None:
    expect(tiles(page).first).to_be_visible()
    expect(page.get_by_role("region", name="Start")).to_be_visible()


def _hits(page: Page) -> None:
    page.get_by_label("captions").check()
    look_for(page, "a cat")


def _mix(page: Page) -> None:
    upload(page, PICTURES[3])
    expect(page.locator("#parts li")).to_have_count(2)
    page.get_by_role("button", name="− without…").click()
    page.get_by_label("Words", exact=True).fill("a dog")
    page.keyboard.press("Enter")
    expect(page.locator("#parts li")).to_have_count(3)
    page.get_by_role("button", name="+ with…").click()


def _facets(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Columns")).click()
    page.get_by_label("jazz").check()
    expect(status(page)).to_contain_text("34 of 100")


def _completing(page: Page) -> None:
    page.get_by_label("Filter").fill("")
    page.get_by_label("Filter").press_sequentially("y")
    page.keyboard.press("ArrowDown")


def _wrong_filter(page: Page) -> None:
    page.get_by_label("Filter").fill("nope = 1")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Filter")).to_have_attribute("aria-invalid", "true")


def _busy(page: Page) -> None:
    page.route("**/search", lambda route: None)
    page.get_by_label("Filter").fill("year < 50")
    page.keyboard.press("Enter")
    expect(page.locator("#hits .skeleton").first).to_be_visible()
    page.unroute("**/search")


def _viewer(page: Page) -> None:
    page.goto(page.url.split("#")[0] + "#collection=hostile&text=a")
    expect(tiles(page)).not_to_have_count(0)
    tiles(page).first.click()
    expect(page.locator(".frame")).to_have_attribute("aria-busy", "false")


def _deletion(page: Page) -> None:
    page.get_by_role("button", name="Delete…").click()


def _adding(page: Page) -> None:
    page.keyboard.press("Escape")
    give(page, "drop", {"broken.png": base64_of(b"no picture")})
    expect(page.get_by_role("dialog")).to_be_visible()


def _added(page: Page) -> None:
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("1 left out")


def _searches(page: Page) -> None:
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Searches").click()


def _near(page: Page) -> None:
    page.keyboard.press("Escape")
    page.goto(page.url.split("#")[0] + "#collection=twins&view=duplicates")
    expect(page.locator("#near .group")).to_have_count(2)


def _nothing(page: Page) -> None:
    page.goto(page.url.split("#")[0] + "#collection=pictures&text=a&threshold=1")
    expect(page.get_by_role("heading", name="Nothing passes")).to_be_visible()


def _empty(page: Page) -> None:
    page.goto(page.url.split("#")[0] + "#collection=empty")
    expect(page.get_by_role("heading", name="This collection is empty")).to_be_visible()


def _gone(page: Page) -> None:
    page.goto(page.url.split("#")[0] + "#collection=gone")
    expect(page.get_by_role("heading", name="This collection is gone")).to_be_visible()


def _offline(page: Page) -> None:
    page.context.set_offline(True)
    page.evaluate("location.hash = '#collection=pictures&text=b'")
    expect(page.get_by_role("heading", name="The sidecar doesn't answer")).to_be_visible()


STATES = {
    "start": _start,
    "hits": _hits,
    "mix": _mix,
    "facets": _facets,
    "completing": _completing,
    "wrong filter": _wrong_filter,
    "busy": _busy,
    "viewer": _viewer,
    "deletion": _deletion,
    "adding": _adding,
    "added": _added,
    "searches": _searches,
    "near": _near,
    "nothing": _nothing,
    "empty": _empty,
    "gone": _gone,
    "offline": _offline,
}
