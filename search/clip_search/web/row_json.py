"""Rows and hits as they are sent."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from clip_client.spec import TOWERS
from clip_search.collection import Collection
from clip_search.query import Hit
from clip_search.sidecar import Sidecar
from clip_search.storage.schema import HEAVY, SOURCE_STATE

_NOT_METADATA = ("id", "row", "source", "fingerprint", "time", "has_image", "has_text", "has_thumbnail")


class Rendering:
    """Form of the rows of one collection."""

    def __init__(self, sidecar: Sidecar, collection: Collection) -> None:
        self._collection = collection
        self._from_files = bool(sidecar.options.fetch.folders)

    def columns(self, *, vectors: bool) -> list[str]:
        """Return the columns that :meth:`row` wants."""
        hidden = HEAVY - {SOURCE_STATE, *(f"vector_{tower}" for tower in TOWERS if vectors)}
        return [name for name in self._collection.table.schema.names if name not in hidden and name != "row"]

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as it is sent: the user's columns under ``metadata``, vectors in base64 of float32."""
        fixed = {name: row[name] for name in ("id", "row", "source", "fingerprint", "time")}
        given = {name: value for name, value in row.items() if name.startswith("vector_") and value is not None}
        vectors = {name: base64.b64encode(np.asarray(value, "<f4").tobytes()).decode() for name, value in given.items()}
        own = {name: value for name, value in row.items() if name not in _NOT_METADATA and name not in HEAVY}
        state = {SOURCE_STATE: row[SOURCE_STATE]} if row.get(SOURCE_STATE) is not None else {}
        return {**fixed, **state, **vectors, "thumbnail": self._thumbnail(row["row"], row), "metadata": own}

    def hit(self, hit: Hit) -> dict[str, Any]:
        """Return a hit as it is sent."""
        card = hit.card
        sent = {
            "id": card["id"],
            "row": hit.row,
            "score": hit.score,
            "source": card["source"],
            "thumbnail": self._thumbnail(hit.row, card),
            "metadata": {name: value for name, value in card.items() if name not in _NOT_METADATA},
        }
        return {**sent, "same": hit.same} if hit.same else sent

    def _thumbnail(self, row: int, values: Mapping[str, Any]) -> str | None:
        """Return the path of a thumbnail; without a stored one there may be one of the file, where files may be read."""
        has_picture = values["has_thumbnail"] or (self._from_files and (values["source"] or values.get("image_path")))
        return f"/v1/collections/{self._collection.name}/thumbnails/{row}" if has_picture else None
