"""Site of the documents: stale figures and pages, broken links and foreign files are noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import build_site
import figures
import http_reference
import links
import pytest
from documents import ROOT, Piece, tracked

README = ROOT / "README.md"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("docs/none.md", "isn't a file or folder"),
        ("docs/search.md#no-such-heading", "no such heading"),
        ("#no-such-heading", "no such heading"),
        ("docs/images/search-dark.png#top", "no such heading"),
        ("../elsewhere.md", "leaves the repository"),
        ("artifacts/site/html/index.html", "isn't a file or folder"),
    ],
)
def test_a_link_that_leads_nowhere_has_a_reason(target: str, reason: str) -> None:
    assert reason in links.trouble(Piece(README, 1, "", target), set(tracked()))


@pytest.mark.parametrize(
    "target", ["docs/search.md", "docs/search.md#the-api", "docs/decisions", "#how-fast", "docs/images/search-dark.png"]
)
def test_a_link_to_a_file_a_folder_or_a_heading_is_good(target: str) -> None:
    assert links.trouble(Piece(README, 1, "", target), set(tracked())) == ""


def test_a_figure_is_filled_in_where_its_mark_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "FIGURES", {"fast": (lambda: 1234.56, ",.1f")})
    page = tmp_path / "page.md"
    page.write_text("It is 0.0<!--=fast--> times as fast, not 2.0.\n")
    assert list(figures.update(page, check=True)) == ["page.md:1: fast is 1,234.6, not 0.0"]
    assert "0.0<!--" in page.read_text()
    assert len(list(figures.update(page, check=False))) == 1
    assert page.read_text() == "It is 1,234.6<!--=fast--> times as fast, not 2.0.\n"
    assert list(figures.update(page, check=True)) == []


def test_an_unknown_figure_is_named() -> None:
    with pytest.raises(SystemExit, match="no figure is called fats: expected one of loop, "):
        figures.figure("fats")


def test_links_of_a_page_lead_to_pages_of_the_site() -> None:
    page = ROOT / "docs" / "how-to" / "reach.md"
    text = "[a](../search.md#access) [b](../../examples/emoji) [c](../decisions) [d](../../search/clip_search) [e](https://x.org/a)"
    there = "[a](../search.md#access) [b](../emoji-clip.md) [c](../decisions/index.md)"
    assert build_site.fit(page, text) == f"{there} d (`search/clip_search`) [e](https://x.org/a)"


def test_links_of_a_document_elsewhere_are_seen_from_its_place() -> None:
    assert build_site.fit(ROOT / "CONTRIBUTING.md", "[a](docs/architecture.md)") == "[a](architecture.md)"
    assert build_site.fit(ROOT / "examples" / "emoji" / "README.md", "[a](../../docs/export.md#x)") == "[a](export.md#x)"


@pytest.mark.parametrize(
    "content",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example.org/css">',
        '<img alt="x" src=http://example.org/a.png>',
    ],
)
def test_a_page_that_loads_from_elsewhere_is_noticed(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_site, "HTML", tmp_path)
    (tmp_path / "index.html").write_text(f'<p><a href="https://example.org/">a link is fine</a>{content}</p>')
    assert len(build_site.foreign()) == 1


def test_a_page_with_links_alone_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_site, "HTML", tmp_path)
    (tmp_path / "index.html").write_text('<script src="a.js"></script><a href="https://example.org/">x</a><img src="b.png">')
    assert build_site.foreign() == []


def test_the_http_reference_has_routes_bodies_and_bounds() -> None:
    name = {"type": "string", "maxLength": 9, "description": "what it is called"}
    operation = {
        "description": "Make one.\n\nAt once.",
        "parameters": [{"name": "wait", "in": "query", "schema": {"type": "boolean", "default": False}}],
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/New"}}}},
        "responses": {"201": {"description": "Made"}, "404": {}, "409": {}},
    }
    schemas = {"New": {"description": "Body.", "properties": {"name": name}, "required": ["name"]}}
    page = http_reference.page({"paths": {"/v1/x": {"post": operation}}, "components": {"schemas": schemas}})
    assert "### POST /v1/x\n\nMake one. At once.\n" in page
    assert "Body: [New](#new)." in page
    assert "Errors: 404, 409." in page
    assert "| `name` | string | required | what it is called; at most 9 |" in page


def test_nothing_is_stale() -> None:
    script = ROOT / ".ci" / "figures.py"
    ended = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "0 figures differ\n")
