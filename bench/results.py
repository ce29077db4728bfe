"""What a bench found: JSON beside the page, a section of docs/benchmarks.md, plots."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clip_export import hardware

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
FOLDER = ROOT / "docs" / "benchmarks"
PACKAGES = ("torch", "transformers", "onnxruntime", "openvino", "nncf", "numpy", "pillow", "tritonclient")

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Rows of figures; numbers are shown to three digits (just below 1 to five), None as a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        """As Markdown; all columns but the first are set to the right."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        return "\n".join(f"| {' | '.join(map(shown, row))} |" for row in (self.columns, rule, *self.rows))


@dataclass(frozen=True)
class Result:
    """One bench's findings.

    Attributes:
        name: of its file and section: ``variants``, ``peers``, …
        title: heading of the section.
        notes: paragraphs: what was measured, on what, and what to make of it.
        tables: shown below the notes, in order.
        setting: what the run depended on: checkpoint, pictures, counts, seed.
        plots: PNG files in :data:`FOLDER` that the bench has drawn.
    """

    name: str
    title: str
    notes: Sequence[str]
    tables: Sequence[Table]
    setting: dict[str, Any]
    plots: Sequence[Path] = field(default_factory=tuple)


def publish(result: Result) -> None:
    """Print the tables, write the JSON, and put the section into the page in the place of an earlier one."""
    print(f"\n{result.title}\n\n" + "\n\n".join(table.markdown() for table in result.tables) + "\n")
    FOLDER.mkdir(parents=True, exist_ok=True)
    provenance = described()
    tables = [asdict(table) for table in result.tables]
    content = {"title": result.title, **provenance, "setting": result.setting, "notes": [*result.notes], "tables": tables}
    (FOLDER / f"{result.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _put_section(result, provenance)


def described() -> dict[str, Any]:
    """Where and with what a bench ran."""
    versions = {name: version(name) for name in PACKAGES}
    return {"date": date.today().isoformat(), "commit": _commit(), "machine": hardware.description(), "versions": versions}


def shown(cell: Cell) -> str:
    """A cell as people read it."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.5f}" if 0.9995 <= cell < 0.999995 else f"{cell:.3g}"  # a cosine that isn't 1 shouldn't look like it


def _put_section(result: Result, provenance: dict[str, Any]) -> None:
    begin, end = f"<!-- {result.name} -->", f"<!-- /{result.name} -->"
    where, file = provenance["machine"], f"{result.name}.json"
    footer = f"*{provenance['date']}, {where['cores']} cores of {where['cpu']}; figures in [{file}](benchmarks/{file}).*"
    plots = [f"![{result.title}](benchmarks/{plot.name})" for plot in result.plots]
    parts = [f"## {result.title}", *result.notes, *(table.markdown() for table in result.tables), *plots, footer]
    section = f"{begin}\n" + "\n\n".join(parts) + f"\n{end}"
    page = PAGE.read_text(encoding="utf-8")
    old = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    new = old.sub(lambda _: section, page) if old.search(page) else f"{page.rstrip()}\n\n{section}\n"
    PAGE.write_text(new, encoding="utf-8")


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    return asked.stdout.strip() or "unknown"
