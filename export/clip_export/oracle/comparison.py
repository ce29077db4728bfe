"""Compare embeddings, pixels and tokens with those of the checkpoint's own library."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clip_client import naflex
from clip_client.errors import InvalidInput
from clip_client.library_errors import one_line
from clip_client.preprocess import preprocess
from clip_client.spec import TOWERS, ModelSpec, Tower
from clip_client.tokens import Tokenizer
from clip_export import memory
from clip_export.libraries.base import Answer, Library, NotCompared
from clip_export.oracle.items import Items
from clip_export.variants.base import Encoder

LEAST_COSINE = 0.9999
"""Two float32 runs of one model differ by 1e-6 at most; an input that is off by anything that matters is below this."""
_LENGTH_TOLERANCE = 1e-4
_SAME_PIXEL = 0.02  # of 255: float32's rounding where pixels are normalised, and no more
_BATCH = 8  # items whose activations are held at once

Step = Literal["pixels", "tokens", "tower"]


@dataclass(frozen=True)
class Difference:
    """One item whose embedding differs from the library's.

    Attributes:
        item: its name.
        step: our first step that differs: ``pixels``, ``tokens``, or, from the same input, ``tower``.
        reason: fault of the embedding, or of the input.
    """

    item: str
    step: Step
    reason: str


@dataclass(frozen=True)
class Compared:
    """One tower beside its library.

    Attributes:
        library: name and version; empty where there was none.
        missing: reason that it wasn't compared; empty where it was.
        items: number of those that were compared.
        cosine_min: worst item.
        cosine_mean: all items.
        differences: items that forbid publishing.
        notes: inputs that differ without effect, and items that the library refuses.
    """

    library: str = ""
    missing: str = ""
    items: int = 0
    cosine_min: float = 1.0
    cosine_mean: float = 1.0
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    def problem(self, tower: Tower) -> str:
        """Return one line that names the first items and their steps; empty where all are the same."""
        if not self.differences:
            return ""
        shown = "; ".join(f"{item.item}: {item.step} ({item.reason})" for item in self.differences[:3])
        more = f"; and {len(self.differences) - 3} more" if len(self.differences) > 3 else ""
        return (
            f"the {tower} tower differs from {self.library}, {len(self.differences)} of {self.items} items: {shown}{more}; "
            "nothing is published: report the checkpoint, --force doesn't help"
        )


class Ours:
    """Our side: pixels or tokens of each item, and its embedding.

    Args:
        spec: of the checkpoint.
        tokenizer_json: of the published model.
        encoders: loads the torch tower, the reference of the variants.
    """

    def __init__(self, spec: ModelSpec, tokenizer_json: str, encoders: Callable[[Tower], Encoder]) -> None:
        self._spec = spec
        self._tokenizer = Tokenizer(tokenizer_json, spec)
        self._encoders = encoders

    def given(self, items: Items) -> dict[Tower, dict[str, npt.NDArray[Any] | str]]:
        """Return pixels uint8 [S, S, 3] or tokens int32 [L] of each item, or its error."""
        pictures = {name: _prepared(file, self._spec) for name, file in items.pictures.items()}
        texts: dict[str, npt.NDArray[Any] | str] = {}
        for part in _parts(items.texts):
            rows, errors = self._tokenizer([text.encode() for text in part.values()])
            texts |= {name: error or row for name, row, error in zip(part, rows, errors, strict=True)}
        return {"image": pictures, "text": texts}

    def embeddings(self, tower: Tower, given: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """Return float32 [D] of each prepared item."""
        encode = self._encoders(tower)
        embeddings: dict[str, npt.NDArray[np.float32]] = {}
        for part in _parts(given):
            for name, row in part.items() if tower == "text" else ():  # lengths differ from batch to batch
                embeddings[name] = encode(row[None])[0]
            if tower == "image":
                embeddings |= zip(part, encode(np.stack([*part.values()])), strict=True)
        return embeddings


def compare(
    libraries: Mapping[Tower, Library], items: Items, given: Mapping[Tower, Mapping[str, Any]], ours: Ours, spec: ModelSpec
) -> dict[Tower, Compared]:
    """Compare both towers with their libraries, one side after the other, so that one model at a time is in memory."""
    theirs = {tower: _library(libraries[tower], tower, items) for tower in TOWERS}
    for library in {*libraries.values()}:
        library.close()
    memory.give_back()
    return {tower: _compared(theirs[tower], tower, given[tower], ours, spec) for tower in TOWERS}


@dataclass(frozen=True)
class _Theirs:
    """Answers of a library by item, and its refusals."""

    library: str = ""
    missing: str = ""
    answers: Mapping[str, Answer] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _library(library: Library, tower: Tower, items: Items) -> _Theirs:
    """Ask for all items in batches; the items of a batch that fails are asked for one by one."""
    try:
        title = library.title
    except NotCompared as problem:
        return _Theirs(missing=str(problem))
    ask: Callable[[Sequence[Any]], list[Answer]] = library.pictures if tower == "image" else library.texts
    named: Mapping[str, Any] = items.pictures if tower == "image" else items.texts
    answers: dict[str, Answer] = {}
    refused: dict[str, str] = {}
    if obstacle := _obstacle(ask, named):
        return _Theirs(title, f"{title} can't be run on it: {obstacle}")
    for part in _parts(named):
        for group in _answered(ask, part):
            answers |= {name: answer for name, answer in group.items() if isinstance(answer, Answer)}
            refused |= {name: reason for name, reason in group.items() if isinstance(reason, str)}
    return _Theirs(title, "", answers, refused)


def _answered(ask: Callable[[Sequence[Any]], list[Answer]], part: Mapping[str, Any]) -> list[dict[str, Answer | str]]:
    try:
        with warnings.catch_warnings(action="ignore"):
            return [dict(zip(part, ask([*part.values()]), strict=True))]
    except Exception as problem:  # of a library, on a checkpoint or an item that it may never have seen
        if len(part) == 1:
            return [dict.fromkeys(part, one_line(problem))]
        return [group for name, item in part.items() for group in _answered(ask, {name: item})]


def _obstacle(ask: Callable[[Sequence[Any]], list[Answer]], named: Mapping[str, Any]) -> str:
    """Return the reason that the library can't be run at all, if neither of two items has an answer."""
    problem = ""
    for item in list(named.values())[-2:]:
        try:
            with warnings.catch_warnings(action="ignore"):
                ask([item])
        except Exception as why:
            problem = one_line(why)
        else:
            return ""
    return problem


def _parts(items: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    names = [*items]
    for start in range(0, len(names), _BATCH):
        yield {name: items[name] for name in names[start : start + _BATCH]}


def _compared(
    theirs: _Theirs, tower: Tower, given: Mapping[str, npt.NDArray[Any] | str], ours: Ours, spec: ModelSpec
) -> Compared:
    if theirs.missing:
        return Compared(theirs.library, theirs.missing)
    step: Step = "pixels" if tower == "image" else "tokens"
    prepared = {name: row for name in theirs.answers if not isinstance(row := given[name], str)}
    differences = [Difference(name, step, str(given[name])) for name in theirs.answers if name not in prepared]
    embeddings = ours.embeddings(tower, prepared)
    notes = [f"{name}: {theirs.library} refuses it, not compared ({reason})" for name, reason in theirs.refused.items()]
    cosines = []
    for name, row in prepared.items():
        answer = theirs.answers[name]
        off = pixels_differ(row, answer.given, spec) if tower == "image" else tokens_differ(row, answer.given, spec)
        cosine, flaw = judged(embeddings[name], answer.embedding)
        cosines.append(cosine)
        if flaw:
            differences.append(Difference(name, step if off else "tower", f"{flaw}, {off}" if off else flaw))
        elif off:
            notes.append(f"{name}: {step} differ ({off}), at cosine {cosine:.6f}")
    return Compared(
        library=theirs.library,
        items=len(theirs.answers),
        cosine_min=min(cosines, default=0.0),
        cosine_mean=float(np.mean(cosines)) if cosines else 0.0,
        differences=tuple(differences),
        notes=tuple(notes),
    )


def judged(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> tuple[float, str]:
    """Return the cosine of two embeddings [D], 0 where there is none, and the fault; empty for none."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    length = float(np.linalg.norm(a))
    if not np.isfinite(b).all() or not b.any():
        return 0.0, "the library's own embedding isn't finite or is zero"
    if not abs(length - 1) <= _LENGTH_TOLERANCE:
        return 0.0, f"our embedding has length {length:.4g}, expected 1"
    cosine = float(a @ b / (length * np.linalg.norm(b)))
    return cosine, "" if cosine >= LEAST_COSINE else f"cosine {cosine:.5f}, expected {LEAST_COSINE}"


def pixels_differ(ours: npt.NDArray[np.uint8], theirs: npt.NDArray[Any], spec: ModelSpec) -> str:
    """Compare our pixels uint8 [S, S, 3], normalised by the spec, with a library's [3, S, S]; empty where they are the same.

    Pictures that are packed as patches have their own height and width instead.
    """
    ours = naflex.unpacked(ours, spec) if spec.resize_mode == "patches" else ours
    mean, std = np.array(spec.mean), np.array(spec.std)
    normalised = ((ours / 255 - mean) / std).transpose(2, 0, 1)  # [3, S, S]
    if normalised.shape != theirs.shape:
        return f"{list(normalised.shape)} values, the library has {list(theirs.shape)}"
    off = float(np.max(np.abs(normalised - theirs) * std[:, None, None]) * 255)
    return "" if off <= _SAME_PIXEL else f"off by up to {off:.1f} of 255"


def tokens_differ(ours: npt.NDArray[np.int32], theirs: npt.NDArray[Any], spec: ModelSpec) -> str:
    """Compare the tokens of a text that count; empty where they are the same."""
    mine, other = (_counted(row, spec).tolist() for row in (ours, theirs))
    if mine == other:
        return ""
    at = next((n for n, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), min(len(mine), len(other)))
    return f"ours from position {at} {mine[at : at + 4]}, {len(mine)} in all, the library's {other[at : at + 4]}, {len(other)}"


def _counted(tokens: npt.NDArray[Any], spec: ModelSpec) -> npt.NDArray[Any]:
    """Tokens [L] without the padding that the text tower doesn't look at."""
    ends = np.flatnonzero(tokens == spec.end_token)
    if spec.padding == "full" or not len(ends):
        return tokens
    return tokens[: 1 + (ends[0] if spec.padding == "trailing" else ends[-1])]


def _prepared(file: bytes, spec: ModelSpec) -> npt.NDArray[np.uint8] | str:
    try:
        return preprocess(file, spec)
    except InvalidInput as problem:
        return str(problem)
