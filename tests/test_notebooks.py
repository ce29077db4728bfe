"""The notebooks: kept without outputs, fit for a new kernel, and all their cells run."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from documents import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["cells"])


@by_name
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in cells(path):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert cell["metadata"] == {}


@by_name
def test_a_notebook_says_what_it_needs_and_ends_what_it_opens(path: Path) -> None:
    first, *_, last = cells(path)
    assert "".join(first["source"]).startswith("# ")
    assert "clipserve[" in "".join(first["source"])
    source = "\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code")
    ast.parse(source)
    assert "clip.close()" in "".join(last["source"])
    assert ("setting.stop()" in "".join(last["source"])) == ("setting.serve(" in source)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_cells_run_and_what_they_draw_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbconvert")
    import notebooks

    monkeypatch.setenv("CLIPSERVE_NOTEBOOKS", str(tmp_path / "work"))
    assert [path.name for path in NOTEBOOKS if not notebooks.shown(path, tmp_path / "shown")] == []
    shown = {path.stem: list((tmp_path / "shown").glob(f"{path.stem}-*.png")) for path in NOTEBOOKS}
    assert {stem: len(pictures) >= 2 for stem, pictures in shown.items()} == dict.fromkeys(shown, True)
    pages = [(tmp_path / "shown" / f"{path.stem}.html").read_text(encoding="utf-8") for path in NOTEBOOKS]
    assert not [page for page in pages if "<script" in page]
    assert not list((ROOT / "examples" / "notebooks").glob("*.html"))
