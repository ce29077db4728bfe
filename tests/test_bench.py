"""Benches: turns, published sections, runs on a real server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from servers import Server

import pictures
from clip_client import Clip, Search

BENCH = Path(__file__).parents[1] / "bench"
sys.path.append(str(BENCH))

BENCH_SCRIPT = """
import argparse, sys
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("{option}")
    options = parser.parse_args()
    {then}
"""

import batch_size  # noqa: E402
import limit  # noqa: E402
from lib import checkpoints, results, retrieval_tasks, turns  # noqa: E402
from lib.results import Result, publish  # noqa: E402
from lib.tables import Cell, Table, shown  # noqa: E402


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page and a folder of figures of the test's own."""
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\n<!-- last -->\n<!-- /last -->\n")
    monkeypatch.setattr(results, "PAGE", page)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks")
    return page


def result(name: str, figure: float) -> Result:
    return Result(name, f"The {name}", ["A note."], [Table(("way", "ms"), [("ours", figure), ("none", None)])], {"seed": 3})


def test_ways_are_warmed_up_and_then_take_turns_in_both_orders() -> None:
    calls: list[str] = []
    timings = turns.in_turns({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=3)
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc"
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3, 3]


def test_the_median_is_of_the_turns() -> None:
    timing = turns.Timings((0.5, 0.1, 0.2))
    assert timing.median_s == 0.2
    assert timing.percentile_ms(100) == pytest.approx(500)


def test_a_section_is_replaced_in_its_place_and_not_doubled(page: Path) -> None:
    publish(result("first", 1.5))
    publish(result("last", 7))
    publish(result("first", 2.25))
    text = page.read_text()
    assert text.index("## The last") < text.index("## The first")
    assert text.count("## The first") == text.count("<!-- first -->") == text.count("<!-- /first -->") == 1
    assert "| ours | 2.25 |" in text
    assert "1.5" not in text
    assert "| none | – |" in text


def test_figures_say_where_they_come_from(page: Path) -> None:
    publish(result("first", 0.123456))
    figures = json.loads((page.parent / "benchmarks" / "first.json").read_text())
    assert figures["tables"] == [{"columns": ["way", "ms"], "rows": [["ours", 0.123456], ["none", None]]}]
    assert figures["setting"] == {"seed": 3}
    assert figures["machine"]["cores"] >= 1
    assert re.fullmatch(r"[0-9a-f]{40}", figures["commit"])
    assert set(figures["versions"]) >= {"torch", "openvino", "tritonclient"}


@pytest.mark.parametrize(
    ("cell", "text"),
    [(None, "–"), ("as it is", "as it is"), (1234.5, "1,234"), (12, "12"), (0.58049, "0.58"), (0.99991, "0.99991"), (1.0, "1")],
)
def test_cells_are_shown_to_three_digits(cell: Cell, text: str) -> None:
    assert shown(cell) == text


def test_batch_sizes_are_measured_through_a_server(server: Server, search: Search, page: Path) -> None:
    options = Namespace(count=12, rounds=1, model=None, photos=None)
    with Clip(server.address) as clip:
        ways = batch_size.ways(clip, pictures.jpegs(3), options.count)
        timings = turns.in_turns(ways | batch_size.adds(search, pictures.jpegs(3), options.count), options.rounds)
    publish(batch_size.result(timings, options))
    figures = json.loads((page.parent / "benchmarks" / "batch_size.json").read_text())
    rows = figures["tables"][0]["rows"]
    assert [row[0] for row in rows] == list(batch_size.SIZES)
    assert min(figure for row in rows for figure in row) > 0
    assert rows[0][3] > rows[-1][3]  # a text alone takes longer than one of a hundred
    assert (page.parent / "benchmarks" / "batch_size.png").read_bytes().startswith(b"\x89PNG")
    assert "](benchmarks/batch_size.png)" in page.read_text()


def test_bare_products_are_as_many_as_a_tower_multiplies_and_in_int8_nearly_the_same() -> None:
    tower = checkpoints.loaded(str(BENCH.parent / "examples" / "emoji" / "emoji-clip"))
    products = limit.products_of(tower.towers["image"], limit.pixels(tower, 2))
    assert products.rows == 2 * (1 + 64)  # the class token and 8 x 8 patches
    assert sum(weight.size for weight in products.weights) == pytest.approx(6 * 12 * 192**2, rel=0.05)  # layers of that width
    one_layer = limit.Products(products.weights[:2], products.rows)
    expected = limit.in_torch(one_layer)().numpy()
    for numbers, cosine in {limit.FLOAT32: 0.999999, limit.INT8: 0.999}.items():
        (product,) = limit.in_openvino(one_layer, numbers)().values()
        assert (product * expected).sum() / np.linalg.norm(product) / np.linalg.norm(expected) > cosine


def test_several_labels_want_the_pictures_that_carry_them_all() -> None:
    labels = [("red", "round", "fruit"), ("red", "fruit", "round", "small"), ("red", "round"), ()]
    queries = retrieval_tasks.labelled_queries(labels, seed=0)
    assert {name: [len(text.split()) for text in texts] for name, (texts, _) in queries.items()} == {
        "one label": [1, 1], "two labels": [2, 2], "three labels": [3, 3],
    }  # fmt: skip
    for texts, relevant in queries.values():
        expected = [[set(text.split()) <= set(carried) for carried in labels] for text in texts]
        assert relevant.tolist() == expected


def test_all_runs_on_after_a_failure_and_hands_options_to_those_that_have_them(tmp_path: Path) -> None:
    (tmp_path / "all.py").write_text((BENCH / "all.py").read_text())
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "shared.py").write_text("raise SystemExit('not a bench')\n")
    for name, option, then in (("bad", "--count", "sys.exit(3)"), ("good", "--photos", "print('ran with', options)")):
        (tmp_path / f"{name}.py").write_text(BENCH_SCRIPT.format(option=option, then=then))
    run = subprocess.run(
        [sys.executable, tmp_path / "all.py", "--photos", "here", "--model", "m"], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "ran with Namespace(photos='here')" in run.stdout
    assert "1 of 2 benches failed: bad.py" in run.stderr
