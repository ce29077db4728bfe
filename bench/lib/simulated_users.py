"""Simulated users of the bundled drawings: they want an emoji, type a word for it, and look at the hits from the top.

The words are keywords that neither the training of emoji-clip nor its tokenizer has seen for that emoji. Users know a part of
them. A user wants one emoji and types one of the words that he knows for it, alone or in a phrase; he looks at position ``k``
of the list with the probability ``1 / k``, and clicks on the emoji if he sees it: as in Joachims, Swaminathan and Schnabel
(WSDM 2017), section 6.
One click in ten goes to whatever he looks at. Searches without a click leave no trace.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Floats = npt.NDArray[np.float32]
Pair = tuple[str, int]  # a word, and the number of its drawing

SHOWN, NOISE, TIE = 100, 0.1, 1e-5
PHRASES = ("{}", "{} emoji", "a {}", "{} icon", "a picture of a {}")
"""Ways to ask for a word."""


@dataclass(frozen=True)
class World:
    """Drawings and their words.

    Attributes:
        ids: file names of the drawings.
        names: Unicode names, one each.
        seen: keywords that the training saw, of each.
        carried: all keywords, of each.
        known: pairs that users know.
        others: pairs of the same emoji whose words no user ever types.
    """

    ids: Sequence[str]
    names: Sequence[str]
    seen: Sequence[Sequence[str]]
    carried: Sequence[Sequence[str]]
    known: Sequence[Pair]
    others: Sequence[Pair]


def world(captions: Path, seed: int) -> World:
    """Read the drawings; divide the held-out words of every emoji that has several, so that no word is on both sides."""
    rows = pq.read_table(captions).to_pylist()
    several = {n: row["held_out_keywords"] for n, row in enumerate(rows) if len(row["held_out_keywords"]) > 1}
    drawings: dict[str, list[int]] = defaultdict(list)
    for number, held_out in several.items():
        for word in held_out:
            drawings[word].append(number)
    left, apart, words = {number: len(held_out) for number, held_out in several.items()}, set[str](), sorted(drawings)
    random.Random(seed).shuffle(words)
    for word in words:
        if all(left[number] > 1 for number in drawings[word]):
            apart.add(word)
            for number in drawings[word]:
                left[number] -= 1
    pairs = [(word, number) for number, held_out in several.items() for word in held_out]
    return World(
        ids=[row["file_name"] for row in rows],
        names=[row["caption"] for row in rows],
        seen=[[word for word in row["keywords"] if word not in row["held_out_keywords"]] for row in rows],
        carried=[row["keywords"] for row in rows],
        known=[pair for pair in pairs if pair[0] not in apart],
        others=[pair for pair in pairs if pair[0] in apart],
    )


def queries(world: World) -> list[str]:
    """Return all texts that users may type."""
    return sorted({phrase.format(word) for word, _ in world.known for phrase in PHRASES})


def clicks(world: World, rankings: Mapping[str, Sequence[int]], count: int, seed: int, *, at_random: bool = False) -> pa.Table:
    """Let users search until they have clicked so often; return a feedback export.

    Args:
        rankings: numbers of the drawings that a search shows, from the top, by its text.
        at_random: users click on whatever they look at.
    """
    draw = np.random.default_rng(seed)
    looks = 1 / np.arange(1, SHOWN + 1)
    rows: list[dict[str, Any]] = []
    while len(rows) < count:
        word, wanted = world.known[int(draw.integers(len(world.known)))]
        text = PHRASES[int(draw.integers(len(PHRASES)))].format(word)
        shown = list(rankings[text][:SHOWN])
        place = shown.index(wanted) if wanted in shown else SHOWN
        if place == SHOWN or draw.random() > looks[place]:
            continue
        if at_random or draw.random() < NOISE:
            place = int(draw.choice(len(shown), p=looks[: len(shown)] / looks[: len(shown)].sum()))
        rows.append({"query_id": f"{len(rows):08}", "text": text, "shown": [world.ids[n] for n in shown], "chosen": [place]})
    ids = [row["query_id"] for row in rows]
    return pa.table({
        "query_id": ids, "text": [row["text"] for row in rows], "shown": [row["shown"] for row in rows],
        "chosen": pa.array([row["chosen"] for row in rows], pa.list_(pa.int32())),
        "marked_wrong": pa.array([[]] * count, pa.list_(pa.int32())),
        "model": [""] * count, "space": [""] * count,
    })  # fmt: skip


def reached(world: World, table: pa.Table) -> list[Pair]:
    """Return the other pairs of those emoji that were clicked for a word that users know for them."""
    known = {(phrase.format(word), world.ids[number]): number for word, number in world.known for phrase in PHRASES}
    clicked = {known.get((row["text"], row["shown"][row["chosen"][0]])) for row in table.to_pylist()}
    return [pair for pair in world.others if pair[1] in clicked]


def recall(
    queries: Floats, pictures: Floats, targets: Sequence[int], k: int, ignored: npt.NDArray[np.bool_] | None = None
) -> float:
    """Return the share of queries whose drawing is among the first k; of those as near as it, half count as nearer.

    Args:
        queries: float32 [Q, D], unit length.
        pictures: float32 [N, D], unit length.
        targets: numbers of the drawings, Q.
        ignored: bool [Q, N], drawings that are taken out of a query's ranking.
    """
    cosines = queries @ pictures.T
    if ignored is not None:
        cosines = np.where(ignored, -np.inf, cosines)
    wanted = np.take_along_axis(cosines, np.array(targets)[:, None], 1)
    nearer = (cosines > wanted + TIE).sum(1)
    as_near = (cosines >= wanted - TIE).sum(1) - 1
    return float(((nearer + as_near) / 2 < k).mean())


def competing(world: World, pairs: Sequence[Pair]) -> npt.NDArray[np.bool_]:
    """Return which drawings carry a pair's word besides its own, bool [Q, N]: they don't compete."""
    carried = [[word in words for words in world.carried] for word, _ in pairs]
    ignored = np.array(carried).reshape(len(pairs), len(world.ids))
    ignored[np.arange(len(pairs)), [number for _, number in pairs]] = False
    return ignored
