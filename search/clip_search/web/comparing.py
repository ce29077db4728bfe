"""Route that compares images and texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response

from clip_client.comparison import compared
from clip_client.errors import InvalidInput, Unavailable
from clip_client.spec import ModelSpec, Tower
from clip_search.arrays import Floats
from clip_search.errors import TooLarge
from clip_search.sidecar import Sidecar
from clip_search.web import comparing_models as models
from clip_search.web.api_document import post
from clip_search.web.app_state import State, body, state
from clip_search.web.embedding_inputs import Picture, embed_images, embed_texts, picture
from clip_search.web.guard import answer
from clip_search.web.thread_pool import Pool

router = APIRouter(prefix="/v1", tags=["comparing"])
MOST_PAIRS = 250_000  # numbers of an answer: 10 MB of JSON


@dataclass(frozen=True)
class Side:
    """Items of one side by position: pictures, or texts."""

    name: Literal["subject", "prompt", "image", "text"]
    tower: Tower
    items: Mapping[int, Picture | str]

    @property
    def fetches(self) -> bool:
        """Tell if a picture has to be fetched."""
        return any(isinstance(item, Picture) and item.is_url for item in self.items.values())


@dataclass(frozen=True)
class Embedded:
    """Embeddings of a side, float32 [n, D], the positions that they have, and the reasons of the others."""

    embeddings: Floats
    numbers: list[int]
    errors: dict[int, str]


@post(router, "/compare", models.Comparison, models.Compared, 413, 503, 504)
async def compare(request: Request) -> Response:
    """Compare subjects with prompts, each images or texts; one that can't be embedded has an error of its own."""
    sent, shared = await body(request, models.Comparison), state(request)
    sides = (side_of("subject", sent.subject_type, sent.subject), side_of("prompt", sent.prompt_type, sent.prompt))
    check_pairs(len(sides[0].items), len(sides[1].items))
    return answer(await threads(shared, *sides).run(_compared, shared.sidecar, *sides))


def threads(shared: State, *sides: Side) -> Pool:
    """Return the pool of threads for what has to be embedded."""
    return shared.fetching if any(side.fetches for side in sides) else shared.model


def check_pairs(rows: int, columns: int) -> None:
    """Raise TooLarge for an answer that would be."""
    if rows * columns > MOST_PAIRS:
        raise TooLarge(
            f"{rows} times {columns} are {rows * columns:,} pairs: expected at most {MOST_PAIRS:,}; send less at once"
        )


def embedded(sidecar: Sidecar, side: Side) -> Embedded:
    """Embed a side; raise InvalidInput if it has items and none is good."""
    errors: dict[int, str] = {}
    vectors = embed_images(sidecar, _of(side, Picture), errors) | embed_texts(sidecar, _of(side, str), errors)
    if errors and not vectors:
        n, reason = min(errors.items())
        raise InvalidInput(f"no {side.name} of {len(errors)} can be embedded; {side.name} {n}: {reason}", errors=errors)
    numbers = sorted(vectors)
    size = sidecar.embedder.spec.embedding_size
    return Embedded(np.asarray([vectors[n] for n in numbers], np.float32).reshape(-1, size), numbers, errors)


def one_model(sidecar: Sidecar, before: ModelSpec) -> None:
    """Raise Unavailable if a model of another space came up, in which a part of the embeddings may be."""
    if sidecar.embedder.spec.space != before.space:
        raise Unavailable("another model came up meanwhile: send the request again")


def side_of(name: Literal["subject", "prompt", "image"], tower: Tower, sent: str | Sequence[str]) -> Side:
    """Return a side: one item, or a list; what an image is stands at its beginning."""
    items = [sent] if isinstance(sent, str) else sent
    return Side(name, tower, {n: picture(item) if tower == "image" else item for n, item in enumerate(items)})


def _of(side: Side, kind: Any) -> dict[int, Any]:
    return {n: item for n, item in side.items.items() if isinstance(item, kind)}


def _compared(sidecar: Sidecar, subject: Side, prompt: Side) -> dict[str, Any]:
    spec = sidecar.embedder.spec
    subjects, prompts = embedded(sidecar, subject), embedded(sidecar, prompt)
    one_model(sidecar, spec)
    comparison = compared(subjects.embeddings, prompts.embeddings, spec)
    shape = len(subject.items), len(prompt.items)
    errors = [
        {"side": side.name, "index": n, "message": reason}
        for side, outcome in ((subject, subjects), (prompt, prompts))
        for n, reason in sorted(outcome.errors.items())
    ]
    return {
        "cosines": _spread(comparison.cosines, subjects, prompts, shape),
        "probabilities": _spread(comparison.probabilities, subjects, prompts, shape),
        "errors": errors,
        "model": spec.name,
        "fingerprint": spec.fingerprint,
    }


def _spread(values: Floats, subjects: Embedded, prompts: Embedded, shape: tuple[int, int]) -> list[list[float | None] | None]:
    """Return values of good pairs at the places of all: None for a bad subject, and for a bad prompt in each list."""
    rows: list[list[float | None] | None] = [None] * shape[0]
    for n, row in zip(subjects.numbers, values, strict=True):
        cells: list[float | None] = [None] * shape[1]
        for m, value in zip(prompts.numbers, row.tolist(), strict=True):
            cells[m] = value
        rows[n] = cells
    return rows
