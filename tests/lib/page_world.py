"""A sidecar with collections to look at, and pages of a browser that shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sidecars
from playwright.sync_api import Browser, Locator, Page, expect
from servers import Server
from sidecars import Sidecar

from clip_client.search import Row
from pictures import encoded, picture

expect.set_options(timeout=15_000)  # on a busy machine; what holds is seen at once

COUNT = 100
PICTURES = [encoded(picture(64 + n % 7, 64, seed=n), "PNG") for n in range(COUNT)]
GENRES = ("jazz", "rock", "it's folk")
SCRIPT = "window.hacked=1"
TURNED = "\u202egpj.exe"
CAPTIONS = (
    f"<script>{SCRIPT}</script>",
    f'"><img src=x onerror="{SCRIPT}">',
    f"javascript:{SCRIPT}",
    TURNED,
    "x" * 10_000,
    "one\ntwo\r\n\tthree",
    "漢字とかな、長い説明文",
    "שלום עולם, תמונה של כלב",
    "\U0001f600" * 40,
    "a" + "\u0301" * 300,
    "${hacked} {{hacked}} %s \\u003cb\\u003e",
)
IDS = (
    *("../../etc/passwd", "..", "a/b?c=d#e.png", f"<b onclick={SCRIPT}>.jpg", "%2e%2e%2f", "a'b\"c`d", "&lt;i&gt;"),
    *(f"row {n}" for n in range(7, 11)),
)


@contextlib.contextmanager
def running(server: Server, folder: Path, *options: str) -> Iterator[Sidecar]:
    """A sidecar with the collections pictures, texts, twins, hostile and empty."""
    (folder / "pictures").mkdir()
    network = ("--allow-network", "127.0.0.1/32", "--allow-port", "1024-65535")
    with sidecars.running(folder / "data", server.address, "--images", str(folder / "pictures"), *network, *options) as sidecar:
        fill(sidecar, folder / "pictures")
        yield sidecar


def fill(sidecar: Sidecar, folder: Path) -> None:
    """Make the collections."""
    with sidecar.client() as search:
        for name in ("pictures", "texts", "twins", "hostile", "empty"):
            search.create(name)
        search.add("pictures", [_row(folder, n) for n in range(COUNT)])
        search.add("texts", [Row(id=text, text=text) for text in ("a cat", "<b>a dog</b>")])
        vectors = sidecars.unit(4, search.stats("twins")["dimension"])  # far from each other, as the small checkpoint's aren't
        twins = [(n, copy) for n, copies in ((1, 4), (2, 2), (3, 1)) for copy in range(copies)]
        search.add("twins", [Row(id=f"{n}.{copy}", image=PICTURES[n], vector=vectors[n]) for n, copy in twins])
        columns = [{"caption": caption, "note": caption} for caption in CAPTIONS]
        search.add("hostile", [Row(id=id, image=PICTURES[n], metadata=columns[n]) for n, id in enumerate(IDS)])


def _row(folder: Path, n: int) -> Row:
    path = folder / f"p{n}.png"
    path.write_bytes(PICTURES[n])
    fields = {"caption": f"picture {n}", "year": n, "genre": GENRES[n % 3]}
    return Row(id=f"p{n}", image=PICTURES[n], source=str(path), metadata=fields)


@contextlib.contextmanager
def opened(browser: Browser, sidecar: Sidecar, address: str = "", **options: Any) -> Iterator[Page]:
    """A page that loads; at the end nothing but refused requests may stand on its console."""
    options = {"viewport": {"width": 1000, "height": 600}, "accept_downloads": True, **options}
    with browser.new_context(**options) as context:
        page = context.new_page()
        page.set_default_timeout(10_000)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{sidecar.url}/{address}")
        page.bring_to_front()  # of a window in the background Chromium may say that nothing in it has the focus
        yield page
        assert [complaint for complaint in complaints if not complaint.startswith("Failed to load resource")] == []


def status(page: Page) -> Locator:
    """The line that says how a search went."""
    return page.locator("#status")


def tiles(page: Page) -> Locator:
    """The hits that are in the document."""
    return page.locator("#hits li.tile:not(.skeleton) .open")


def ids(page: Page) -> list[str]:
    """Their ids."""
    return tiles(page).evaluate_all("all => all.map(each => each.dataset.id)")


def look_for(page: Page, text: str) -> None:
    """Type a text and press Enter; returns once its hits are there."""
    page.get_by_label("Search", exact=True).fill(text)
    with page.expect_response("**/search"):
        page.keyboard.press("Enter")
    expect(status(page)).to_contain_text(" ms")


def upload(page: Page, content: bytes, name: str = "a.png") -> None:
    """Choose a picture to search with."""
    page.get_by_label("Search with a picture").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def give(page: Page, way: str, files: dict[str, str], texts: dict[str, str] | None = None) -> None:
    """Drop or paste files (base64 by name) and texts (by type)."""
    page.evaluate(
        """([way, files, texts]) => {
            const given = new DataTransfer();
            for (const [name, content] of Object.entries(files)) {
                const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
                given.items.add(new File([bytes], name, { type: "image/png" }));
            }
            for (const [type, text] of Object.entries(texts)) given.setData(type, text);
            const event = new Event(way, { bubbles: true, cancelable: true });
            event[way === "drop" ? "dataTransfer" : "clipboardData"] = given;
            document.body.dispatchEvent(event);
        }""",
        [way, files, texts or {}],
    )
