"""Formats that are imported, told by what a folder holds."""

from __future__ import annotations

from pathlib import Path

from clip_client.errors import InvalidInput
from clip_search.imports.chunks import Source
from clip_search.imports.runs import has_run, unfinished
from clip_search.imports.shards import has_vectors, open_folder
from clip_search.imports.tables import lance_tables, parquet_tables


def opened(folder: Path) -> Source:
    """Open a folder: clip-retrieval's layout, a Lance data set, or parquet files.

    Raises:
        InvalidInput: it is none of them, or nothing of it can be read.
        Unavailable: a package for it isn't installed.
    """
    if (folder / "_versions").is_dir():
        return lance_tables(folder)
    if has_vectors(folder):
        return open_folder(folder)
    if tables := parquet_tables(folder):
        return tables
    if not folder.is_dir():
        raise InvalidInput(f"no folder {folder}: expected one that clipserve embed or clip-retrieval wrote")
    if told := unfinished(folder):
        raise InvalidInput(f"there is nothing to import in {folder} yet: {told}")
    if has_run(folder):
        raise InvalidInput(f"{folder} has no rows, all items were left out: errors.parquet there says why")
    raise InvalidInput(
        f"no vectors in {folder}: expected img_emb, text_emb, image.index, text.index, parquet files or a Lance data set"
    )
