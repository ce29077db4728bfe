"""A collection whose vectors are in Milvus, changed until death: python killed_milvus.py FOLDER URI."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from kill_ledger import Ledger, vector
from killed_collection import CLIENTS, SIZE, Load

from clip_search.collection import Collection
from clip_search.options import IndexOptions, MilvusOptions
from clip_search.storage.database import Database
from clip_search.storage.schema import About


def opened(folder: Path, uri: str) -> tuple[Database, Collection]:
    """The database of a folder and its collection."""
    options = IndexOptions(engine="milvus", exact_rows=20, tail_rows=25, milvus=MilvusOptions(uri))
    store = Database(str(folder / "db"), folder / "indexes")
    table = store.open("a") if "a" in store.names() else store.create("a", About(SIZE, "model1"), {"serial": "int"})

    def texts(count: int, space: str, size: int) -> tuple[Any, Any]:
        return np.stack([vector(n, "text", size) for n in range(count)]), "texts"

    return store, Collection("a", table, folder / "indexes" / "a", options, texts)


def main(folder: str, uri: str) -> None:
    """Change until death."""
    ledger = Ledger(Path(folder) / "ledger", SIZE)
    _store, collection = opened(Path(folder), uri)
    rows = collection.table.page("", -1, 100_000, ["id", "serial"])
    there = {row["id"]: row["serial"] for row in rows}
    wrong = ledger.judge(there) + ([f"{len(rows)} rows, {len(there)} ids"] if len(rows) != len(there) else [])
    if wrong := wrong + ledger.seen(there, {row["row"]: row["serial"] for row in rows}):
        sys.exit("; ".join(wrong))
    print("open", flush=True)
    clients = [threading.Thread(target=Load(collection, ledger, n, ledger.serial()).go_on) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
