"""Cost and gain of a variant that approximates another."""

from __future__ import annotations

import time
from statistics import median

from clip_export.builds.verdicts import Cost, Judged
from clip_export.evaluation.items import Evaluation
from clip_export.variants import named
from clip_export.variants.base import Artefact, Encoder

_TURNS = 7


def cost(row: Judged, exact: Artefact, evaluation: Evaluation) -> Cost:
    """Return the cost of a row, timed in turns beside the artefact of the variant that it approximates."""
    variant, item = named(row.variant), evaluation.inputs(row.tower)[:1]
    encoders = (named(variant.approximates).load(exact), variant.load(row.artefact))

    def seconds(encode: Encoder) -> float:
        started = time.perf_counter()
        encode(item)
        return time.perf_counter() - started

    _, *turns = [tuple(map(seconds, encoders)) for _ in range(1 + _TURNS)]  # the first is for warmth
    return Cost(
        cosine_mean=row.scores.cosine_mean,
        lost_points=max(row.scores.lost.values(), default=None),
        times=median(slow / fast for slow, fast in turns),
    )
