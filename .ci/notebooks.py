"""Run the notebooks, and keep what they show: `make notebooks`.

python .ci/notebooks.py                # all of examples/notebooks, in order
python .ci/notebooks.py 2-semantic     # those whose names begin so

Each runs in a kernel of its own, in a temporary folder that they share: each variant is exported once. HTML, and pictures as
PNG, go to artifacts/notebooks; the notebooks themselves stay without outputs. Exits with 1 if a cell fails.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from documents import ROOT
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

NOTEBOOKS = ROOT / "examples" / "notebooks"
SHOWN = ROOT / "artifacts" / "notebooks"
_CELL_S = 900  # a cell that exports, on a busy machine
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)  # the template's, which load formulas and diagrams from elsewhere


def main(beginnings: Sequence[str]) -> int:
    """Run notebooks; return the exit status."""
    chosen = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.name.startswith(tuple(beginnings) or "")]
    with tempfile.TemporaryDirectory(prefix="clipserve-notebooks-") as folder:
        os.environ["CLIPSERVE_NOTEBOOKS"] = folder
        failures = [path.name for path in chosen if not shown(path, SHOWN)]
    print(f"{len(chosen) - len(failures)} of {len(chosen)} notebooks ran: {SHOWN.relative_to(ROOT)}/")
    return 1 if failures or not chosen else 0


def shown(path: Path, folder: Path) -> bool:
    """Run a notebook and write its page and pictures, also when a cell fails; tell if all cells ran."""
    start = time.monotonic()
    notebook, problem = executed(path)
    folder.mkdir(parents=True, exist_ok=True)
    page, _ = HTMLExporter().from_notebook_node(notebook)  # type: ignore[no-untyped-call]
    (folder / f"{path.stem}.html").write_text(_SCRIPT.sub("", page), encoding="utf-8")
    for number, picture in enumerate(pictures(notebook), 1):
        (folder / f"{path.stem}-{number:02}.png").write_bytes(picture)
    print(f"{path.name}: {problem or 'all cells ran'}, {time.monotonic() - start:.0f} s", flush=True)
    return not problem


def executed(path: Path) -> tuple[nbformat.NotebookNode, str]:
    """Run a notebook in a kernel of its own; return it with its outputs, and the error of the cell that failed."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=_CELL_S, resources={"metadata": {"path": str(path.parent)}})
    try:
        client.execute()
    except CellExecutionError as problem:
        return notebook, f"a cell failed\n{problem}"
    return notebook, ""


def pictures(notebook: nbformat.NotebookNode) -> list[bytes]:
    """Return the pictures that a notebook shows, as PNG."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
