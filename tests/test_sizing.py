"""Sizes of machines, computed from measured figures."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "bench"))

import sizing  # noqa: E402


def test_the_machine_of_the_benchmark_comes_out_for_its_own_load() -> None:
    """220 queries a second kept both cores busy."""
    search = sizing.figures("search")
    rate = sizing.cell(search, "text queries", "clipserve, 8 clients", "queries/s")
    sizes = sizing.sizes_of(sizing.Load(pictures=200_000, queries=rate, busy=1.0))
    assert sizes.cores == pytest.approx(search["machine"]["cores"])


@pytest.mark.parametrize("field", ["pictures", "queries", "embed", "size", "metadata_bytes"])
def test_more_of_anything_needs_more(field: str) -> None:
    load = sizing.Load(queries=10, embed=1)
    before = dataclasses.astuple(sizing.sizes_of(load))
    after = dataclasses.astuple(sizing.sizes_of(dataclasses.replace(load, **{field: getattr(load, field) * 3})))
    assert all(less <= more for less, more in zip(before, after, strict=True))
    assert before != after


def test_no_size_is_made_up() -> None:
    """The disk is what is stored twice; vectors are float32."""
    load = sizing.Load(pictures=100_000, thumbnails=False, metadata_bytes=0)
    index = sizing.cell(sizing.memory_near(100_000), "figure", "files of the index MB", "value") / 1000
    assert sizing.sizes_of(load).disk_gb == pytest.approx(2 * (100_000 * 512 * 4 / 1e9 + index))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pictures", "0"], "at least 1"),
        (["--queries", "-1"], "at least 0"),
        (["--busy", "1.5"], "expected a share"),
        (["--busy", "nan"], "expected a share"),
        (["--queries", "nan"], "at least 0"),
        (["--pictures", "many"], "invalid int value"),
    ],
)
def test_loads_that_make_no_sense_are_refused(options: list[str], said: str) -> None:
    refused = subprocess.run(
        [sys.executable, ROOT / "bench" / "sizing.py", *options], capture_output=True, text=True, check=False
    )
    assert refused.returncode
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_it_prints_for_people_and_for_programs() -> None:
    command = [sys.executable, ROOT / "bench" / "sizing.py", "--queries", "20"]
    people = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "cores" in people
    assert (
        json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)["load"]["queries"]
        == 20
    )
