"""Function for ``datasets.Dataset.map`` that adds the embeddings of a column."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clip_client.errors import InvalidInput
from clip_client.spec import Tower
from clip_client.type_names import a_type

if TYPE_CHECKING:
    from clip_client.clip import Clip

_LIBRARY = "datasets"
_ONE = (str, bytes, Mapping, os.PathLike, Image.Image)
"""Types of one row's value, which aren't lists of several rows' values."""


class ColumnMapper:
    """Function that takes a row, or a batch of rows, and returns two new columns: embeddings and errors.

    A row that can't be embedded has an empty embedding and its reason in the column of errors, which is ``""`` for the others.
    Lists and strings are never None, because ``datasets`` takes the type of a new column from its first batch.

    It can be pickled; its copy opens a client of its own. The fingerprint by which ``datasets`` caches results depends on the
    checkpoint and on the columns' names, not on the server's address.
    """

    def __init__(self, clip: Clip, tower: Tower, column: str, embedding: str, error: str) -> None:
        names = {"column": column, "embedding": embedding, "error": error}
        for argument, name in names.items():
            if not isinstance(name, str) or not name:
                raise InvalidInput(f"{argument} is {name!r}: expected the name of a column")
        if len(set(names.values())) < len(names):
            raise InvalidInput(f"column, embedding and error are {column!r}, {embedding!r}, {error!r}: expected three names")
        self._clip = clip
        self._names = (tower, column, embedding, error)
        self.identity = (*self._names, clip.spec.fingerprint)
        """All that a result depends on, besides the rows."""
        _tell_fingerprint()

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Return the embeddings, float32 [D] each, and the errors of a row or of a batch."""
        tower, column, embedding, error = self._names
        values, single = _values(rows, column)
        if tower == "image":
            embeddings, errors = _embedded(self._clip.embed_image, [_picture(value) for value in values], "picture")
        else:
            embeddings, errors = _embedded(self._clip.embed_text, values, "text")
        reasons = [_named(reason, value) for reason, value in zip(errors, values, strict=True)]
        return {embedding: embeddings[0], error: reasons[0]} if single else {embedding: embeddings, error: reasons}

    def __reduce__(self) -> tuple[Any, ...]:
        return ColumnMapper, (self._clip, *self._names)

    def __repr__(self) -> str:
        tower, column, embedding, error = self._names
        return f"<{tower} embeddings of {column!r} into {embedding!r} and {error!r}>"


def _tell_fingerprint() -> None:
    """Have ``datasets``, where it is installed, hash a mapper by its identity instead of its pickle, which has an address."""
    if not find_spec(_LIBRARY):
        return
    with contextlib.suppress(ImportError):  # without it a new address is a new fingerprint, which is right if slow
        from datasets.utils._dill import pklregister

        pklregister(ColumnMapper)(_save_identity)


def _save_identity(pickler: Any, mapper: ColumnMapper) -> None:
    pickler.save_reduce(ColumnMapper, mapper.identity, obj=mapper)


def _values(rows: Any, column: str) -> tuple[list[Any], bool]:
    """Return a column's values as they are stored, images undecoded; and true if they are one row's."""
    if not isinstance(rows, Mapping):
        raise InvalidInput(f"a row can't be {a_type(rows)}: call map without input_columns")
    if column not in rows:
        raise InvalidInput(f"there is no column {column!r}: the rows have {', '.join(map(repr, rows))}")
    table = getattr(rows, "pa_table", None)
    if table is not None:  # rows of datasets: a damaged image would stop the whole map if it were decoded there
        from datasets.formatting.formatting import LazyRow

        return table[column].to_pylist(), isinstance(rows, LazyRow)
    value = rows[column]
    single = value is None or not isinstance(value, Iterable) or isinstance(value, _ONE) or getattr(value, "ndim", 0) == 3
    return ([value], True) if single else (list(value), False)


def _picture(value: Any) -> Any:
    """Return an image in a form that the client takes."""
    if isinstance(value, Mapping):  # as datasets stores its feature Image
        content = value.get("bytes")
        return value.get("path") if content is None else content
    if isinstance(value, list):
        with contextlib.suppress(ValueError):  # of rows of different lengths, which the client refuses as a list
            value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size and 0 <= value.min() <= value.max() <= 255:
        return value.astype(np.uint8)  # the formats of datasets widen integers
    return value


def _embedded(embed: Callable[..., Any], items: Sequence[Any], noun: str) -> tuple[list[Any], list[str]]:
    """Return an embedding and a reason for each item; one of the two is empty."""
    present = [n for n, item in enumerate(items) if item is not None]
    rows = embed([items[n] for n in present], on_error="none")
    embeddings: list[Any] = [np.empty(0, np.float32)] * len(items)
    errors = [f"the row has no {noun}"] * len(items)
    for position, (n, row) in enumerate(zip(present, rows, strict=True)):
        errors[n] = rows.errors.get(position, "")
        if row is not None:
            embeddings[n] = row
    return embeddings, errors


def _named(reason: str, value: Any) -> str:
    """Return a reason that begins with the source, where there is one that it doesn't name yet."""
    source = value.get("path") if isinstance(value, Mapping) else None
    return f"{source}: {reason}" if reason and source and str(source) not in reason else reason
