"""Checks of a trial before anything is built: the parent's kin, the pictures' vectors, enough of both sets."""

from __future__ import annotations

import math
from pathlib import Path

from clip_client.errors import InvalidInput
from clip_client.printable_text import printable
from clip_client.spec import ModelSpec
from clip_export.baseline.candidates import Candidates
from clip_export.baseline.clicks import Clicks
from clip_export.baseline.models import Model
from clip_export.checkpoints.lineage import Lineage
from clip_export.evaluation.gate import Allowed
from clip_export.evaluation.items import Evaluation

LEAST_QUERIES = 50
"""Different queries, or pictures, below which an interval by resampling is narrower than it claims to be."""


def kin(this: Model, parent: Model) -> None:
    """Raise InvalidInput for a parent of another family, or one that is the checkpoint itself."""
    if this.spec.family != parent.spec.family:
        raise InvalidInput(
            f"--baseline {parent.spec.checkpoint} is of the family {parent.spec.family!r}, {this.spec.checkpoint} of "
            f"{this.spec.family!r}: pass the checkpoint that this one was made from"
        )
    if this.spec.fingerprint == parent.spec.fingerprint:
        raise InvalidInput(
            f"--baseline {parent.spec.checkpoint} and {this.spec.checkpoint} are the same checkpoint (fingerprint "
            f"{this.spec.fingerprint}): there is nothing to judge; pass the one that it was made from"
        )


def same_pictures(this: Model, parent: Model, lineage: Lineage | None) -> bool:
    """Return True if both image towers are the same to the bit; where artefacts don't tell their weights, too.

    Raises:
        InvalidInput: if the checkpoint's lineage promises it, and it isn't so.
    """
    differing = this.differing(parent, "image")
    if parent.spec.image_sha256 and parent.spec.image_sha256 != this.spec.image_sha256:
        differing.append("the image tower's weights")
    if differing and lineage and lineage.tower == "text":
        raise InvalidInput(
            f"{this.spec.checkpoint} was learned with its text tower alone, so its image tower must be its parent's, but it "
            f"isn't the one of --baseline {parent.spec.checkpoint}, by {', '.join(differing)}: pass the one that it "
            "was learned from; if its files were changed since, learn again"
        )
    return not differing


def general(evaluation: Evaluation, allowed: Allowed) -> None:
    """Raise InvalidInput for a general set without labels, or one too small to tell a loss of so many points."""
    if not evaluation.owners.size and not evaluation.labels.size:
        raise InvalidInput(
            f"--eval {evaluation.source}: --baseline needs pictures with captions or in folders by class, to tell what the "
            "checkpoint has forgotten"
        )
    needed = max(LEAST_QUERIES, math.ceil(100 / allowed.lost_points) if allowed.lost_points > 0 else 0)
    if (count := len(evaluation.pixels)) < needed:
        raise InvalidInput(
            f"--eval {evaluation.source} has {count} labelled pictures to judge on, {needed} are needed to tell a loss of "
            f"{allowed.lost_points:g} points (--max-loss): add some"
        )


def clicks(judged: Clicks) -> None:
    """Raise InvalidInput for too few clicks."""
    if judged.topics < LEAST_QUERIES:
        raise InvalidInput(
            f"--clicks {judged.source} has {judged.topics} different queries that can be judged, {LEAST_QUERIES} are needed, "
            f"some hundred are better ({judged.books()}): hold out more, or collect feedback for longer"
        )


def vectors(stored: Candidates, place: Path, spec: ModelSpec) -> None:
    """Raise InvalidInput for vectors of another space than the parent's."""
    if (size := stored.embeddings.shape[1]) != spec.embedding_size:
        raise InvalidInput(
            f"{place} has vectors of {size} numbers, {spec.checkpoint} makes {spec.embedding_size}: they aren't its own"
        )
    if stored.made_by and stored.made_by not in (spec.fingerprint, spec.space):
        raise InvalidInput(
            f"{place} has vectors of the checkpoint {printable(stored.made_by)}, the baseline is {spec.fingerprint}: pass the "
            "baseline whose collection was searched, or --click-pictures FOLDER"
        )


def same_queries(theirs: Evaluation, ours: Evaluation) -> None:
    """Raise InvalidInput if two models don't read the same pictures and texts of the general set."""
    if len(theirs.pixels) != len(ours.pixels) or len(theirs.tokens) != len(ours.tokens):
        raise InvalidInput(
            f"--eval {ours.source}: the baseline reads {len(theirs.pixels)} pictures of it, the checkpoint {len(ours.pixels)}: "
            "remove those that can't be read"
        )
