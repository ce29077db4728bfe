"""Deletions on a small disk that is full for moments: python full_disk_deletions.py FOLDER, in a mount namespace of its own."""

import json
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from clip_search.errors import StorageFull
from clip_search.storage.database import Database
from clip_search.storage.rows import NewRow, to_arrow
from clip_search.storage.schema import About

SIZE, ROWS, ROUNDS = 8, 4000, 60


def filled(path: Path) -> None:
    """Take what room there is."""
    with path.open("wb", buffering=0) as file:
        for block in (65_536, 512):
            with suppress(OSError):
                while True:
                    file.write(bytes(block))


def main(folder: Path) -> None:
    """Delete rows while the disk fills and empties; print how many there are, and how many there should be."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder], check=True)
    database = Database(str(folder / "db"), folder / "indexes")
    table = database.create("a", About(SIZE, ""), {})
    vectors = np.random.default_rng(0).standard_normal((ROWS, SIZE), np.float32)
    for first in range(0, ROWS, 500):
        some = [NewRow(f"r{n}", {"image": vectors[n]}) for n in range(first, first + 500)]
        table.append(to_arrow(some, first, "", table.schema))
    draw, left, deleted, refused = random.Random(0), set(range(ROWS)), 0, 0
    filler = folder / "filler"
    for _ in range(ROUNDS):
        filled(filler)
        emptying = threading.Timer(draw.random() * 0.1, filler.write_bytes, [b""])
        emptying.start()
        end = time.monotonic() + 0.15
        while time.monotonic() < end:
            row = draw.choice(sorted(left))
            try:
                table.delete(np.array([row]))
            except StorageFull:
                refused += 1
            else:
                left.discard(row)
                deleted += 1
        emptying.join()
        table.refresh()
        assert set(table.numbers().tolist()) == left
    database.close()
    database = Database(str(folder / "db"), folder / "indexes")
    rows = database.open("a").numbers().tolist()
    assert set(rows) == left
    print(json.dumps({"rows": len(rows), "expected": len(left), "deleted": deleted, "refused": refused}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
