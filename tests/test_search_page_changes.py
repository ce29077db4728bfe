"""The page in a real Chromium: true numbers after deletions and additions, and plain words on what can't be searched with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import browsers
import page_world
import pytest
from page_world import PICTURES, give, look_for, opened, status, tiles, upload
from playwright.sync_api import Browser, Page, expect
from servers import Server
from sidecars import Sidecar, base64_of

from clip_client.search import Row
from pictures import encoded, picture

pytestmark = pytest.mark.timeout(60, func_only=True)  # evaluate has no timeout of its own

PHONE = {"width": 390, "height": 844}
TRUNCATED = encoded(picture(300, 200, seed=1))[:-2000]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.running() as browser:
        yield browser


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with page_world.running(server, tmp_path_factory.mktemp("changes")) as sidecar:
        yield sidecar


@pytest.fixture
def few(sidecar: Sidecar) -> Iterator[str]:
    """A collection of three rows, which a test may change."""
    with sidecar.client() as search:
        search.create("few")
        search.add("few", [Row(id=f"p{n}", image=PICTURES[n], metadata={"caption": f"photo {n}"}) for n in range(3)])
        yield "few"
        search.drop("few")


def delete_first(page: Page) -> None:
    tiles(page).first.click()
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("dialog")).to_contain_text(
        "the next “clipserve up” or “search add” of its folder brings the row back"
    )
    page.get_by_role("button", name="Delete it").click()


def test_a_deletion_is_counted_everywhere_down_to_the_last_row(browser: Browser, sidecar: Sidecar, few: str) -> None:
    with opened(browser, sidecar, "#collection=few") as page:
        for left in ("2 rows", "1 row"):
            delete_first(page)
            expect(page.locator("#about")).to_contain_text(left)
            expect(page.locator("#collection option[value=few]")).to_have_text(f"few ({left[0]})")
        delete_first(page)
        expect(page.get_by_role("heading", name="This collection is empty")).to_be_visible()
        expect(status(page)).to_contain_text("is deleted. This collection is empty.")
        expect(page.locator("#collection option[value=few]")).to_have_text("few (0)")


def test_what_another_adds_is_counted_without_a_reload(browser: Browser, sidecar: Sidecar, few: str) -> None:
    with opened(browser, sidecar, "#collection=few&text=a%20cat") as page, sidecar.client() as search:
        expect(status(page)).to_contain_text("3 rows, nearest first")
        search.add("few", [Row(id="new", image=PICTURES[9])])
        look_for(page, "a dog")
        expect(status(page)).to_contain_text("4 rows, nearest first")
        expect(page.locator("#collection option[value=few]")).to_have_text("few (4)")
        search.delete("few", ["new", "p1", "p2"])
        page.evaluate("dispatchEvent(new Event('focus'))")
        expect(status(page)).to_contain_text("1 row, nearest first")


def test_an_addition_by_the_page_is_counted_everywhere(browser: Browser, sidecar: Sidecar, few: str) -> None:
    with opened(browser, sidecar, "#collection=few&text=a%20cat") as page:
        expect(status(page)).to_contain_text("3 rows")
        give(page, "drop", {"more.png": base64_of(PICTURES[30])})
        page.get_by_role("dialog").get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("1 added")
        expect(page.locator("#collection option[value=few]")).to_have_text("few (4)")
        expect(status(page)).to_contain_text("4 rows")


def test_a_group_of_duplicates_ends_with_its_last_pair(browser: Browser, sidecar: Sidecar) -> None:
    with sidecar.client() as search:
        search.create("pair")
        search.add("pair", [Row(id=f"{n}", image=PICTURES[5]) for n in range(2)])
    with opened(browser, sidecar, "#collection=pair&view=duplicates") as page:
        expect(page.locator("#near .group h3")).to_have_text(["2 rows"])
        page.locator("#near .open").first.click()
        page.get_by_role("button", name="Delete…").click()
        page.get_by_role("button", name="Delete it").click()
        expect(page.locator("#near .group")).to_have_count(0)
        expect(page.locator("#near")).to_contain_text("No near-duplicates are left.")
        expect(page.locator("#collection option[value=pair]")).to_have_text("pair (1)")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(TRUNCATED, "cut.jpg: the JPEG image can't be decoded (image file is truncated"), (b"some notes", "not a picture")],
)
def test_a_refused_picture_has_its_reason_and_no_hits_of_another(
    browser: Browser, sidecar: Sidecar, content: bytes, reason: str
) -> None:
    with opened(browser, sidecar, "#collection=pictures") as page:
        look_for(page, "a cat")
        upload(page, content, "cut.jpg")
        expect(status(page)).to_contain_text(reason)
        expect(tiles(page)).to_have_count(0)
        expect(page.locator("#parts li")).to_have_count(0)
        page.get_by_role("button", name="Search", exact=True).click()
        expect(tiles(page)).not_to_have_count(0)


def test_a_filter_alone_says_how_many_pass(browser: Browser, sidecar: Sidecar) -> None:
    with opened(browser, sidecar, "#collection=pictures&filter=year%20%3C%2070") as page:
        expect(status(page)).to_contain_text("70 of 100 rows pass, 60 of them shown.")
        page.get_by_label("Filter").fill("year = 7")
        page.keyboard.press("Enter")
        expect(status(page)).to_contain_text("1 of 100 rows passes. Describe what you look for")


@pytest.mark.parametrize("words", ["iphone", "red car", "IMG_2041.jpg"])
def test_bare_words_in_the_filter_are_answered_with_the_condition_that_is_meant(
    browser: Browser, sidecar: Sidecar, words: str
) -> None:
    with opened(browser, sidecar, "#collection=pictures") as page:
        page.get_by_label("Filter").fill(words)
        page.keyboard.press("Enter")
        expect(status(page)).to_contain_text(f"to look for words in names: id ILIKE '%{words}%'")


def test_a_file_that_is_gone_is_said_in_plain_words(browser: Browser, sidecar: Sidecar, tmp_path: Path) -> None:
    folder = Path(page_source(sidecar)).parent
    with sidecar.client() as search:
        search.create("lost")
        search.add("lost", [Row(id="a", image=PICTURES[0], source=str(folder / "a.jpg"))])
    with opened(browser, sidecar, "#collection=lost") as page:
        tiles(page).first.click()
        said = f"Only the small picture can be shown: this file no longer exists: {folder}/a.jpg"
        expect(page.get_by_role("dialog").get_by_role("status")).to_have_text(said)


def page_source(sidecar: Sidecar) -> str:
    with sidecar.client() as search:
        return str(search.get("pictures", ["p0"])[0]["source"])


@pytest.mark.parametrize("options", [{}, {"viewport": PHONE, "has_touch": True}])
def test_search_can_be_pressed_and_home_is_a_house(browser: Browser, sidecar: Sidecar, options: dict[str, object]) -> None:
    with opened(browser, sidecar, "#collection=pictures", **options) as page:
        page.get_by_label("Search", exact=True).fill("a cat")
        page.get_by_role("button", name="Search", exact=True).click()
        expect(status(page)).to_contain_text("nearest first")
        assert page.locator("#home circle").count() == 0
        box = page.get_by_label("Search", exact=True).bounding_box()
        assert box
        assert box["width"] > 120
        page.get_by_role("button", name=re.compile("Start page")).click()
        expect(page.get_by_role("region", name="Start")).to_be_visible()
