"""Rows whose vectors are ready, in record batches: checked and added, each with an error of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_type

from clip_client.errors import InvalidInput
from clip_client.spec import TOWERS, Tower
from clip_client.thumbnails import thumbnail
from clip_search.arrays import Floats, Mask, Rows, present
from clip_search.collection import Collection
from clip_search.errors import Moved
from clip_search.imports.values import Lost, is_string, kind_for, values
from clip_search.ingest import Outcome, gone_over, once, side_by_side, stored
from clip_search.items import AddOptions
from clip_search.sidecar import Sidecar
from clip_search.storage.kinds import shown, word
from clip_search.storage.rows import NewRow, checked_id
from clip_search.storage.schema import MAX_COLUMNS, RESERVED, SOURCE_STATE, check_column, tower_column
from clip_search.storage.writer import Added
from clip_search.thread_priority import step_back

MOST_ROWS = 10_000  # in one addition
_GIVEN = {"id", "source", SOURCE_STATE, "thumbnail", *map(tower_column, TOWERS)}  # columns that rows may come with
_LONGEST = {"source": 4096, SOURCE_STATE: 65_536}
_SAME = 0.999  # least cosine of a vector and itself after an export in half precision


@dataclass(frozen=True)
class Ready:
    """Outcome of an addition, and the positions of rows whose ids belong to rows with other vectors."""

    outcome: Outcome
    others: tuple[int, ...] = ()


def add_ready(sidecar: Sidecar, collection: Collection, rows: pa.Table, options: AddOptions, *, compare: bool) -> Ready:
    """Add rows; return once they are durable and searchable.

    Args:
        rows: columns as :func:`check_schema` tells; at most 10,000.
        compare: of rows that are skipped, name those whose vectors differ.

    Raises:
        InvalidInput: no row is good, or what is wrong concerns all.
        ClipError: the disk's.
    """
    sidecar.check_made_by(collection, options.fingerprint)
    kinds = check_schema(rows.schema, collection.about.size)
    errors: dict[int, str] = {}
    read = _read(rows.combine_chunks(), kinds, collection.about.size, errors)
    there = collection.numbers([row.id for row in read.values()]) if options.on_conflict == "skip" else {}
    waiting = {n: row for n, row in read.items() if row.id not in there}
    _make_small(sidecar, waiting, errors)
    good = once({n: row for n, row in waiting.items() if n not in errors}, errors)
    declared = AddOptions(options.on_conflict, options.fingerprint, kinds)
    try:
        added = stored(collection, good, declared, errors)
    except Moved:
        raise gone_over(collection) from None
    skipped = added.skipped + len(read) - len(waiting)
    collection.tally.added(added.added, added.replaced, skipped, len(errors))
    if not added.added + added.replaced + skipped:
        n, reason = min(errors.items())
        raise InvalidInput(f"none of {len(rows)} rows can be added; row {n}: {reason}", errors=errors)
    counts = Added(added.added, added.replaced, skipped, [row.id for n, row in read.items() if n not in errors])
    known = {n: row for n, row in read.items() if row.id in there}
    return Ready(Outcome(counts, errors), _others(collection, known, there) if compare and known else ())


def check_schema(schema: pa.Schema, size: int) -> dict[str, str]:
    """Return the kinds by name of the user's columns.

    Raises:
        InvalidInput: a column that can't be taken, or none with vectors.
    """
    if len(schema) > MAX_COLUMNS:
        raise InvalidInput(f"the rows have {len(schema)} columns: expected at most {MAX_COLUMNS}")
    if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
        raise InvalidInput(f"column {shown(twice[0])} is there twice: send each once")
    towers = [tower_column(tower) for tower in TOWERS if tower_column(tower) in schema.names]
    if not towers:
        raise InvalidInput("the rows have no vectors: expected a column vector_image, vector_text or both")
    for name in towers:
        _check_vectors(name, schema.field(name).type, size)
    for name, expected, fits in (("thumbnail", "binary", is_type.is_binary), *((name, "string", is_string) for name in _TEXTS)):
        if name in schema.names and not (fits(schema.field(name).type) or is_type.is_null(schema.field(name).type)):
            raise InvalidInput(f"column {name} is {_named(schema.field(name).type)}: expected {expected}")
    return {field.name: _kind(field) for field in schema if field.name not in RESERVED and not is_type.is_null(field.type)}


_TEXTS = ("id", "source", SOURCE_STATE)


def _check_vectors(name: str, type: pa.DataType, size: int) -> None:
    is_list = is_type.is_fixed_size_list(type) or is_type.is_list(type) or is_type.is_large_list(type)
    if not is_list or not is_type.is_floating(type.value_type):
        raise InvalidInput(f"column {name} is {_named(type)}: expected lists of {size} floats")
    if is_type.is_fixed_size_list(type) and type.list_size != size:
        raise InvalidInput(f"column {name} holds vectors of {type.list_size}, the collection holds {size}: use the same model")


def _kind(field: pa.Field) -> str:
    check_column(field.name)
    kind, type = kind_for(field.type), field.type
    is_plain = not isinstance(type, pa.BaseExtensionType) and not is_type.is_dictionary(type)
    if is_plain and not is_type.is_run_end_encoded(type) and (kind != "string" or is_string(type)):
        return kind
    raise InvalidInput(
        f"column {word(field.name)} is {_named(type)}: expected a plain type or a list of one; send others as JSON text"
    )


def _named(type: pa.DataType) -> str:
    return shown(str(type)).strip("'")


def _read(rows: pa.Table, kinds: Mapping[str, str], size: int, errors: dict[int, str]) -> dict[int, NewRow]:
    """Return the good rows by position; note the reasons of the others."""
    towers = [tower for tower in TOWERS if tower_column(tower) in rows.schema.names]
    units = {tower: _unit(rows[tower_column(tower)], size, errors) for tower in towers}
    vectors = {tower: (list(matrix), there.tolist()) for tower, (matrix, there) in units.items()}
    metadata = _metadata(rows, kinds, errors)
    none = [None] * len(rows)
    ids, sources, states, pictures = (
        rows[name].to_pylist() if name in rows.schema.names else none for name in (*_TEXTS, "thumbnail")
    )
    read: dict[int, NewRow] = {}
    for n, id in enumerate(ids):
        own = {tower: matrix[n] for tower, (matrix, there) in vectors.items() if there[n]}
        try:
            _check_texts(sources[n], states[n])
            if not own and n not in errors:
                raise InvalidInput("the row has no vector: send vector_image, vector_text or both")
            row = NewRow(checked_id(id), own, metadata[n], sources[n], pictures[n], states[n])
        except InvalidInput as problem:
            errors[n] = str(problem)
        if n not in errors:
            read[n] = row
    return read


def _check_texts(source: str | None, state: str | None) -> None:
    for name, text in (("source", source), (SOURCE_STATE, state)):
        if text is not None and len(text) > _LONGEST[name]:
            raise InvalidInput(f"{name} has {len(text)} characters: expected at most {_LONGEST[name]}")


def _unit(column: pa.ChunkedArray, size: int, errors: dict[int, str]) -> tuple[Floats, Mask]:
    """Return the vectors of a column, float32 [n, D] of unit length, and a mask [n] of those that are there and good."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    there = np.asarray(array.is_valid())
    if not is_type.is_fixed_size_list(array.type):
        lengths = np.asarray(pc.list_value_length(array).fill_null(size))
        for n in np.flatnonzero(lengths != size).tolist():
            errors[n] = f"the vector has {lengths[n]} numbers, the collection holds {size}: use the same model"
        there &= lengths == size
        array = pc.if_else(pa.array(there), array, pa.scalar(None, array.type)).cast(pa.list_(array.type.value_type, size))
    flat = np.asarray(array.values)[array.offset * size : (array.offset + len(array)) * size]
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = flat.reshape(-1, size).astype(np.float32)  # [n * D] -> [n, D]
        squares = np.einsum("ij,ij->i", matrix, matrix)  # [n, D] -> [n]
        good = there & np.isfinite(squares) & (squares >= 1e-24)
        matrix /= np.sqrt(np.where(good, squares, 1))[:, None]
    for n in np.flatnonzero(there & ~good).tolist():
        errors[n] = "the vector has NaN, infinity or length 0: send finite numbers that have a direction"
    return matrix, good


def _metadata(rows: pa.Table, kinds: Mapping[str, str], errors: dict[int, str]) -> list[dict[str, Any]]:
    """Return the user's columns of each row, as the API takes them."""
    metadata: list[dict[str, Any]] = [{} for _ in range(len(rows))]
    for name, kind in kinds.items():
        for array in [chunk for chunk in rows[name].chunks if len(chunk)] if len(rows) else []:
            for row, value in zip(metadata, _values(array, name, kind, errors), strict=True):
                if value is not None:
                    row[name] = value
    return metadata


def _values(array: pa.Array, name: str, kind: str, errors: dict[int, str]) -> Sequence[Any]:
    lost: Lost = Counter()
    taken = values(array, kind, lost)
    for n in range(len(array)) if lost else ():
        here: Lost = Counter()
        values(array.slice(n, 1), kind, here)
        for reason in here:
            errors[n] = f"metadata {word(name)}: {reason.partition(':')[0]}"
    return taken


def _make_small(sidecar: Sidecar, rows: Mapping[int, NewRow], errors: dict[int, str]) -> None:
    """Make thumbnails of the pictures that rows come with; nothing that is sent is shown as it is."""
    pictures = {n: row.thumbnail for n, row in rows.items() if row.thumbnail is not None}
    if pictures:
        small = side_by_side(pictures, partial(thumbnail, memory=sidecar.decoding), errors, begin=step_back)
        for n, picture in small.items():
            rows[n].thumbnail = picture


def _others(collection: Collection, rows: Mapping[int, NewRow], there: Mapping[str, int]) -> tuple[int, ...]:
    """Return the positions of rows that have other vectors than the rows with their ids."""
    others: set[int] = set()
    for tower in TOWERS:
        if not (ours := {n: row for n, row in rows.items() if tower in row.vectors}):
            continue
        numbers = np.array([there[row.id] for row in ours.values()], np.int64)
        known, vectors = _stored_vectors(collection, tower, numbers)
        matrix = np.array([row.vectors[tower] for row in ours.values()], np.float32)  # [n, D]
        here = present(known, numbers)
        same = np.zeros(len(numbers), bool)
        theirs = vectors[np.searchsorted(known, numbers[here])]
        cosines = np.einsum("ij,ij->i", matrix[here], theirs)  # [m, D], [m, D] -> [m]
        same[here] = cosines >= _SAME * np.sqrt(np.einsum("ij,ij->i", theirs, theirs))
        others.update(n for n, is_same in zip(ours, same.tolist(), strict=True) if not is_same)
    return tuple(sorted(others))


def _stored_vectors(collection: Collection, tower: Tower, numbers: Rows) -> tuple[Rows, Floats]:
    """Return those of rows that have a vector, ascending, and the vectors [n, D]."""
    size, column = collection.about.size, tower_column(tower)
    table = collection.table.read(np.unique(numbers), ["row", column])
    table = table.filter(pc.is_valid(table[column]))
    return table["row"].to_numpy(), np.asarray(table[column].combine_chunks().flatten()).reshape(-1, size)  # [n * D] -> [n, D]
