"""Folders as img2dataset 1.47 writes them, one for each of its formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from shards import Members, shard

FIELDS = pa.schema(
    [
        *((name, pa.string()) for name in ("license", "caption", "url", "key", "status", "error_message")),
        *((name, pa.int32()) for name in ("width", "height", "original_width", "original_height")),
        *((name, pa.string()) for name in ("exif", "sha256")),
    ]
)
"""Columns of its tables; ``license`` is one that the user asked for."""


def write(parent: Path, jpegs: Sequence[bytes | None]) -> None:
    """Write a shard in each format below a folder: ``downloaded-shards``, ``…-files``, ``…-parquet``.

    Args:
        parent: folder of the three.
        jpegs: pictures; None for a download that failed.
    """
    rows = [_row(number, jpeg is not None) for number, jpeg in enumerate(jpegs)]
    items = [(row["key"], _members(row, jpeg)) for row, jpeg in zip(rows, jpegs, strict=True) if jpeg]
    table = pa.Table.from_pylist(rows, FIELDS)
    with_pictures = table.append_column("jpg", pa.array(jpegs, pa.binary()))
    for form, own in (("shards", table), ("files", table), ("parquet", with_pictures)):
        folder = parent / f"downloaded-{form}"
        folder.mkdir(parents=True)
        pq.write_table(own, folder / "00000.parquet")
        (folder / "00000_stats.json").write_text(json.dumps({"count": len(rows), "successes": len(items)}, indent=4))
    shard(parent / "downloaded-shards" / "00000.tar", items)
    (parent / "downloaded-files" / "00000").mkdir()
    for key, members in items:
        for ending, content in members.items():
            (parent / "downloaded-files" / "00000" / f"{key}.{ending}").write_bytes(content)


def caption(number: int) -> str | None:
    """Return the caption of an item; the second one has none."""
    return None if number == 1 else f"thing number {number}, 猫"


def _row(number: int, is_there: bool) -> dict[str, Any]:
    told = {"url": f"http://a.example/{number}.jpg", "key": f"{number:09d}", "license": "CC0", "caption": caption(number)}
    if not is_there:
        return told | {"status": "failed_to_download", "error_message": "HTTP Error 404: Not Found"}
    sizes = {"width": 256, "height": 256, "original_width": 300, "original_height": 200}
    return told | sizes | {"status": "success", "error_message": None, "exif": "{}", "sha256": f"{number:064x}"}


def _members(row: dict[str, Any], jpeg: bytes) -> Members:
    return {"jpg": jpeg, "txt": (row["caption"] or "").encode(), "json": json.dumps(row, indent=4).encode()}
