"""Cosines between anything that has an embedding: images, texts, and embeddings themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clip_client.comparison import Floats
from clip_client.embedded import Embedded
from clip_client.errors import InvalidInput
from clip_client.images import is_one_image, names_image
from clip_client.item_lists import iterable
from clip_client.spec import TOWERS, Tower
from clip_client.type_names import a_type

if TYPE_CHECKING:
    from clip_client.clip_tasks import ClipTasks

_Kind = Literal["image", "text", "embedding"]


async def side(clip: ClipTasks, items: Any, name: str, given: Tower | None) -> Floats:
    """Return the embeddings of one side, float32 [N, D] or, of one item, [D], of unit length.

    Args:
        name: of the argument, for messages.
        given: the side's kind; None to take it from its items.
    """
    if given not in (None, *TOWERS):
        raise InvalidInput(f"{name}_type is {given!r}: expected 'image', 'text', or None to tell by the items")
    array = _as_floats(items)
    if array is not None:
        return _unit(array, name, (await clip.spec()).embedding_size)
    single = is_one_image(items) or _is_one_embedding(items)
    batch = [items] if single else list(iterable(items, name, "images, texts or embeddings, one or a list"))
    kind = given or _kind(batch, name)
    if kind == "embedding":
        rows = _unit(_stacked(batch, name), name, (await clip.spec()).embedding_size)
        return rows[0] if single else rows
    embeddings: Floats = await (clip.embed_image if kind == "image" else clip.embed_text)(items if single else batch)
    return embeddings


def _as_floats(items: Any) -> Any:
    """Return an array of numbers that isn't a picture; None for anything else."""
    if isinstance(items, np.ndarray):
        array = items
    elif hasattr(items, "__array__") and not is_one_image(items):  # a tensor, say
        array = _array(items)
    else:
        return None
    return array if array.dtype.kind == "f" else None


def _array(items: Any) -> Any:
    """Return a tensor, say, as an array; those with a gradient, or of types that arrays lack, need two steps more."""
    try:
        return np.asarray(items)
    except (TypeError, RuntimeError):
        return np.asarray(items.detach().float().cpu()) if hasattr(items, "detach") else np.empty(0, np.object_)


def _is_one_embedding(items: Any) -> bool:
    return isinstance(items, Embedded) or _as_floats(items) is not None or _is_numbers(items)


def _kind(batch: Sequence[Any], name: str) -> _Kind:
    """Return the kind of a list's items.

    Raises:
        InvalidInput: they are of several kinds, or it can't be told; the message names the position.
    """
    first: _Kind = "text"  # of no item at all
    for n, item in enumerate(batch):
        kind = _kind_of(item, f"{name}[{n}]" if len(batch) > 1 else name, name)
        if n and kind != first:
            raise InvalidInput(f"{name}[{n}] is of kind {kind}, {name}[0] of kind {first}: pass lists of one kind")
        first = kind
    return first


def _kind_of(item: Any, place: str, name: str) -> _Kind:
    if isinstance(item, str):
        if names_image(item):
            raise InvalidInput(
                f"{place}, {item[:200]!r}, is a text that names an image, perhaps: pass {name}_type='image' for the image, "
                f"{name}_type='text' for the text"
            )
        return "text"
    if item is None or isinstance(item, Embedded) or _as_floats(item) is not None or _is_numbers(item):
        return "embedding"
    if is_one_image(item):
        return "image"
    raise InvalidInput(f"{place} is {a_type(item)}: expected an image, a text or an embedding")


def _is_numbers(item: Any) -> bool:
    return isinstance(item, list | tuple) and bool(item) and all(isinstance(number, int | float) for number in item)


def _stacked(batch: Sequence[Any], name: str) -> Floats:
    rows = [item.embedding if isinstance(item, Embedded) else item for item in batch]
    if missing := [n for n, row in enumerate(rows) if row is None]:
        raise InvalidInput(f"{name}[{missing[0]}] has no embedding, as {len(missing)} of {len(rows)}: leave those out")
    arrays = [np.asarray(row, np.float32) for row in rows]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise InvalidInput(f"{name} has embeddings of shapes {', '.join(map(str, sorted(shapes)))}: expected one for all")
    return np.stack(arrays)


def _unit(embeddings: Floats, name: str, size: int) -> Floats:
    """Return embeddings of any length as ones of unit length."""
    if embeddings.ndim not in (1, 2) or embeddings.shape[-1] != size:
        raise InvalidInput(f"{name} is an array {list(embeddings.shape)}: expected embeddings, [N, {size}] or [{size}]")
    rows = np.asarray(embeddings, np.float64)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    for n, length in enumerate(lengths.ravel()):
        if not 0 < length < np.inf:
            raise InvalidInput(f"row {n} of {name} has length {length:g}: expected an embedding, which has a direction")
    return np.asarray(rows / lengths, np.float32)
