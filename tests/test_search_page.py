"""The page in a real Chromium: searching, its options, links and keys; nothing on the console."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import browsers
import numpy as np
import page_world
import pytest
from page_world import COUNT, PICTURES, give, ids, look_for, opened, status, tiles, upload
from playwright.sync_api import Browser, Page, Request, Route, expect
from servers import Server, http_files
from sidecars import Sidecar, base64_of

from clip_client import Clip
from clip_client.search import Row, Term

COLUMNS = (
    """new Set([...document.querySelectorAll("#hits li")].map((each) => Math.round(each.getBoundingClientRect().left))).size"""
)
"""Expression for the number of columns of the grid."""

pytestmark = pytest.mark.timeout(60, func_only=True)  # evaluate and a download's path have no timeout of their own


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.running() as browser:
        yield browser


@pytest.fixture(scope="module")
def sidecar(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with page_world.running(server, tmp_path_factory.mktemp("page")) as sidecar:
        yield sidecar


@pytest.fixture
def page(browser: Browser, sidecar: Sidecar) -> Iterator[Page]:
    with opened(browser, sidecar, "#collection=pictures") as page:
        expect(status(page)).to_contain_text("Describe what you look for")
        yield page


def expected(sidecar: Sidecar, *terms: Term, **options: object) -> list[str]:
    with sidecar.client() as search:
        return [hit.id for hit in search.query("pictures", terms, k=COUNT, **options)]


def options(page: Page, label: str) -> list[str]:
    return page.get_by_label(label).locator("option").all_inner_texts()


def test_a_text_finds_and_scrolling_finds_more(page: Page, sidecar: Sidecar) -> None:
    look_for(page, "a cat")
    expect(status(page)).to_contain_text(f"{COUNT} rows, nearest first")
    seen: list[str] = []
    for _ in range(30):
        seen += [id for id in ids(page) if id not in seen]
        page.mouse.wheel(0, 400)
        page.evaluate("() => new Promise(requestAnimationFrame)")
    assert seen == expected(sidecar, Term(text="a cat"))
    expect(tiles(page).last.locator("img")).not_to_have_js_property("naturalWidth", 0)


def test_the_first_hits_come_within_100_ms(page: Page) -> None:
    look_for(page, "anything")
    times = []
    for n in range(7):
        page.get_by_label("Search", exact=True).fill(f"words {n} that nobody asked for")
        page.evaluate(
            """() => new Promise((begun) => {
                addEventListener("keydown", () => {
                    const start = performance.now();
                    window.wait = new Promise((shown) => new MutationObserver((_, self) => {
                        if (!document.querySelector("#hits [aria-posinset]")) return;
                        self.disconnect();
                        shown(performance.now() - start);
                    }).observe(document.getElementById("hits"), { childList: true }));
                }, { once: true, capture: true });
                begun();
            })"""
        )
        page.keyboard.press("Enter")
        times.append(page.evaluate("window.wait"))
    assert min(times) < 100, times


def test_captions_and_scores_on_demand(page: Page) -> None:
    look_for(page, "a cat")
    first = page.locator("#hits .caption").first
    expect(first).to_be_hidden()
    page.get_by_label("captions").check()
    expect(first).to_be_visible()
    assert "picture" in first.inner_text()
    assert first.locator("b").inner_text()[-4] == "."


def test_more_like_this_and_back(page: Page, sidecar: Sidecar) -> None:
    look_for(page, "a cat")
    before = ids(page)
    tiles(page).nth(2).focus()
    page.keyboard.press("m")
    page.wait_for_url("**like=*")
    expect(status(page)).to_contain_text(" ms")
    assert ids(page)[:10] == expected(sidecar, Term(id=before[2]))[:10]
    page.go_back()
    expect(page.get_by_label("Search", exact=True)).to_have_value("a cat")
    expect(tiles(page).first).to_have_attribute("data-id", before[0])


def test_a_filter_and_how_many_pass(page: Page) -> None:
    page.get_by_label("Filter").fill("year >= 90 AND year < 95")
    look_for(page, "a cat")
    expect(status(page)).to_contain_text("5 of 100 rows pass")
    assert set(ids(page)) == {f"p{n}" for n in range(90, 95)}


def test_the_filter_completes_columns_and_values_with_the_keyboard(page: Page) -> None:
    box = page.get_by_label("Filter")
    box.press_sequentially("ye")
    offered = page.get_by_role("option", name="year", exact=True)
    expect(offered).to_be_visible()
    expect(box).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowDown")
    expect(offered).to_have_attribute("aria-selected", "true")
    expect(box).to_have_attribute("aria-activedescendant", offered.get_attribute("id"))
    page.keyboard.press("Enter")
    expect(box).to_have_value("year")
    expect(page.get_by_role("listbox")).to_be_hidden()
    box.fill("genre = 'it")
    box.press("ArrowLeft")
    box.press("End")
    page.keyboard.type("'")
    page.keyboard.press("Backspace")
    page.get_by_role("option", name="it''s folk'").click()
    expect(box).to_have_value("genre = 'it''s folk'")
    expect(box).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#hits [aria-setsize='33']").first).to_be_visible()


def test_a_filters_error_names_the_collections_columns_and_marks_the_box(page: Page) -> None:
    page.get_by_label("Filter").fill("nope = 1")
    page.get_by_label("Search", exact=True).fill("a cat")
    page.keyboard.press("Enter")
    for word in ("nope", "caption", "genre", "year"):
        expect(status(page)).to_contain_text(word)
    expect(page.get_by_label("Filter")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Filter").fill("year = 1")
    page.keyboard.press("Enter")
    expect(status(page)).to_contain_text("1 of 100 rows pass")
    expect(page.get_by_label("Filter")).not_to_have_attribute("aria-invalid", "true")


def test_columns_are_facets_of_the_data(page: Page) -> None:
    look_for(page, "a cat")
    page.get_by_role("button", name="Columns", exact=True).click()
    facets = page.get_by_role("region", name="Columns")
    expect(facets.get_by_role("group", name="caption")).to_have_count(0)  # no two rows share a value
    facets.get_by_label("jazz").check()
    expect(status(page)).to_contain_text("34 of 100 rows pass")
    expect(facets.get_by_label("jazz")).to_be_focused()
    facets.get_by_label("it's folk").check()
    expect(status(page)).to_contain_text("67 of 100 rows pass")
    facets.get_by_label("year from").fill("90")
    facets.get_by_label("year from").press("Enter")
    expect(status(page)).to_contain_text("7 of 100 rows pass")
    assert {int(id[1:]) for id in ids(page)} == {n for n in range(90, 100) if n % 3 != 1}
    page.reload()
    expect(status(page)).to_contain_text("7 of 100 rows pass")
    page.get_by_role("button", name="Columns (2)").click()
    facets.get_by_role("button", name="Show all").click()
    expect(status(page)).to_contain_text("100 rows")


def test_a_choice_of_a_column_that_is_gone_is_said(browser: Browser, sidecar: Sidecar) -> None:
    choice = "%7B%22gone%22%3A%5B%22x%22%5D%7D"
    with opened(browser, sidecar, f"#collection=pictures&text=a%20cat&facets={choice}") as page:
        expect(status(page)).to_contain_text("No field named gone")
        page.get_by_role("button", name="Columns (1)").click()
        page.get_by_role("button", name="Show all").click()
        expect(status(page)).to_contain_text("100 rows")


def test_a_threshold_keeps_what_is_near_enough(page: Page, sidecar: Sidecar) -> None:
    look_for(page, "a cat")
    with sidecar.client() as search:
        scores = [hit.score for hit in search.query("pictures", [Term(text="a cat")], k=COUNT)]
    threshold = round((scores[9] + scores[10]) / 2, 5)
    page.get_by_label("Least score").fill(str(threshold))
    page.get_by_label("Least score").press("Enter")
    expect(status(page)).to_contain_text("10 of 100 rows pass")
    page.get_by_label("Least score").fill("1")
    page.get_by_label("Least score").press("Enter")
    expect(page.get_by_role("heading", name="Nothing passes")).to_be_visible()
    page.get_by_role("button", name="Any score").click()
    expect(status(page)).to_contain_text("100 rows")


def test_the_order_is_by_score_or_by_a_column(page: Page) -> None:
    look_for(page, "a cat")
    assert options(page, "Order")[:3] == ["nearest first", "caption ↑", "caption ↓"]
    page.get_by_label("Order").select_option("-year")
    expect(tiles(page).first).to_have_attribute("data-id", "p99")
    expect(status(page)).to_contain_text("by year")
    page.get_by_label("Order").select_option("year")
    expect(tiles(page).first).to_have_attribute("data-id", "p0")


def test_duplicates_are_folded(page: Page) -> None:
    page.get_by_label("Collection").select_option("twins")
    look_for(page, "a cat")
    expect(tiles(page)).to_have_count(7)
    page.get_by_label("fold duplicates").check()
    expect(tiles(page)).to_have_count(3)
    expect(status(page)).to_contain_text("duplicates folded")


def test_a_picture_by_upload_and_its_removal(page: Page) -> None:
    upload(page, PICTURES[7])
    expect(tiles(page).first).to_have_attribute("data-id", "p7")
    expect(page.get_by_alt_text("the picture that is searched for")).to_be_visible()
    page.get_by_label("Remove the picture").click()
    expect(page.get_by_role("region", name="Start")).to_be_visible()


def test_a_picture_by_paste(page: Page) -> None:
    give(page, "paste", {"a.png": base64_of(PICTURES[9])})
    expect(tiles(page).first).to_have_attribute("data-id", "p9")


@pytest.mark.parametrize(("way", "type"), [("paste", "text/plain"), ("drop", "text/uri-list")])
def test_an_address_that_is_given_becomes_a_picture(page: Page, way: str, type: str) -> None:
    with http_files({"/a.png": PICTURES[11]}) as site:
        give(page, way, {}, {type: f"{site}/a.png"})
        expect(tiles(page).first).to_have_attribute("data-id", "p11")
        assert "url=" in page.url
        give(page, way, {}, {type: f"{site}/none.png"})
        expect(status(page)).to_contain_text("404")


def test_an_address_that_is_typed_becomes_a_picture(page: Page) -> None:
    with http_files({"/a.png": PICTURES[12]}) as site:
        page.get_by_label("Search", exact=True).fill(f"{site}/a.png")
        page.keyboard.press("Enter")
        expect(tiles(page).first).to_have_attribute("data-id", "p12")
        expect(page.get_by_label("Search", exact=True)).to_have_value("")


def test_a_file_that_is_no_picture(page: Page) -> None:
    upload(page, b"no picture")
    expect(status(page)).to_contain_text("a.png: not a picture that can be read: 10 bytes that start with")


def test_parts_of_a_mix_are_weighted_turned_and_removed(page: Page, clip: Clip, sidecar: Sidecar) -> None:
    upload(page, PICTURES[7])
    expect(tiles(page).first).to_have_attribute("data-id", "p7")
    look_for(page, "a cat")
    weight = page.get_by_label("Weight of words a cat")
    weight.fill("0")
    expect(tiles(page).first).to_have_attribute("data-id", "p7")
    expect(weight).to_be_focused()
    page.get_by_label("Weight of picture").fill("0")
    weight.fill("1")
    best = int(np.argmax(clip.embed_image(PICTURES) @ clip.embed_text("a cat")))
    expect(tiles(page).first).to_have_attribute("data-id", f"p{best}")
    page.get_by_label("Remove the picture").click()
    page.get_by_role("button", name="− without…").click()
    page.get_by_label("Words", exact=True).fill("a dog")
    page.keyboard.press("Enter")
    minus = expected(sidecar, Term(text="a cat"), minus=[Term(text="a dog")])
    expect(tiles(page).first).to_have_attribute("data-id", minus[0])
    assert ids(page)[:20] == minus[:20]
    page.get_by_label("without words a dog: look for it").click()
    plus = expected(sidecar, Term(text="a cat"), Term(text="a dog"))
    expect(tiles(page).first).to_have_attribute("data-id", plus[0])
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("region", name="Start")).to_be_visible()


def test_a_hit_that_is_dragged_becomes_a_part(page: Page) -> None:
    look_for(page, "a cat")
    id = ids(page)[4]
    tiles(page).nth(4).drag_to(page.get_by_label("Search", exact=True))
    expect(page.locator("#parts .noun")).to_have_text(["a cat", f"like {id}"])


def test_what_is_typed_before_a_slow_answer_stays(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/collections", lambda route: held.append(route))
    with page.expect_request("**/v1/collections"):
        page.reload()
    page.get_by_label("Search", exact=True).fill("a dog")
    with page.expect_response("**/v1/collections"):
        held.pop().continue_()
    page.evaluate("() => new Promise(requestAnimationFrame)")
    page.keyboard.press("Enter")
    expect(status(page)).to_contain_text("nearest first")
    expect(page.get_by_label("Search", exact=True)).to_have_value("a dog")


def test_an_answer_that_comes_late_is_not_shown(page: Page) -> None:
    held: list[Route] = []
    page.route("**/search", lambda route: held.append(route))
    page.get_by_label("Search", exact=True).fill("a cat")
    page.keyboard.press("Enter")
    expect(page.locator("#hits .skeleton").first).to_be_visible()
    expect(page.locator("#hits")).to_have_attribute("aria-busy", "true")
    page.unroute("**/search")
    page.get_by_label("Filter").fill("year < 3")
    look_for(page, "a dog")
    expect(tiles(page)).to_have_count(3)
    expect(page.locator("#hits")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#hits .skeleton")).to_have_count(0)


def test_hits_as_json(page: Page) -> None:
    look_for(page, "a cat")
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    saved = json.loads(Path(download.value.path()).read_text())
    assert (saved["text"], [hit["id"] for hit in saved["hits"]][:10]) == ("a cat", ids(page)[:10])
    assert set(saved["hits"][0]["metadata"]) == {"caption", "year", "genre"}
    assert download.value.suggested_filename == "pictures-hits.json"


def test_a_link_with_a_picture_is_short_and_restores_the_search(page: Page, browser: Browser, sidecar: Sidecar) -> None:
    upload(page, PICTURES[7])
    page.get_by_label("Filter").fill("year < 50")
    look_for(page, "a cat")
    page.get_by_label("captions").check()
    page.get_by_role("button", name="Link").click()
    expect(status(page)).to_contain_text("link")
    assert len(page.url) < 200
    with opened(browser, sidecar, page.url.removeprefix(f"{sidecar.url}/")) as other:
        expect(status(other)).to_contain_text("50 of 100 rows pass")
        assert ids(other) == ids(page)
        expect(other.get_by_label("Filter")).to_have_value("year < 50")
        expect(other.get_by_alt_text("the picture that is searched for")).to_be_visible()
        expect(other.locator("#hits .caption").first).to_be_visible()


def test_links_of_earlier_versions_still_work(browser: Browser, sidecar: Sidecar) -> None:
    data = f"data:image/png;base64,{base64_of(PICTURES[7])}".replace("+", "%2B")
    with opened(browser, sidecar, f"#collection=pictures&text=a%20cat&image={data}&share=0.95&filter=year%20%3C%2050") as page:
        expect(tiles(page).first).to_have_attribute("data-id", "p7")
        expect(page.get_by_label("Weight of words a cat")).to_have_value("0.1")
        expect(page.get_by_label("Filter")).to_have_value("year < 50")
    with opened(browser, sidecar, "#collection=pictures&like=p3&captions=1") as page:
        expect(page.locator("#parts .noun")).to_have_text("like p3")
        expect(page.locator("#hits .caption").first).to_be_visible()


def test_searches_are_remembered_and_saved(page: Page) -> None:
    look_for(page, "a cat")
    page.get_by_role("button", name="Save").click()
    look_for(page, "a dog")
    page.get_by_role("button", name="Searches").click()
    saved, recent = page.get_by_role("list", name="Saved searches"), page.get_by_role("list", name="Recent searches")
    expect(saved.get_by_role("link")).to_have_text(["a catpictures"])
    expect(recent.get_by_role("link")).to_have_text(["a dogpictures", "a catpictures"])
    recent.get_by_label("Forget a dog").click()
    expect(recent.get_by_role("link")).to_have_count(1)
    saved.get_by_role("link").click()
    expect(page.get_by_label("Search", exact=True)).to_have_value("a cat")
    expect(page.get_by_role("dialog")).to_be_hidden()


def focused(page: Page) -> str:
    return page.evaluate("document.activeElement.dataset.id || document.activeElement.id")


def test_keys(page: Page) -> None:
    look_for(page, "a cat")
    hits, across = ids(page), page.evaluate(COLUMNS)
    for key, target in (
        ("ArrowDown", hits[0]),
        ("ArrowRight", hits[1]),
        ("ArrowDown", hits[1 + across]),
        ("ArrowUp", hits[1]),
        ("Escape", "text"),
        ("Tab", "file"),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert focused(page) == target
    tiles(page).nth(3).focus()
    page.keyboard.press("/")
    assert focused(page) == "text"


def test_the_focus_stays_on_a_hit_that_is_scrolled_away(page: Page) -> None:
    look_for(page, "a cat")
    tiles(page).nth(1).focus()
    before = focused(page)
    for _ in range(12):
        page.mouse.wheel(0, 600)
        page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.evaluate("scrollY") > 1500
    assert focused(page) == before
    page.keyboard.press("ArrowRight")
    assert focused(page) != before
    expect(page.locator(":focus")).to_be_in_viewport()


@pytest.mark.parametrize(("width", "columns"), [(320, 2), (360, 3), (1400, 7)])
@pytest.mark.parametrize(("scheme", "back"), [("light", "rgb(248, 248, 246)"), ("dark", "rgb(20, 21, 23)")])
def test_phone_and_desk_light_and_dark(
    browser: Browser, sidecar: Sidecar, width: int, columns: int, scheme: str, back: str
) -> None:
    view = {"viewport": {"width": width, "height": 700}, "color_scheme": scheme}
    with opened(browser, sidecar, "#collection=pictures&text=a%20cat", **view) as page:
        expect(tiles(page)).not_to_have_count(0)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == back
        assert page.evaluate(COLUMNS) == columns
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_ten_thousand_hits_take_less_than_50_mb(browser: Browser, sidecar: Sidecar) -> None:
    vectors = np.random.default_rng(0).normal(size=(10_000, 512)).astype(np.float32)
    with sidecar.client() as search:
        search.create("many")
        for start in range(0, 10_000, 1000):
            rows = [
                Row(id=f"{n}.jpg", vector=vectors[n], metadata={"caption": f"{n} " + "words of a long caption " * 40})
                for n in range(start, start + 1000)
            ]
            search.add("many", rows)
    with opened(browser, sidecar, "#collection=many&text=a%20cat&captions=1") as page:
        expect(tiles(page).first).to_be_visible()
        tools = page.context.new_cdp_session(page)
        for _ in range(400):
            page.evaluate(
                "() => { scrollTo(0, document.documentElement.scrollHeight); return new Promise(requestAnimationFrame); }"
            )
            if page.locator("#hits [aria-posinset='10000']").count():
                break
            page.wait_for_timeout(20)
        expect(page.locator("#hits [aria-posinset='10000']")).to_have_count(1)
        tools.send("HeapProfiler.collectGarbage")
        heap = page.evaluate("performance.memory.usedJSHeapSize")
        assert page.locator("#hits li").count() < 200
        tools.send("Performance.enable")
        metrics = {metric["name"]: metric["value"] for metric in tools.send("Performance.getMetrics")["metrics"]}
        print(f"heap {metrics['JSHeapUsedSize'] / 1e6:.1f} MB, {heap / 1e6:.1f} MB; {metrics['Nodes']:.0f} nodes")
        assert metrics["JSHeapUsedSize"] < 50e6


def test_clicks_and_marks_are_sent_once_each_and_a_failure_disturbs_nothing(page: Page, sidecar: Sidecar) -> None:
    posts: list[Request] = []
    page.on("request", lambda request: posts.append(request) if request.url.endswith("/feedback") else None)
    look_for(page, "a bird")
    expected_ids = expected(sidecar, Term(text="a bird"))
    with page.expect_response("**/feedback") as answer:
        tiles(page).nth(2).click()
    assert answer.value.status == 201
    viewer = page.get_by_role("dialog")
    viewer.get_by_role("button", name="Wrong").click()
    expect(viewer.get_by_role("button", name="Wrong")).to_have_attribute("aria-pressed", "true")
    viewer.get_by_role("button", name="Wrong").click()
    page.keyboard.press("Escape")
    expect(tiles(page).nth(2)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(tiles(page).nth(1)).to_be_focused()
    page.keyboard.press("r")
    first = page.locator("#hits li").filter(has=page.locator(f"[data-id='{expected_ids[1]}']"))
    expect(first.get_by_label("Right")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("r")
    tiles(page).nth(2).click()
    page.keyboard.press("Escape")
    expect(tiles(page).nth(2)).to_be_focused()
    page.route("**/feedback", lambda route: route.abort())
    first.hover()
    first.get_by_label("Wrong").click()
    expect(status(page)).to_contain_text("nearest first")
    look_for(page, "another bird")  # begun after all that was sent
    with sidecar.client() as search:
        kept = [event for event in search.kept_feedback("pictures") if event.text == "a bird"]
    assert [(event.kind, event.position) for event in kept] == [("click", 2), ("wrong", 2), ("right", 1)]
    assert len({event.query_id for event in kept}) == 1
    assert all(event.shown == expected_ids[: len(event.shown)] for event in kept)
    assert len(posts) == 4
    assert len({post.post_data_json["client"] for post in posts} | {page.evaluate("sessionStorage.visit")}) == 1


def test_a_key_right_after_a_hit_was_closed_keeps_the_focus(page: Page) -> None:
    look_for(page, "a bird")
    tiles(page).nth(2).click()
    before = ids(page)
    focused = page.evaluate(
        """async () => {
            document.querySelector("#viewer .close").click();
            document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
            for (let n = 0; n < 3; n += 1) await new Promise(requestAnimationFrame);
            return document.activeElement.dataset.id;
        }"""
    )
    assert focused == before[1]
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_without_feedback_there_are_no_marks_and_nothing_is_sent(page: Page) -> None:
    posts: list[Request] = []
    page.on("request", lambda request: posts.append(request) if request.url.endswith("/feedback") else None)

    def off(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "feedback": False})

    page.route("**/v1/collections", off)
    page.reload()
    look_for(page, "a cat")
    expect(page.locator(".mark")).to_have_count(0)
    tiles(page).first.click()
    expect(page.get_by_role("dialog").get_by_role("button", name="Copy path")).to_be_visible()
    expect(page.locator(".mark")).to_have_count(0)
    page.unroute_all(behavior="wait")  # or one that is under way fails the next test
    assert posts == []


def test_hits_in_the_order_of_a_column_take_no_feedback(browser: Browser, sidecar: Sidecar) -> None:
    for order, takes in (("", True), ("&sort=year", False)):
        with opened(browser, sidecar, f"#collection=pictures&text=a%20cat{order}") as page:
            expect(status(page)).to_contain_text("by year" if order else "nearest first")
            assert bool(page.locator(".mark").count()) is takes
