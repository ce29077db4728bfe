"""The page in a real Chromium: what it shows beside hits, a hit in full, additions, near-duplicates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import browsers
import page_world
import pytest
from page_world import COUNT, PICTURES, give, ids, look_for, opened, status, tiles, upload
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from servers import Server
from sidecars import Sidecar, base64_of

from clip_client.search import Row, Term
from pictures import encoded, picture

pytestmark = pytest.mark.timeout(60, func_only=True)  # evaluate and a download's path have no timeout of their own

HUGE = (20_000, 10_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.running() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("views")


@pytest.fixture(scope="module")
def sidecar(server: Server, folder: Path) -> Iterator[Sidecar]:
    with page_world.running(server, folder) as sidecar:
        yield sidecar


@pytest.fixture
def page(browser: Browser, sidecar: Sidecar) -> Iterator[Page]:
    with opened(browser, sidecar, "#collection=pictures") as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        expect(status(page)).to_contain_text("Describe what you look for")
        yield page


def open_first(page: Page) -> str:
    id = ids(page)[0]
    tiles(page).first.click()
    expect(page.locator(".frame")).to_have_attribute("aria-busy", "false")
    return id


def test_a_start_shows_rows_examples_model_and_the_indexs_recall(page: Page) -> None:
    start = page.get_by_role("region", name="Start")
    expect(start.get_by_role("heading", name="pictures")).to_be_visible()
    expect(start).to_contain_text(f"{COUNT} rows")
    expect(start).to_contain_text("model clip")
    expect(start).to_contain_text(re.compile("searched exactly|of an exact search"))
    assert "recall" not in start.inner_text().lower()
    assert len(ids(page)) > 10
    before = ids(page)
    start.get_by_role("button", name="Others").click()
    expect(tiles(page).first).not_to_have_attribute("data-id", before[0])
    start.get_by_label("Rows shown before a search").select_option("newest")
    expect(page).to_have_url(re.compile("order=newest"))
    example = start.get_by_role("list", name="Example searches").get_by_role("button").first
    words = example.inner_text()
    assert re.fullmatch(r"picture \d+", words)
    example.click()
    expect(page.get_by_label("Search", exact=True)).to_have_value(words)
    expect(status(page)).to_contain_text("nearest first")
    page.get_by_role("button", name="Start page of the search").click()
    expect(start).to_be_visible()


def test_a_notice_stands_beside_the_collection(browser: Browser, sidecar: Sidecar) -> None:
    notice = f"<img src=x onerror={page_world.SCRIPT}> It knows drawings alone." + " More." * 2000
    with opened(browser, sidecar) as page:
        page.route("**/v1/collections", lambda route: route.fulfill(json=_with_notice(route.fetch().json(), notice)))
        page.reload()
        expect(page.locator("#notice")).to_contain_text("<img src=x onerror=window.hacked=1> It knows drawings alone.")
        expect(page.locator("#notice p")).to_be_hidden()
        assert page.locator("#notice").bounding_box()["height"] < 120
        assert page.evaluate("window.hacked") is None


def _with_notice(content: dict, notice: str) -> dict:
    return {"collections": [{**each, "notice": notice} for each in content["collections"]]}


def test_a_hit_opens_in_full_with_its_columns(page: Page, folder: Path) -> None:
    look_for(page, "a cat")
    id = open_first(page)
    dialog, n = page.get_by_role("dialog"), int(id[1:])
    image = dialog.locator(".frame img")
    expect(image).to_have_js_property("naturalWidth", 64 + n % 7)
    for text in (str(folder / "pictures" / f"{id}.png"), f"picture {n}", page_world.GENRES[n % 3], "score"):
        expect(dialog.locator("dl")).to_contain_text(text)
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading")).not_to_have_text(f"picture {n}")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.dataset.id") == ids(page)[1]


def test_a_hit_leads_to_more_and_to_less_like_it(page: Page, sidecar: Sidecar) -> None:
    look_for(page, "a cat")
    id = open_first(page)
    page.get_by_role("button", name="Less like this").click()
    expect(page.locator("#parts li.minus .noun")).to_have_text(f"like {id}")
    expect(status(page)).to_contain_text(" ms")
    with sidecar.client() as search:
        less = [hit.id for hit in search.query("pictures", [Term(text="a cat")], minus=[Term(id=id)], k=5)]
    assert ids(page)[:5] == less
    id = open_first(page)
    page.get_by_role("button", name="More like this", exact=True).click()
    expect(page.locator("#parts .noun")).to_have_text(f"like {id}")


def test_a_hits_file_is_downloaded_and_its_path_copied(page: Page, folder: Path) -> None:
    look_for(page, "a cat")
    id = open_first(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == f"{id}.png"
    assert Path(download.value.path()).read_bytes() == PICTURES[int(id[1:])]
    page.get_by_role("button", name="Copy path").click()
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text("The path is copied.")
    assert page.evaluate("navigator.clipboard.readText()") == str(folder / "pictures" / f"{id}.png")


def test_a_file_that_is_gone_is_said_and_the_small_picture_stays(page: Page, folder: Path) -> None:
    look_for(page, "a cat")
    (folder / "pictures" / f"{ids(page)[0]}.png").rename(folder / "moved.png")
    id = open_first(page)
    expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("Only the small picture can be shown")
    expect(page.locator(".frame img")).to_be_visible()
    page.get_by_role("button", name="Download").click()
    expect(page.get_by_role("dialog").get_by_role("status")).not_to_contain_text("Only the small")
    (folder / "moved.png").rename(folder / "pictures" / f"{id}.png")


def test_a_deletion_is_asked_for_and_keeps_the_file(browser: Browser, sidecar: Sidecar, folder: Path) -> None:
    with opened(browser, sidecar, "#collection=twins&text=a%20cat") as page:
        expect(tiles(page)).to_have_count(7)
        with sidecar.client() as search:
            search.add("twins", [Row(id="..", image=PICTURES[50])])
        page.reload()
        expect(tiles(page)).to_have_count(8)
        page.locator(".open[data-id='..']").click()
        page.get_by_role("button", name="Delete…").click()
        expect(page.get_by_role("button", name="Keep it")).to_be_focused()
        page.get_by_role("button", name="Keep it").click()
        expect(page.get_by_role("button", name="Delete…")).to_be_focused()
        page.get_by_role("button", name="Delete…").click()
        page.get_by_role("button", name="Delete it").click()
        expect(status(page)).to_have_text(".. is deleted.")
        expect(tiles(page)).to_have_count(7)
        assert page.evaluate("document.activeElement.className") == "open"
    with sidecar.client() as search:
        assert search.stats("twins")["rows"] == 7


def test_a_picture_of_200_megapixels_is_opened_scaled_and_not_searched_with(
    browser: Browser, sidecar: Sidecar, folder: Path
) -> None:
    (folder / "pictures" / "huge.png").write_bytes(encoded(Image.new("1", HUGE), "PNG"))
    with sidecar.client() as search:
        search.create("huge")
        source = str(folder / "pictures" / "huge.png")
        search.add("huge", [Row(id="huge", image=PICTURES[0], source=source)])
    with opened(browser, sidecar, "#collection=huge&text=a%20cat") as page:
        expect(tiles(page)).to_have_count(1)
        open_first(page)
        assert page.locator(".frame img").evaluate("image => image.naturalWidth * image.naturalHeight") <= 4096 * 4096
        page.keyboard.press("Escape")
        upload(page, (folder / "pictures" / "huge.png").read_bytes(), "huge.png")
        expect(status(page)).to_contain_text("huge.png: the image has 20000 x 10000 pixels, at most 100,000,000 are taken")


def test_what_is_dropped_is_searched_with_or_added(page: Page, sidecar: Sidecar) -> None:
    give(page, "drop", {"a.png": base64_of(PICTURES[9])})
    page.get_by_role("dialog").get_by_role("button", name="Search with it").click()
    expect(tiles(page).first).to_have_attribute("data-id", "p9")
    files = {f"new {n}.png": base64_of(encoded(picture(80, 60, seed=500 + n), "PNG")) for n in range(3)}
    give(page, "drop", {**files, "p9": base64_of(PICTURES[9]), "broken.png": base64_of(b"no picture"), "empty.png": ""})
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Collection to add to").select_option("a new collection…")
    dialog.get_by_label("Name of the new collection").fill("dropped")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("status")).to_have_text("read 6 = 4 added + 0 there already + 2 left out")
    reasons = dialog.get_by_role("list", name="Files that were left out")
    expect(reasons).to_contain_text("broken.png")
    expect(reasons).to_contain_text("empty.png the file is empty")
    dialog.get_by_role("button", name="Show the collection").click()
    expect(page.get_by_label("Collection")).to_have_value("dropped")
    expect(tiles(page)).to_have_count(4)
    give(page, "drop", {**files, "again.png": base64_of(PICTURES[3])})
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("status")).to_have_text("read 4 = 1 added + 3 there already + 0 left out")
    with sidecar.client() as search:
        assert search.stats("dropped")["rows"] == 5
        search.drop("dropped")


def test_pictures_are_added_without_a_mouse(page: Page, sidecar: Sidecar) -> None:
    page.get_by_role("button", name="Add", exact=True).click()
    new = {"name": "chosen.png", "mimeType": "image/png", "buffer": encoded(picture(80, 60, seed=900), "PNG")}
    page.get_by_label("Pictures to add").set_input_files([new])
    page.get_by_role("dialog").get_by_label("Collection to add to").select_option("twins")
    page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text("read 1 = 1 added + 0 there already + 0 left out")
    with sidecar.client() as search:
        assert search.delete("twins", ["chosen.png"]) == 1


def test_near_duplicates_are_groups(page: Page) -> None:
    page.get_by_label("Collection").select_option("twins")
    page.get_by_role("button", name="Near-duplicates").click()
    expect(status(page)).to_contain_text("2 groups of near-duplicates, 7 rows compared")
    expect(page.locator("#near .group h3")).to_have_text(["4 rows", "2 rows"])
    page.locator("#near .open").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#near .open").first).to_be_focused()
    page.get_by_label("Least likeness").fill("1")
    expect(page).to_have_url(re.compile("near=1"))
    page.get_by_role("button", name="Back to the search").click()
    expect(page.get_by_role("region", name="Start")).to_be_visible()
