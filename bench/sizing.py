"""Sizes of machines for a number of pictures and of queries a second, computed from the figures beside docs/benchmarks.md.

python bench/sizing.py --pictures 1000000 --queries 20
python bench/sizing.py --pictures 5000000 --queries 50 --embed 10 --json

It is a beginning: docs/operations/sizing.md has what it leaves out, and the recipe to measure your own.
"""

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parents[1] / "docs" / "benchmarks"
TABLE_VECTOR_BYTES = 4  # of each number: the table keeps float32
THUMBNAIL_BYTES = 17_300  # mean of 96 photos of some 500 x 375, at most 320 pixels wide and high
COPIES = 2  # of the table while it is compacted, and of the index while one is built beside it
SHARED_MEMORY_GB = 4.0  # /dev/shm: two of the largest batches, of which ordinary ones take little


@dataclass(frozen=True)
class Load:
    """Wishes: rows, queries and pictures to embed a second, and what is kept of a row."""

    pictures: int = 1_000_000
    queries: float = 10.0
    embed: float = 0.0
    size: int = 512
    metadata_bytes: int = 300
    thumbnails: bool = True
    busy: float = 0.6


@dataclass(frozen=True)
class Sizes:
    """Cores, memory and disk of Triton and the search."""

    cores: float
    triton_gb: float
    shared_memory_gb: float
    search_gb: float
    disk_gb: float
    days_to_embed: float
    measured_rows: int


def main() -> None:
    """Compute and print."""
    options = vars(parser().parse_args())
    as_json = options.pop("json")
    load = Load(**options)
    sizes = sizes_of(load)
    if as_json:
        print(json.dumps({"load": asdict(load), "sizes": asdict(sizes)}, indent=1))
        return
    print(
        f"{load.pictures:,} pictures of {load.size} numbers, {load.queries:g} queries and {load.embed:g} new pictures a second"
    )
    for text in described(load, sizes):
        print(f"  {text}")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Load()
    made.add_argument("--pictures", type=int, default=default.pictures, metavar="N", help="rows of the search")
    made.add_argument("--queries", type=float, default=default.queries, metavar="Q", help="text queries a second")
    made.add_argument(
        "--embed", type=float, default=default.embed, metavar="P", help="pictures a second that are added meanwhile"
    )
    made.add_argument("--size", type=int, default=default.size, metavar="D", help="numbers of an embedding")
    made.add_argument("--metadata-bytes", type=int, default=default.metadata_bytes, metavar="B", help="columns of a row")
    made.add_argument("--no-thumbnails", dest="thumbnails", action="store_false", help="without them")
    made.add_argument("--busy", type=float, default=default.busy, metavar="SHARE", help="share of the cores that may be busy")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def sizes_of(load: Load) -> Sizes:
    """Return what a load needs.

    Raises:
        SystemExit: for a load that makes no sense.
    """
    if (
        load.pictures < 1
        or load.size < 1
        or not all(0 <= some < math.inf for some in (load.queries, load.embed, load.metadata_bytes))
    ):
        raise SystemExit("pictures and size must be at least 1, the others at least 0")
    if not 0 < load.busy <= 1:
        raise SystemExit(f"--busy is {load.busy:g}, expected a share above 0 and at most 1")
    search, scale, memory = figures("search"), figures("scale"), memory_near(load.pictures)
    cores = search["machine"]["cores"]
    query_s = cores / cell(search, "text queries", "clipserve, 8 clients", "queries/s")  # the clients' own share is in it
    picture_s = cell(scale, "images", "16 clients", "server CPU-s per 1,000") / 1000
    measured = memory["setting"]["rows"]
    scaled = load.pictures / measured * load.size / memory["setting"]["size"]
    index_gb = cell(memory, "figure", "files of the index MB", "value") / 1000 * scaled
    working_gb = max(row[2] for row in memory["tables"][0]["rows"]) / 1000
    row_bytes = TABLE_VECTOR_BYTES * load.size + load.metadata_bytes + THUMBNAIL_BYTES * load.thumbnails
    return Sizes(
        cores=(load.queries * query_s + load.embed * picture_s) / load.busy,
        triton_gb=cell(scale, "memory, MB", "highest", "in all") / 1000,
        shared_memory_gb=SHARED_MEMORY_GB,
        search_gb=working_gb + index_gb,
        disk_gb=COPIES * (load.pictures * row_bytes / 1e9 + index_gb),
        days_to_embed=load.pictures * picture_s / 86_400,
        measured_rows=measured,
    )


def described(load: Load, sizes: Sizes) -> list[str]:
    """Return the sizes as lines for people."""
    return [
        f"cores          {sizes.cores:.1f} of an AMD EPYC (Zen 4), {load.busy:.0%} busy; at least 2",
        f"Triton         {sizes.triton_gb:.1f} GB, and {sizes.shared_memory_gb:.0f} GB of /dev/shm for the largest batches",
        f"search         {sizes.search_gb:.1f} GB: process, and index in the system's cache; from {sizes.measured_rows:,} rows",
        f"disk           {sizes.disk_gb:.0f} GB, twice what is stored",
        f"first filling  {sizes.days_to_embed * 24:.1f} hours of one core for embedding",
    ]


@cache
def figures(name: str) -> dict[str, Any]:
    """Return the figures of a bench."""
    content: dict[str, Any] = json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))
    return content


def memory_near(pictures: int) -> dict[str, Any]:
    """Return the figures on memory of the largest measured collection that isn't larger, else the smallest."""
    measured = [figures(path.stem) for path in sorted(FIGURES.glob("memory-*.json"))]
    ours = sorted((one for one in measured if one["setting"]["engine"] == "faiss"), key=lambda one: int(one["setting"]["rows"]))
    return next((one for one in reversed(ours) if one["setting"]["rows"] <= pictures), ours[0])


def cell(result: Mapping[str, Any], heading: str, row: str, column: str) -> float:
    """Return a figure: that of the table with this first column, in the last row that begins so."""
    [table] = [table for table in result["tables"] if table["columns"][0] == heading]
    [*_, last] = [cells for cells in table["rows"] if cells[0] == row]
    return float(last[table["columns"].index(column)])


if __name__ == "__main__":
    main()
