"""A sample of ``make coverage``: hub ids by their plain name behind the stand-in hub, and the command's own parts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import hub_repositories
import pytest

import case
import clip_like_types
import isolated
import recipes
import table
from case import Row
from recipe import built

ROOT = Path(__file__).parents[1]
PACKAGES = [str(ROOT / name) for name in ("client", "embed", "export", "search", "serve")]
SAMPLE = (
    "openai/clip-vit-base-patch32",
    "google/siglip-base-patch16-224",
    "timm/PE-Core-B-16",
)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_plain_id_is_exact(name: str, tmp_path: Path) -> None:
    row = case.tried(name, tmp_path)
    assert (row.verdict, row.why) == ("exact", "")
    assert row.cosine >= case.LEAST_COSINE


def test_the_list_has_the_ids_that_are_much_used() -> None:
    ids = [recipe.id for recipe in recipes.RECIPES]
    assert len(ids) == len(set(ids)) >= 45
    assert {needed for recipe in recipes.BY_ID.values() for needed in recipe.needs} <= set(recipes.BY_ID)


def test_a_recipe_is_the_same_every_time(tmp_path: Path) -> None:
    recipe = recipes.BY_ID["flax-community/clip-rsicd-v2"]
    first, second = (hub_repositories.files(built(recipe, tmp_path / name).main) for name in ("a", "b"))
    assert [(file.name, file.oid) for file in first] == [(file.name, file.oid) for file in second]


def test_types_of_transformers_are_those_with_both_methods() -> None:
    assert {"clip", "siglip", "siglip2", "altclip", "metaclip_2", "vision_text_dual_encoder"} <= {*clip_like_types.names()}
    assert not {"bert", "vit", "x_clip_text"} & {*clip_like_types.names()}


def _passes(name: str, folder: Path) -> Row:
    (folder / "file").write_text(name)
    print("noise")
    return Row(name, "exact", cosine=1.0)


def _crashes(name: str, folder: Path) -> Row:
    print("about to end", file=sys.stderr, flush=True)
    os.abort()


def _hangs(name: str, folder: Path) -> Row:
    time.sleep(60)
    return Row(name, "exact")


def test_a_case_that_crashes_or_hangs_ends_no_other() -> None:
    rows = [isolated.run(tried, "x", limit_s) for tried, limit_s in ((_crashes, 20), (_hangs, 0.5), (_passes, 20))]
    assert [row.verdict for row in rows] == ["failed", "failed", "exact"]
    assert rows[0].why == "the process ended with -6: about to end"
    assert "longer than" in rows[1].why


def test_the_page_tells_every_row_and_repeats_itself() -> None:
    rows = [
        Row("org/a", "exact", "Hugging Face", "pickle", 0.999987, model_type="clip", seconds=3.2),
        Row("org/b", "refused", "open_clip", "both", why="a <b> | c: do this", model_type="siglip", seconds=12),
    ]
    page = table.document(rows, rows, rows, "torch 1", 0.9999)
    assert page == table.document(rows, rows, rows, "torch 1", 0.9999)
    assert "1 of 2 hub ids exact (1 refused)" in page
    assert "| org/a | Hugging Face | pickle | exact, 0.9999 | < 5 |" in page
    assert "| org/b | open_clip | both | **refused**: a &lt;b> \\| c: do this | < 20 |" in page


@pytest.mark.slow
def test_the_readmes_example_is_exported_as_typed(tmp_path: Path) -> None:
    """All variants of the default; the sample above has the same id in less time."""
    line = "python export/all.py --model openai/clip-vit-base-patch32"
    assert line in (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "export").symlink_to(ROOT / "export")
    with case.served("openai/clip-vit-base-patch32", tmp_path) as hub:
        environment = {**os.environ, **hub.environment(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(PACKAGES)}
        typed = [sys.executable, *line.split()[1:]]
        ended = subprocess.run(typed, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "published 'clip' in model_repository" in ended.stderr
    assert (tmp_path / "model_repository" / "clip_image" / "config.pbtxt").exists()
