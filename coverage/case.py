"""Cases of the coverage: a hub id through clipserve's real search, families, towers and comparison, behind a stand-in hub."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import hub_server
import numpy as np
import pytest
from hub_state import Hub

import open_clip_models
import own_libraries
import recipes
from clip_client.errors import ClipError
from clip_client.library_errors import one_line
from clip_client.spec import TOWERS, ModelSpec
from clip_export import families
from clip_export.builds.judge import Artifacts
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.checkpoints.find import find
from clip_export.checkpoints.pickles import Pickles
from clip_export.families.base import Family
from clip_export.oracle import comparison, record
from clip_export.oracle.items import Items
from clip_export.variants import REFERENCE
from clip_export.variants.base import Artefact
from recipe import Recipe, built

LEAST_COSINE = comparison.LEAST_COSINE
MOST_ALIKE = 0.99999
"""Two different inputs of a stand-in are less alike, or no difference would show above float32's rounding."""

RENAMED = {
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "xlm-roberta-large": "FacebookAI/xlm-roberta-large",
}
"""Ids of before the hub's accounts, by which files still name them."""


@dataclass(frozen=True)
class Row:
    """Result of a case.

    Attributes:
        name: hub id, or architecture.
        verdict: exact, refused, wrong, or failed where a case didn't come to its end.
        kind: layout of the repository, or kind of the tower.
        weights: form of the weights.
        cosine: the worst of all items, with the checkpoint's own library.
        why: of what isn't exact, in one line.
        model_type: as its config.json says, empty without one.
        seconds: of the case.
    """

    name: str
    verdict: str
    kind: str = ""
    weights: str = ""
    cosine: float = 0.0
    why: str = ""
    model_type: str = ""
    seconds: float = 0.0


def tried(name: str, folder: Path) -> Row:
    """Try a hub id of the recipes below a folder that is thrown away."""
    recipe = recipes.BY_ID[name]
    with served(name, folder) as hub:
        row = compared(recipe, folder)
        return replace(row, kind=recipe.kind, weights=recipe.weights, model_type=_model_type(hub.repositories[name].main))


@contextmanager
def served(name: str, folder: Path) -> Iterator[Hub]:
    """Serve a recipe's repository, and those that it names, to this process and to others."""
    with pytest.MonkeyPatch.context() as patch, hub_server.running({}) as hub, open_clip_models.narrow_timm():
        hub.renamed.update(RENAMED)
        hub.use(patch, folder / "home")
        serve(recipes.BY_ID[name], hub, folder / "repositories")
        yield hub


def serve(recipe: Recipe, hub: Hub, folder: Path) -> None:
    """Build a recipe, and before it all that it names, and put them on a hub."""
    for named in recipe.needs:
        if named not in hub.repositories:
            serve(recipes.BY_ID[named], hub, folder)
    hub.repositories[recipe.id] = built(recipe, folder / recipe.id.replace("/", "--"))


def compared(recipe: Recipe, folder: Path) -> Row:
    """Return the verdict of one id; errors that aren't clipserve's own are faults."""
    try:
        checkpoint = find(recipe.id, None, pickles=Pickles(folder / "converted"), merged=folder / "merged")
        family = families.of(checkpoint)
        spec = family.spec(checkpoint, "clip")
        return _judged(recipe, checkpoint, family, spec, folder / "artifacts")
    except ClipError as problem:
        return Row(recipe.id, "refused", why=line(str(problem), folder))
    except Exception as problem:
        at = traceback.extract_tb(problem.__traceback__)[-1]
        return Row(recipe.id, "failed", why=line(f"{one_line(problem)} ({Path(at.filename).name}:{at.lineno})", folder))


def _judged(recipe: Recipe, checkpoint: Checkpoint, family: Family, spec: ModelSpec, folder: Path) -> Row:
    folder.mkdir(parents=True)
    artifacts = Artifacts(folder, spec, partial(family.towers, checkpoint, spec), lambda _: None)
    verdicts = record.compared(checkpoint, family, artifacts, None)
    if missing := [f"the {tower} tower: {verdicts[tower].missing}" for tower in TOWERS if verdicts[tower].missing]:
        return Row(recipe.id, "failed", why=line(f"not compared: {'; '.join(missing)}", folder.parent))
    cosine = min(verdicts[tower].cosine_min for tower in TOWERS)
    if problems := [problem for tower in TOWERS if (problem := verdicts[tower].problem(tower))]:
        return Row(recipe.id, "wrong", cosine=cosine, why=line(problems[0], folder.parent))
    return _beside_own_library(recipe, checkpoint, artifacts, Row(recipe.id, "exact", cosine=cosine))


def _beside_own_library(recipe: Recipe, checkpoint: Checkpoint, artifacts: Artifacts, row: Row) -> Row:
    """Compare with the library called by the plain id, which knows nothing of what clipserve made of the repository."""
    if recipe.library not in own_libraries.LIBRARIES:
        return row
    theirs = dict(zip(TOWERS, own_libraries.LIBRARIES[recipe.library](recipe.id), strict=True))
    ours = _ours(checkpoint, artifacts)
    cosines = {tower: own_libraries.worst_cosine(ours[tower], theirs[tower]) for tower in TOWERS}
    alike = {tower: own_libraries.likeness(theirs[tower]) for tower in TOWERS}
    if max(alike.values()) > MOST_ALIKE:
        return replace(row, verdict="failed", why=f"the stand-in's embeddings are too alike to compare: {_each(alike)}")
    if min(cosines.values()) < LEAST_COSINE:
        return replace(
            row, verdict="wrong", cosine=min(cosines.values()), why=f"{recipe.library} by the plain id: {_each(cosines)}"
        )
    return replace(row, cosine=min(row.cosine, *cosines.values()))


def _ours(checkpoint: Checkpoint, artifacts: Artifacts) -> dict[str, list[np.ndarray]]:
    """Return our embeddings of the own library's pictures and texts."""
    encoders = {tower: REFERENCE.load(Artefact(artifacts.folder, tower, artifacts.module(tower))) for tower in TOWERS}
    ours = comparison.Ours(artifacts.spec, checkpoint.tokenizer_json, lambda tower: encoders[tower])
    drawn = {str(n): own_libraries.encoded(picture) for n, picture in enumerate(own_libraries.pictures())}
    given = ours.given(Items(drawn, {str(n): text for n, text in enumerate(own_libraries.TEXTS)}))
    return {tower: [*ours.embeddings(tower, _prepared(given[tower])).values()] for tower in TOWERS}


def _prepared(given: Mapping[str, np.ndarray | str]) -> dict[str, np.ndarray]:
    if refused := [f"{name}: {row}" for name, row in given.items() if isinstance(row, str)]:
        raise ValueError(f"an item of the comparison was refused, {refused[0]}")
    return {name: row for name, row in given.items() if not isinstance(row, str)}


def _each(values: Mapping[str, float]) -> str:
    return ", ".join(f"{tower} {value:.5f}" for tower, value in values.items())


def line(text: str, folder: Path) -> str:
    """Return a message in one line, without what differs from run to run."""
    text = " ".join(text.replace(str(folder), "FOLDER").split())
    return re.sub(r"\b[0-9a-f]{40}\b", "COMMIT", re.sub(r"(127\.0\.0\.1|localhost):\d+", "HUB", text))


def _model_type(folder: Path) -> str:
    config = folder / "config.json"
    return str(json.loads(config.read_text()).get("model_type", "")) if config.exists() else ""
