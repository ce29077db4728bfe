"""One picture through an image tower, by each way of marqo's study of CLIP's inference: a figure, or the reason for none.

python bench/inference.py
python bench/inference.py --model openai/clip-vit-base-patch16 --photos FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from statistics import stdev

import numpy as np

from clip_client.preprocess import preprocess
from clip_export.evaluation.retrieval import Embeddings
from lib.checkpoints import checkpoint, exported, loaded
from lib.inference_ways import SERVED, ways
from lib.options import TURNS, parsed, setting
from lib.results import Result, publish
from lib.samples import photos
from lib.tables import Cell, Table
from lib.turns import Timings, in_turns

REFERENCE = "torch"
JUDGED = 16  # photos whose embeddings are compared


def main() -> None:
    """Export, take turns, compare."""
    options = parsed(__doc__, {"--rounds": (31, TURNS)})
    model = checkpoint(options.model)
    artifacts, _ = exported(model, options.photos, SERVED)
    tower = loaded(model)
    pixels = np.stack([preprocess(file.read_bytes(), tower.spec) for file in photos(options.photos)[:JUDGED]])
    every = dict(ways(tower, artifacts))
    encoders = {name: way for name, way in every.items() if not isinstance(way, str)}
    reasons = {name: way for name, way in every.items() if isinstance(way, str)}
    embeddings = {name: np.concatenate([encode(item[None]) for item in pixels]) for name, encode in encoders.items()}
    timings = in_turns({name: partial(encode, pixels[:1]) for name, encode in encoders.items()}, options.rounds, "inference")
    publish(result(timings, embeddings, reasons, options))


def result(
    timings: Mapping[str, Timings],
    embeddings: Mapping[str, Embeddings],
    reasons: Mapping[str, str],
    options: argparse.Namespace,
) -> Result:
    """Return milliseconds a picture with their spread, the speed-up over torch, the distance from its embeddings."""
    rows = [row(name, timings, embeddings) for name in timings]
    conditions = setting(options)
    notes = (
        f"One picture through the image tower, {options.rounds} rounds in turns: "
        f"{conditions['model']}, {conditions['photos']}. "
        "The ways are those of [marqo's study](https://github.com/wanliAlex/fast-clip-research) of CLIP, and the variants that "
        "clipserve would serve (*merged* is [approximate](export.md#fewer-tokens)). "
        "± is the standard deviation over the rounds; *largest difference* is that of "
        f"any number of {JUDGED} embeddings of unit length.",
    )
    columns = ("way", "ms", "±", "times as fast as torch", "cosine, mean", "largest difference")
    missing = Table(("way", "no figure, because"), list(reasons.items()))
    return Result("inference", "Ways to run an image tower", notes, [Table(columns, rows), missing], conditions)


def row(name: str, timings: Mapping[str, Timings], embeddings: Mapping[str, Embeddings]) -> tuple[Cell, ...]:
    """Return the row of a way."""
    mine, torch = embeddings[name].astype(np.float64), embeddings[REFERENCE].astype(np.float64)
    median_s, seconds = timings[name].median_s, timings[name].seconds
    return (
        name,
        1000 * median_s,
        1000 * stdev(seconds) if len(seconds) > 1 else None,
        timings[REFERENCE].median_s / median_s,
        float((mine * torch).sum(axis=1).mean()),
        float(np.abs(mine - torch).max()),
    )


if __name__ == "__main__":
    main()
