"""Results of a bench: a section of docs/benchmarks.md, its figures as JSON beside the page, its plots."""

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
from lib.samples import ROOT
from lib.tables import Table

PAGE = ROOT / "docs" / "benchmarks.md"
FOLDER = ROOT / "docs" / "benchmarks"
PACKAGES = ("torch", "transformers", "onnxruntime", "openvino", "nncf", "numpy", "pillow", "tritonclient")


@dataclass(frozen=True)
class Result:
    """Result of one bench."""

    name: str  # of its file and section: `variants`, `peers`, …
    title: str  # heading of the section
    notes: Sequence[str]  # paragraphs: setup, method, conclusion
    tables: Sequence[Table]  # shown below the notes, in order
    setting: dict[str, Any]  # conditions of the run: checkpoint, pictures, counts, seed
    plots: Sequence[Path] = field(default_factory=tuple)  # PNG files, see `plot_path`


def plot_path(name: str) -> Path:
    """Return the path of a plot, where the page looks for it."""
    return FOLDER / f"{name}.png"


def publish(result: Result) -> None:
    """Print the tables, write the JSON, and replace the bench's section of the page, or append one."""
    print(f"\n{result.title}\n\n" + "\n\n".join(table.markdown() for table in result.tables) + "\n")
    FOLDER.mkdir(parents=True, exist_ok=True)
    provenance = described()
    tables = [asdict(table) for table in result.tables]
    content = {"title": result.title, **provenance, "setting": result.setting, "notes": [*result.notes], "tables": tables}
    (FOLDER / f"{result.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _put_section(result, provenance)


def described() -> dict[str, Any]:
    """Return date, commit, machine and versions of this run."""
    versions = {name: version(name) for name in PACKAGES}
    return {"date": date.today().isoformat(), "commit": _commit(), "machine": hardware.description(), "versions": versions}


def _put_section(result: Result, provenance: dict[str, Any]) -> None:
    begin, end = f"<!-- {result.name} -->", f"<!-- /{result.name} -->"
    here, file = provenance["machine"], f"{result.name}.json"
    footer = f"*{provenance['date']}, {here['cores']} cores of {here['cpu']}; figures in [{file}](benchmarks/{file}).*"
    plots = [f"![{result.title}](benchmarks/{plot.name})" for plot in result.plots]
    parts = [f"## {result.title}", *result.notes, *(table.markdown() for table in result.tables), *plots, footer]
    section = f"{begin}\n" + "\n\n".join(parts) + f"\n{end}"
    page = PAGE.read_text(encoding="utf-8")
    old = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    new = old.sub(lambda _: section, page) if old.search(page) else f"{page.rstrip()}\n\n{section}\n"
    PAGE.write_text(new, encoding="utf-8")


def _commit() -> str:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    return head.stdout.strip() or "unknown"
