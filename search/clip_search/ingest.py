"""What a client sends as rows -> rows with vectors, and a reason for each that can't be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from clip_client.errors import ClipError, InvalidInput
from clip_client.spec import Tower
from clip_search.collection import Collection
from clip_search.copies import completed
from clip_search.query import Term
from clip_search.rows import NewRow, OnConflict, checked_id, checked_vector
from clip_search.schema import checked_value, new_columns, own_columns
from clip_search.sidecar import Sidecar
from clip_search.thumbnails import thumbnail
from clip_search.writer import Added

_READERS = 8
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Item:
    """A row as sent: at least one of image, text and vectors.

    Attributes:
        image: an image term.
        text: goes through the text tower, and into the column ``caption`` unless that is given.
        vectors: ready ones by tower, as sent.
        source_state: what the client notes of the source.
        same_as: id of a row that gives what isn't here: vectors, thumbnail, columns.
    """

    id: str | None = None
    image: Term | None = None
    text: str | None = None
    vectors: dict[Tower, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    source_state: str | None = None
    same_as: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a request: counts, ids, and the reason of each item that was left out, by its position."""

    done: Added
    errors: dict[int, str]


def add(sidecar: Sidecar, collection: Collection, items: Sequence[Item], on_conflict: OnConflict, fingerprint: str) -> Outcome:
    """Embed what needs it and add all rows that are good; returns once they are durable and found.

    Raises:
        InvalidInput: no item is good, or what is wrong concerns all.
        ClipError: the model's or the disk's.
    """
    collection.about.check_fingerprint(fingerprint, collection.name)
    known = own_columns(collection.table.schema)
    errors: dict[int, str] = {}
    rows = _good(range(len(items)), (_attempt(partial(_row, collection, known), item) for item in items), errors)
    skipped = collection.present([row.id for row in rows.values()]) if on_conflict == "skip" else set()
    waiting = {n: row for n, row in rows.items() if row.id not in skipped}
    _embed_images(sidecar, collection, items, waiting, errors)
    _embed_texts(sidecar, collection, items, waiting, errors)
    good = [row for n, row in waiting.items() if n not in errors]
    if errors and not good and not skipped:
        n, reason = next(iter(errors.items()))
        raise InvalidInput(f"none of {len(items)} rows can be added; row {n}: {reason}", errors=errors)
    done = collection.add(good, on_conflict=on_conflict, fingerprint=fingerprint).result()
    ids = [row.id for n, row in rows.items() if n not in errors]
    return Outcome(Added(done.added, done.replaced, done.skipped + len(skipped), ids), errors)


def _row(collection: Collection, known: Mapping[str, str], item: Item) -> NewRow:
    if not item.image and item.text is None and not item.vectors and item.same_as is None:
        raise InvalidInput("nothing to embed: send image, image_url, image_path, text, vector, text_vector or same_as")
    size = collection.about.size
    vectors = {tower: checked_vector(values, size) for tower, values in item.vectors.items()}
    metadata = {"caption": item.text, **item.metadata} if item.text is not None else item.metadata
    _check_metadata(known, metadata)
    source = item.source or (item.image.value if item.image and item.image.kind != "image" else None)
    row = NewRow(checked_id(item.id), vectors, metadata, source, source_state=item.source_state)
    return row if item.same_as is None else completed(row, collection, item.same_as, embedded=_embedded(item))


def _embedded(item: Item) -> set[Tower]:
    """Towers that the item has an input for."""
    return {tower for tower, given in (("image", item.image), ("text", item.text)) if given is not None}  # type: ignore[misc]


def _check_metadata(known: Mapping[str, str], metadata: dict[str, Any]) -> None:
    new_columns(known, [metadata])
    for name, value in metadata.items():
        if name in known:
            checked_value(name, known[name], value)


def _embed_images(
    sidecar: Sidecar, collection: Collection, items: Sequence[Item], rows: dict[int, NewRow], errors: dict[int, str]
) -> None:
    wanted = [n for n in rows if items[n].image]
    if not wanted:
        return
    needed = [n for n in wanted if "image" not in rows[n].vectors]
    if needed:
        sidecar.check_model(collection)
    files = _side_by_side({n: items[n].image for n in wanted}, sidecar.image, errors)
    needed = [n for n in needed if n in files]
    embedded = sidecar.embedder.images([files[n] for n in needed]) if needed else []
    _take(rows, "image", needed, embedded, errors)
    small = _side_by_side({n: file for n, file in files.items() if n not in errors}, thumbnail, errors)
    for n, picture in small.items():
        rows[n].thumbnail = picture


def _embed_texts(
    sidecar: Sidecar, collection: Collection, items: Sequence[Item], rows: dict[int, NewRow], errors: dict[int, str]
) -> None:
    needed = [n for n in rows if items[n].text is not None and "text" not in rows[n].vectors and n not in errors]
    if needed:
        sidecar.check_model(collection)
        _take(rows, "text", needed, sidecar.embedder.texts([str(items[n].text) for n in needed]), errors)


def _take(rows: dict[int, NewRow], tower: Tower, numbers: Sequence[int], embedded: Any, errors: dict[int, str]) -> None:
    for position, (n, vector) in enumerate(zip(numbers, embedded, strict=True)):
        if vector is None:
            errors[n] = embedded.errors[position]
        else:
            rows[n].vectors[tower] = vector


def _side_by_side(items: Mapping[int, Any], work: Callable[[Any], _Out], errors: dict[int, str]) -> dict[int, _Out]:
    """Call for each item in threads, for what waits or leaves Python; what fails is noted and left out."""
    with ThreadPoolExecutor(_READERS) as pool:
        return _good(items, pool.map(partial(_attempt, work), items.values()), errors)


def _attempt(work: Callable[[Any], _Out], item: Any) -> _Out | ClipError:
    try:
        return work(item)
    except ClipError as problem:
        return problem


def _good(numbers: Iterable[int], answers: Iterable[_Out | ClipError], errors: dict[int, str]) -> dict[int, _Out]:
    """The answers that aren't errors; these are noted."""
    found = dict(zip(numbers, answers, strict=True))
    errors.update({n: str(answer) for n, answer in found.items() if isinstance(answer, ClipError)})
    return {n: answer for n, answer in found.items() if not isinstance(answer, ClipError)}
