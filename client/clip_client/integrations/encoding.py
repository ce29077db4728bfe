"""Embeddings in the shape of sentence-transformers' ``encode``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from PIL import Image

from clip_client.comparison import Floats
from clip_client.errors import InvalidInput, Unavailable
from clip_client.item_lists import iterable
from clip_client.spec import Tower
from clip_client.type_names import a_type

if TYPE_CHECKING:
    from clip_client.clip import Clip

_STEP = 8  # batches that are given to the client at once: it cuts them into requests and sends several side by side


@dataclass(frozen=True)
class Encoding:
    """Options of ``encode``, named as in sentence-transformers."""

    batch_size: int
    show_progress_bar: bool
    convert_to_numpy: bool
    convert_to_tensor: bool

    def __post_init__(self) -> None:
        if not isinstance(self.batch_size, int | np.integer) or self.batch_size < 1:
            raise InvalidInput(f"batch_size is {self.batch_size!r}: expected a whole number, at least 1")


def encode(clip: Clip, inputs: Any, options: Encoding) -> Any:
    """Embed one input, or a list of texts and images in any order; see :meth:`clip_client.Clip.encode`."""
    single = _is_single(inputs)
    items = [inputs] if single else _listed(inputs)
    typed = _typed(items)
    embeddings = np.empty((len(items), clip.spec.embedding_size), np.float32)
    step = int(options.batch_size) * _STEP
    with _bar(len(items), options.show_progress_bar) as bar:
        for start in range(0, len(items), step):
            part = typed[start : start + step]
            embeddings[start : start + step] = _embedded(clip, part, start, items)
            bar.update(len(part))
    return _converted(embeddings[0] if single else embeddings, options)


def _is_single(inputs: Any) -> bool:
    if isinstance(inputs, np.ndarray):  # sentence-transformers takes arrays of strings as lists
        return inputs.ndim == 3
    return isinstance(inputs, str | bytes | Mapping | os.PathLike | Image.Image)


def _listed(inputs: Any) -> list[Any]:
    return list(iterable(inputs, "inputs", "a text, an image, or a list of them"))


def _typed(items: Sequence[Any]) -> list[tuple[Tower, Any]]:
    """Return the tower of each item, and the item itself."""
    typed: list[tuple[Tower, Any]] = []
    errors: dict[int, str] = {}
    for n, item in enumerate(items):
        try:
            typed.append(_tower_and_item(item))
        except InvalidInput as problem:
            errors[n] = str(problem)
    if errors:
        raise _refused(errors, len(items))
    return typed


def _tower_and_item(item: Any) -> tuple[Tower, Any]:
    if isinstance(item, str):
        return "text", item
    if isinstance(item, Image.Image | np.ndarray | os.PathLike):
        return "image", item
    if isinstance(item, Mapping) and len(item) == 1 and (key := next(iter(item))) in get_args(Tower):
        return key, item[key]
    shown = f"a dict with {sorted(map(str, item))}" if isinstance(item, Mapping) else f"{a_type(item)}"
    raise InvalidInput(
        f"an input can't be {shown}: expected str for a text; a PIL image, a uint8 array [H, W, 3] or a pathlib.Path for an "
        "image; or {'text': …}, {'image': …}"
    )


def _embedded(clip: Clip, part: Sequence[tuple[Tower, Any]], start: int, items: Sequence[Any]) -> Floats:
    """Embed a part of the items, float32 [n, D]; an error names positions among all items."""
    embeddings = np.empty((len(part), clip.spec.embedding_size), np.float32)
    errors: dict[int, str] = {}
    for tower in get_args(Tower):
        positions = [n for n, (kind, _) in enumerate(part) if kind == tower]
        embed = clip.embed_image if tower == "image" else clip.embed_text
        rows = embed([part[n][1] for n in positions], on_error="none")
        errors |= {start + positions[n]: reason for n, reason in rows.errors.items()}
        for n, row in zip(positions, rows, strict=True):
            embeddings[n] = np.nan if row is None else row
    if errors:
        raise _refused(errors, len(items))
    return embeddings


def _refused(errors: dict[int, str], count: int) -> InvalidInput:
    shown = "; ".join(f"input {n}: {reason}" for n, reason in sorted(errors.items())[:5])
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    return InvalidInput(f"{len(errors)} of {count} inputs can't be embedded: {shown}{more}", errors=errors)


def _converted(embeddings: Floats, options: Encoding) -> Any:
    if options.convert_to_numpy and not options.convert_to_tensor:
        return embeddings
    try:
        import torch
    except ImportError as problem:
        raise Unavailable(
            f"tensors need another package ({problem}): pip install torch, or leave convert_to_numpy"
        ) from problem
    tensor = torch.from_numpy(embeddings)
    return tensor if options.convert_to_tensor or tensor.ndim == 1 else list(tensor)


class _NoBar:
    """Progress bar that shows nothing."""

    def update(self, count: int) -> None:
        """Count nothing."""

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *problem: object) -> None:
        pass


def _bar(total: int, shown: bool) -> Any:
    if not shown:
        return _NoBar()
    try:
        from clip_client.progress_bars import ProgressBar
    except ImportError as problem:
        raise Unavailable(f"a progress bar needs another package ({problem}): pip install tqdm") from problem
    return ProgressBar(desc="encoding", total=total, unit=" inputs")
