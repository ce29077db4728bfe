"""Turn request rows into stored rows; collect per-row errors."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from clip_client.errors import ClipError, InvalidInput
from clip_client.spec import Tower
from clip_client.thumbnails import thumbnail
from clip_search.budget import Share
from clip_search.collection import Collection
from clip_search.copies import completed
from clip_search.errors import Busy, Conflict, Moved
from clip_search.items import AddOptions, Item
from clip_search.query import Term
from clip_search.sidecar import Sidecar
from clip_search.steps import step
from clip_search.storage.columns import Columns
from clip_search.storage.rows import NewRow, checked_id, checked_vector
from clip_search.storage.writer import Added
from clip_search.thread_priority import step_back

_READERS = 8  # threads that fetch or decode; they wait more than they compute
_FETCHED = 32  # files of 32 MB at most, 1 GB together: the budget's default
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Outcome:
    """Outcome of a request: counts, ids, and by position the reason of each item that was left out."""

    counts: Added
    errors: dict[int, str]


def add(sidecar: Sidecar, collection: Collection, items: Sequence[Item | ClipError], options: AddOptions) -> Outcome:
    """Embed rows that need it and add the good ones; return once they are durable and searchable.

    An item that couldn't be read comes as its error. Of several good ones with the same id the first is taken.

    Raises:
        ReadOnly: the collection is another sidecar's.
        InvalidInput: no item is good, or what is wrong concerns all.
        Busy: others have the memory for pictures.
        ClipError: the model's or the disk's.
    """
    try:
        return _add(sidecar, collection, items, options)
    except Moved:
        if any(isinstance(item, Item) and item.vectors for item in items):
            raise gone_over(collection) from None
        return _add(sidecar, sidecar.collection(collection.name), items, options)


def _add(sidecar: Sidecar, collection: Collection, items: Sequence[Item | ClipError], options: AddOptions) -> Outcome:
    collection.check_writable()
    sidecar.check_made_by(collection, options.fingerprint)
    errors: dict[int, str] = {}
    read = {n: item for n, item in enumerate(items) if isinstance(item, Item)}
    errors.update({n: str(item) for n, item in enumerate(items) if isinstance(item, ClipError)})
    checked = partial(_row, collection, collection.columns(), options)
    rows = _good(read, [_attempt(checked, item) for item in read.values()], errors)
    there = collection.present([row.id for row in rows.values()]) if options.on_conflict == "skip" else set()
    waiting = {n: row for n, row in rows.items() if row.id not in there}
    _embed_images(sidecar, collection, read, waiting, errors)
    _embed_texts(sidecar, collection, read, waiting, errors)
    good = once({n: row for n, row in waiting.items() if n not in errors}, errors)
    added = stored(collection, good, options, errors)
    skipped = added.skipped + len(rows) - len(waiting)
    collection.tally.added(added.added, added.replaced, skipped, len(errors))
    if not added.added + added.replaced + skipped:
        n, reason = min(errors.items())
        raise InvalidInput(f"none of {len(items)} rows can be added; row {n}: {reason}", errors=errors)
    return Outcome(Added(added.added, added.replaced, skipped, [row.id for n, row in rows.items() if n not in errors]), errors)


def gone_over(collection: Collection) -> Conflict:
    """Return the error for ready vectors that came while their collection went over to another model."""
    return Conflict(f"collection {collection.name} has just gone over to another model: send vectors of that one")


def needs_model(item: Item) -> bool:
    """Tell if a row has to be embedded or fetched."""
    return bool(item.image or (item.text is not None and "text" not in item.vectors))


def once(rows: dict[int, NewRow], errors: dict[int, str]) -> dict[int, NewRow]:
    """Return the first row of each id; note the others."""
    first: dict[str, int] = {}
    for n, row in rows.items():
        if (before := first.setdefault(row.id, n)) != n:
            errors[n] = f"id {row.id!r} is there twice in one request, row {before} has it already: send each row once"
    return {n: rows[n] for n in first.values()}


def stored(collection: Collection, rows: dict[int, NewRow], options: AddOptions, errors: dict[int, str]) -> Added:
    """Write rows; note those that the writer refused."""
    if not rows:
        return Added(0, 0, 0, [])
    numbers, good = list(rows), list(rows.values())
    add = partial(collection.add, on_conflict=options.on_conflict, fingerprint=options.fingerprint, columns=options.columns)
    try:
        with step("write"):
            added = add(good).result()
    except InvalidInput as problem:
        if not problem.errors:
            raise
        errors.update({numbers[n]: reason for n, reason in problem.errors.items()})
        return Added(0, 0, 0, [])
    errors.update({n: added.refused[row.id] for n, row in rows.items() if row.id in added.refused})
    return added


def _row(collection: Collection, columns: Columns, options: AddOptions, item: Item) -> NewRow:
    if not item.image and item.text is None and not item.vectors and item.same_as is None:
        raise InvalidInput("nothing to embed: send image, image_url, image_path, text, vector, text_vector or same_as")
    size = collection.about.size
    vectors = {tower: checked_vector(values, size) for tower, values in item.vectors.items()}
    metadata = {"caption": item.text, **item.metadata} if item.text is not None else item.metadata
    columns.fresh().take(metadata, options.columns)
    source = item.source or (item.image.value if item.image and item.image.kind != "image" else None)
    row = NewRow(checked_id(item.id), vectors, metadata, source, source_state=item.source_state)
    return row if item.same_as is None else completed(row, collection, item.same_as, embedded=_embedded(item))


def _embedded(item: Item) -> set[Tower]:
    """Return the towers that the item has an input for."""
    return {tower for tower, given in (("image", item.image), ("text", item.text)) if given is not None}  # type: ignore[misc]


def _embed_images(
    sidecar: Sidecar, collection: Collection, items: Mapping[int, Item], rows: dict[int, NewRow], errors: dict[int, str]
) -> None:
    pictures = {n: image for n in rows if (image := items[n].image)}
    if any("image" not in rows[n].vectors for n in pictures):
        sidecar.check_model(collection)
    for images in _parts(pictures):
        with Share(sidecar.fetched) as share:
            files = side_by_side(images, partial(sidecar.image, share=share), errors)
            needed = [n for n in files if "image" not in rows[n].vectors]
            embedded = sidecar.embedder_of(collection).images([files[n] for n in needed]) if needed else []
            if needed:
                sidecar.check_model(collection)  # again: a model of another space may have come up meanwhile
            _take(rows, "image", needed, embedded, errors)
            _embed_beside(collection, "image", rows, {n: file for n, file in files.items() if n not in errors})
            good = {n: file for n, file in files.items() if n not in errors}
            small = side_by_side(good, partial(thumbnail, memory=sidecar.decoding), errors, begin=step_back)
        for n, picture in small.items():
            rows[n].thumbnail = picture


def _parts(images: Mapping[int, Term]) -> Iterator[dict[int, Term]]:
    """Return batches of pictures: those sent with the request in one, the others as many as memory holds at any size."""
    if sent := {n: image for n, image in images.items() if image.kind == "image"}:
        yield sent
    others = [n for n in images if n not in sent]
    for start in range(0, len(others), _FETCHED):
        yield {n: images[n] for n in others[start : start + _FETCHED]}


def _embed_texts(
    sidecar: Sidecar, collection: Collection, items: Mapping[int, Item], rows: dict[int, NewRow], errors: dict[int, str]
) -> None:
    needed = [n for n in rows if items[n].text is not None and "text" not in rows[n].vectors and n not in errors]
    if needed:
        sidecar.check_model(collection)
        embedded = sidecar.embedder_of(collection).texts([str(items[n].text) for n in needed])
        sidecar.check_model(collection)  # as above
        _take(rows, "text", needed, embedded, errors)
    _embed_beside(collection, "text", rows, {n: items[n].text for n in rows if items[n].text is not None and n not in errors})


def _embed_beside(collection: Collection, tower: Tower, rows: dict[int, NewRow], given: Mapping[int, Any]) -> None:
    """Embed inputs for the second set of vectors, too, if there is one; what can't be is embedded later."""
    if collection.commits.beside:
        made = collection.commits.beside.embed(tower, list(given.values()))
        for n, vector in zip(given, made, strict=True):
            if vector is not None:
                rows[n].others[tower] = vector


def _take(rows: dict[int, NewRow], tower: Tower, numbers: Sequence[int], embedded: Any, errors: dict[int, str]) -> None:
    for position, (n, vector) in enumerate(zip(numbers, embedded, strict=True)):
        if vector is None:
            errors[n] = embedded.errors[position]
        else:
            rows[n].vectors[tower] = vector


def side_by_side(
    items: Mapping[int, Any],
    work: Callable[[Any], _Out],
    errors: dict[int, str],
    begin: Callable[[], None] | None = None,
) -> dict[int, _Out]:
    """Call a function for each item in threads; note the items for which it fails, and leave them out."""
    with ThreadPoolExecutor(_READERS, initializer=begin) as pool:
        return _good(items, pool.map(partial(_attempt, work), items.values()), errors)


def _attempt(work: Callable[[Any], _Out], item: Any) -> _Out | ClipError:
    try:
        return work(item)
    except Busy:  # no fault of the item: the request may be sent again as it is
        raise
    except ClipError as problem:
        return problem


def _good(numbers: Iterable[int], answers: Iterable[_Out | ClipError], errors: dict[int, str]) -> dict[int, _Out]:
    """Return the results that aren't errors; note the errors."""
    answered = dict(zip(numbers, answers, strict=True))
    errors.update({n: str(answer) for n, answer in answered.items() if isinstance(answer, ClipError)})
    return {n: answer for n, answer in answered.items() if not isinstance(answer, ClipError)}
