"""Plots: figures without pyplot, labels of any script, bad pictures in their place, wrong inputs named."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image

from clip_client import Clip, Comparison, InvalidInput, plots
from clip_client.plots import grids, labels
from clip_client.search import Hit
from pictures import jpegs, picture

JPEGS = jpegs(3)
SCRIPTS = ["שלום עולם", "مرحبا", "你好 世界", "😀 🫠 👩‍🚒", "$5 or $10 and \\frac{", "a\n\x1b[31mb", "x" * 500, ""]


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def texts(figure: Figure) -> list[str]:
    """Everything that is written in a figure, once it is drawn."""
    figure.savefig(io.BytesIO(), dpi=40)
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if isinstance(text, mpl.text.Text) and text.get_text()]


class Awaited:
    """An asynchronous client."""

    async def thumbnail(self, hit: Hit) -> bytes:
        return JPEGS[0]

    async def compare(self, *sides: Any) -> None: ...


def hit(n: int, **values: Any) -> Hit:
    return Hit(
        **{"id": f"row-{n}", "row": n, "score": 0.9 - n / 10, "source": None, "thumbnail": None, "metadata": {}} | values
    )


def test_probabilities_are_those_of_the_client(clip: Clip) -> None:
    names = ["a cat", "a dog", "a house"]
    comparison = clip.compare(JPEGS[0], names)
    figure = plots.probabilities(JPEGS[0], names, clip)
    bars = figure.axes[1].patches
    assert [bar.get_width() for bar in bars] == pytest.approx(sorted(comparison.probabilities, reverse=True))
    assert "probability (softmax: all texts sum to 1)" in texts(figure)


def test_a_file_object_is_read_once_for_both(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEGS[0])
    with (tmp_path / "a.jpg").open("rb") as file:
        figure = plots.probabilities(file, ["a cat"], clip)
    assert figure.axes[0].images[0].get_size()[1] > 64


def test_bars_are_sorted_cut_and_within_0_and_1() -> None:
    values = np.array([0.001, 0.899, 0.1, np.nan], np.float32)
    figure = plots.probabilities(JPEGS[0], ["a", "b", "c", "d"], Comparison(values, values), top=3)
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["b", "c", "a"]
    assert {"0.90", "0.10", "<0.01", "probability (sum 1.00, best 3 of 4)"} <= set(texts(figure))
    low, high = figure.axes[1].get_xlim()
    assert low == 0
    assert high >= 1


def test_a_probability_that_is_nearly_1_is_not_called_1() -> None:
    assert ">0.99" in texts(plots.probabilities(JPEGS[0], ["a", "b"], [0.9999, 0.0001]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a cat", [1.0]), "texts is a str: expected a list of strings"),
        ((["a", 3], [0.5, 0.5]), r"texts\[1\] is an int: expected a string"),
        ((["a"], [0.5, 0.5]), "the source has 2 items, texts has 1"),
        ((["a"], [[0.5], [0.5]]), r"the source has 2 images: expected one"),
        ((["a"], [1.5]), "expected probabilities, not cosines or logits"),
        ((["a"], Awaited()), "the source is an asynchronous client"),
        ((["a"], "x"), "the source is a str: expected a Clip, a Comparison"),
    ],
)
def test_wrong_probabilities_are_named(arguments: tuple[Any, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        plots.probabilities(JPEGS[0], *arguments)


def test_hits_show_scores_labels_and_the_reason_of_a_bad_picture() -> None:
    rows = [hit(0, metadata={"caption": "a red car"}), hit(1), hit(2)]
    figure = plots.hits(rows, [JPEGS[0], b"not a picture", "missing.jpg"], query=JPEGS[1], title="a query")
    written = " | ".join(texts(figure)).replace("\n", " ")
    assert "0.900 a red car" in written
    assert "0.800 row-1" in written
    assert "not a picture that can" in written
    assert "missing.jpg" in written
    assert sum(bool(axes.images) for axes in figure.axes) == 4


def test_pictures_of_hits_come_from_a_function_or_from_what_has_thumbnails() -> None:
    class Sidecar:
        def thumbnail(self, hit: Hit) -> bytes:
            return JPEGS[hit.row]

    rows = [hit(0, thumbnail="/0"), hit(1, thumbnail="/1"), hit(2)]
    written = texts(plots.hits(rows, Sidecar()))
    assert "no thumbnail" in written
    written = texts(plots.hits(rows, lambda hit: {0: picture(), 1: Path("missing.jpg")}[hit.row]))
    assert "2" in written  # the KeyError of the third
    assert any("missing.jpg" in text for text in written)


def test_more_pictures_than_fit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "_MOST", 6)
    small = np.zeros((4, 4, 3), np.uint8)
    figure = plots.grid([small] * 9, list(range(9)), columns=3, title="all")
    assert figure.get_suptitle() == "all (the first 6 of 9 pictures)"
    assert sum(bool(axes.images) for axes in figure.axes) == 6


def test_nothing_is_drawn_as_such() -> None:
    assert "no hits" in texts(plots.hits([], []))
    assert "no pictures" in texts(plots.grid([]))
    assert "no texts" in texts(plots.probabilities(JPEGS[0], [], []))
    assert "no scores" in texts(plots.scores([]))
    assert "nothing to compare: 0 rows, 2 columns" in texts(plots.similarity(np.zeros((0, 2)), [], ["a", "b"]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.hits([1], [JPEGS[0]]), r"hits\[0\] is an int: expected a Hit"),
        (lambda: plots.hits([hit(0)], []), "pictures has 0 items, hits has 1"),
        (lambda: plots.hits([hit(0)], 5), "pictures is an int: expected a list of images"),
        (lambda: plots.hits([hit(0)], picture()), "pictures is an Image: expected a list of images"),
        (lambda: plots.hits([hit(0)], Awaited()), "pictures is an asynchronous client"),
        (lambda: plots.grid(JPEGS, ["a"]), "labels has 1 items, images has 3"),
        (lambda: plots.grid(JPEGS, columns=0), "columns is 0: expected a whole number of at least 1"),
        (lambda: plots.similarity([1, 2], ["a"], ["b"]), r"matrix has shape \[2\]: expected numbers \[N, M\]"),
        (lambda: plots.similarity([[1, 2]], ["a"], ["b"]), "columns has 1 items, its second axis has 2"),
        (lambda: plots.similarity([[1]], ["a"], ["b"], limits=(1, 0)), "expected the lower number first"),
        (lambda: plots.scores(5), "scores is an int: expected a list of scores or hits"),
        (lambda: plots.scores([0.1], cut="high"), "cut is 'high': expected a score"),
    ],
)
def test_wrong_inputs_are_named(call: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        call()


def test_similarities_are_written_and_thumbnails_drawn() -> None:
    matrix = np.array([[1, 0.25], [np.nan, -0.001]])
    figure = plots.similarity(matrix, [JPEGS[0], b"bad"], ["a red car", "a dog"], limits=(0, 1))
    written = texts(figure)
    assert {"1.00", "0.25", "–", "0.00", "a red car", "a dog"} <= set(written)
    assert any("not a picture" in text for text in written)
    assert len(figure.findobj(AnnotationBbox)) == 1
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_colours_of_cosines_use_their_own_range() -> None:
    cosines = np.array([[0.2, 0.3]], np.float32)
    figure = plots.similarity(Comparison(cosines, cosines), ["a"], ["b", "c"])
    assert figure.axes[0].images[0].get_clim() == pytest.approx((0.2, 0.3))


def test_a_cut_counts_what_is_at_or_above() -> None:
    figure = plots.scores([0.1, 0.3, None, 0.2, hit(0).score], cut=0.2)
    assert {"3 of 4 at 0.2 or above", "place among 4 (1 without a score left out)"} <= set(texts(figure))
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.9, 0.3, 0.2, 0.1]


def test_labels_of_any_script_are_drawn_without_a_warning() -> None:
    figure = plots.probabilities(JPEGS[0], SCRIPTS, [0.1] * len(SCRIPTS), title=" ".join(SCRIPTS))
    written = texts(figure)
    assert "שלום עולם" in written
    assert "$5 or $10 and \\frac{" in written
    assert max(map(len, "\n".join(written).split("\n"))) < 120
    texts(plots.similarity(np.eye(len(SCRIPTS)), SCRIPTS, SCRIPTS))
    texts(plots.hits([hit(0, metadata={"caption": text}) for text in SCRIPTS], [JPEGS[0]] * len(SCRIPTS)))


@pytest.mark.parametrize(
    ("text", "width", "lines", "expected"),
    [
        ("a red car", 20, 1, "a red car"),
        ("a red car on a road", 9, 2, "a red car\non a road"),
        ("a red car on a long road", 9, 2, "a red car\non a lon…"),
        ("x" * 30, 10, 1, "xxxxxxxxx…"),
        ("a\tb\n\nc", 10, 1, "a b c"),
        ("", 10, 1, ""),
    ],
)
def test_labels_are_cut_and_wrapped(text: str, width: int, lines: int, expected: str) -> None:
    assert labels.shown(text, width, lines=lines) == expected


def test_pictures_of_every_kind_are_drawn() -> None:
    deep = Image.fromarray(np.full((5, 5), 40_000, np.uint16))
    kinds = [picture(), picture().convert("CMYK"), Image.new("LA", (3, 900)), deep, np.zeros((2, 2, 3), np.uint8), JPEGS[0]]
    wrong = [None, 5, np.zeros((2, 2)), b""]
    figure = plots.grid(kinds + wrong, columns=10)
    reasons = [text for text in texts(figure) if text]
    assert len(reasons) == len(wrong)
    assert reasons[0] == "no picture"


def test_pyplot_and_its_state_are_left_alone() -> None:
    script = """
import sys
from clip_client import plots
import clip_client
assert "matplotlib" not in sys.modules
figure = clip_client.plots.scores([0.3, 0.2])
assert "matplotlib.pyplot" not in sys.modules
assert figure._repr_png_()[:4] == b"\\x89PNG"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_a_missing_package_is_named() -> None:
    script = """
import sys
sys.modules["matplotlib"] = None
from clip_client import plots, Unavailable
try:
    plots.scores([1])
except Unavailable as problem:
    print(problem)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=300, capture_output=True, text=True)
    assert "pip install 'clipserve[plots]'" in done.stdout
