"""Results in notebooks: bounded, escaped, without the token, and lists and values as before."""

from __future__ import annotations

import base64
import copy
import io
import pickle
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from sidecars import Sidecar

import pictures
from clip_client import Clip, Hits, InvalidInput, NotFound, Search
from clip_client.classification import Classification
from clip_client.clip_calls import Embeddings
from clip_client.comparison import Comparison
from clip_client.rows_and_hits import Hit, Row

EVIL = "<script>alert(1)</script>\"' onerror=x"


def hit(n: int, **others: object) -> Hit:
    values = {"id": f"p{n}", "row": n, "score": 0.5, "source": None, "thumbnail": None, "metadata": {}}
    return Hit(**{**values, **others})


class Tags(HTMLParser):
    """Tags and attributes of a piece of HTML; all must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes
        self.open += [] if tag == "img" else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_html(html: str) -> None:
    """Check that a piece of HTML has harmless tags and loads nothing."""
    tags = Tags(html)
    assert {*tags.tags} <= {"table", "tr", "td", "th", "p", "img", "div"}
    assert {name for name, _ in tags.attributes} <= {"style", "src", "alt"}
    assert all(value.startswith("data:image/jpeg;base64,") for name, value in tags.attributes if name == "src")


def test_hits_of_a_search_are_shown_with_thumbnails(search: Search, photos: str) -> None:
    hits = search.query(photos, "a picture", k=3)
    assert isinstance(hits, Hits)
    html = hits._repr_html_()
    check_html(html)
    sent = [base64.b64decode(found) for found in re.findall(r"base64,([^\"]+)", html)]
    assert sent == [search.thumbnail(one) for one in hits]
    assert all(Image.open(io.BytesIO(jpeg)).format == "JPEG" for jpeg in sent)
    assert all(one.id in html and one.metadata["caption"] in html for one in hits)
    assert repr(hits).startswith(f"Hits(3)\n  1. {hits[0].score:.4f} '{hits[0].id}' {hits[0].source}\n")


def test_hits_whose_rows_are_gone_are_shown_without(sidecar: Sidecar, search: Search, photos: str) -> None:
    with sidecar.client() as other:
        hits = other.query(photos, "a picture", k=2)
        search.delete(photos, [one.id for one in hits])
        assert other.thumbnail(hits[0]) is None
        check_html(hits._repr_html_())
        assert "<img" not in hits._repr_html_()
    check_html(hits._repr_html_())  # of a client that is closed


def test_hits_are_still_a_list() -> None:
    plain = [hit(n) for n in range(4)]
    hits = Hits(plain, lambda one: b"")
    assert hits == plain
    assert isinstance(hits, list)
    assert (hits[0], hits[-1], hits[1:3], [*reversed(hits)]) == (plain[0], plain[-1], plain[1:3], plain[::-1])
    assert isinstance(hits[1:3], Hits)
    for copied in (pickle.loads(pickle.dumps(hits)), copy.copy(hits), copy.deepcopy(hits)):
        assert copied == hits
        assert isinstance(copied, Hits)
    assert Hits() == []
    check_html(Hits()._repr_html_())


def test_texts_of_others_are_escaped() -> None:
    picture = b"\xff\xd8\xff" + b"x" * 10
    hits = Hits([hit(1, id=EVIL, source=EVIL, metadata={EVIL: EVIL, "list": [EVIL]})], lambda one: picture)
    check_html(hits._repr_html_())
    assert "&lt;script&gt;" in hits._repr_html_()
    row = np.array([[0.5, 0.5]], np.float32)
    check_html(Classification((EVIL, "b"), row, row, {}, [EVIL])._repr_html_())
    check_html(Classification(("a", EVIL), row * np.nan, row, {0: EVIL})._repr_html_())
    check_html(Embeddings([None], {0: EVIL})._repr_html_())
    check_html(Comparison(row, row)._repr_html_())


def test_many_large_or_strange_thumbnails_are_bounded() -> None:
    asked: list[int] = []

    def large(one: Hit) -> bytes:
        asked.append(one.row)
        return b"\xff\xd8\xff" + bytes(2**20)

    html = Hits([hit(n) for n in range(1000)], large)._repr_html_()
    assert (asked, html.count("<img"), len(html) < 6 * 2**20) == ([*range(24)], 3, True)
    assert "… and 976 more" in html
    assert "<img" not in Hits([hit(1)], lambda one: b"<svg onload=alert(1)>")._repr_html_()


@pytest.mark.parametrize(
    "path",
    [
        "@evil.example/x",
        "//evil.example/v1/collections/a/thumbnails/1",
        "/v1/collections/a/rows",
        "/v1/collections/../thumbnails/1x",
        7,
    ],
)
def test_a_thumbnail_is_fetched_from_its_own_path_alone(path, search: Search) -> None:
    with pytest.raises(InvalidInput, match=r"expected /v1/collections/NAME/thumbnails/ROW"):
        search.thumbnail(hit(1, thumbnail=path))


def test_a_thumbnail_is_of_a_hit(search: Search, photos: str) -> None:
    with pytest.raises(InvalidInput, match="a hit can't be a str"):
        search.thumbnail("p1")  # type: ignore[arg-type]
    assert search.thumbnail(hit(1)) is None
    with pytest.raises(NotFound):
        search.query("none", "x")


def test_a_token_is_nowhere_in_a_table(sidecar, search: Search, photos: str) -> None:
    with sidecar.client(token="a-secret-token") as client:
        hits = client.query(photos, "x", k=2)
        assert "<img" in hits._repr_html_()
        assert "a-secret-token" not in hits._repr_html_() + repr(hits) + pickle.dumps(hits).decode("latin-1")


def test_groups_of_duplicates_are_hits(search: Search) -> None:
    search.create("twins")
    picture = pictures.jpegs(1)[0]
    search.add("twins", [Row(id="a", image=picture), Row(id="b", image=picture)])
    [group] = search.duplicates("twins", threshold=0.99).groups
    assert group._repr_html_() if hasattr(group, "_repr_html_") else isinstance(group.hits, Hits)


def test_embeddings_are_shown_shortly(clip: Clip) -> None:
    rows = clip.embed_image([b"x", pictures.jpegs(1)[0]], on_error="none")
    assert repr(rows).startswith(f"Embeddings(1 of 2 embedded of float32 [{clip.spec.embedding_size}])\n  0: ")
    check_html(rows._repr_html_())
    assert "1 of 2 embedded" in rows._repr_html_()


def test_a_classification_is_shown_with_its_likeliest_labels(clip: Clip) -> None:
    result = clip.classify(pictures.jpegs(25), [f"thing {n}" for n in range(9)])
    assert repr(result).splitlines()[0] == "Classification(25 x 9 labels)"
    assert re.fullmatch(r"  image 0: (thing \d \d+\.\d%, ){4}thing \d \d+\.\d%", repr(result).splitlines()[1])
    check_html(result._repr_html_())
    assert "… and 5 more" in result._repr_html_()


def test_a_comparison_is_shown_as_a_table(clip: Clip) -> None:
    html = clip.compare(pictures.jpegs(2), ["a", "b", "c"])._repr_html_()
    check_html(html)
    assert html.count("<tr>") == 3
