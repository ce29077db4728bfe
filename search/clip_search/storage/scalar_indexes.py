"""LanceDB's indexes of single columns: ``merge_insert`` and filters want them."""

from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa

from clip_search.storage.schema import own_columns

_KINDS = {
    **dict.fromkeys(("string", "int", "float", "uint", "timestamp", "date"), "BTree"),
    "bool": "Bitmap",
    **dict.fromkeys(("list<string>", "list<int>", "list<bool>"), "LabelList"),
}
"""Kind of a column -> its index; filters read a column of another kind."""


def wanted(schema: pa.Schema, have: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield name and LanceDB's configuration of each index that the keys and the user's columns lack."""
    import lancedb.index

    kinds = {"id": "string", "row": "int", **own_columns(schema)}
    for name in kinds.keys() - have:
        if kinds[name] in _KINDS:
            yield name, getattr(lancedb.index, _KINDS[kinds[name]])()
