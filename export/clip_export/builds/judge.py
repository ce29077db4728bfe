"""Build the variants of a checkpoint, embed the evaluation with each, and ask the gate."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from clip_client.errors import ClipError, Unavailable
from clip_client.library_errors import one_line
from clip_client.spec import SPEC_FILE, TOWERS, ModelSpec, Tower
from clip_export import json_record, memory
from clip_export.artifact_files import BUILD_RECORD, EMBEDDINGS, NOT_WEIGHTS
from clip_export.builds import approximations, build_key
from clip_export.builds.verdicts import Cost, Judged, Missing, Try
from clip_export.evaluation import gate
from clip_export.evaluation.gate import Allowed, Gate, Invariance
from clip_export.evaluation.items import Calibration, Evaluation
from clip_export.evaluation.retrieval import Embeddings
from clip_export.progress import Progress
from clip_export.towers import Towers
from clip_export.variants import REFERENCE, named
from clip_export.variants.base import Artefact, Source, UnfitError, Variant
from clip_export.variants.quantization import Recipe


class Artifacts:
    """The artefacts of one checkpoint in ``<variant>/<tower>/``, and loaders of its towers: memory holds one at a time."""

    def __init__(self, folder: Path, spec: ModelSpec, load: Callable[[], Towers], progress: Progress) -> None:
        self.folder = folder
        self.spec = spec
        self.progress = progress
        self.towers = load

    def judge(self, evaluation: Evaluation, calibration: Calibration, allowed: Allowed) -> Judge:
        """Start to judge on an evaluation: torch embeds it first, unless it did before."""
        return Judge(self, evaluation, calibration, allowed)

    def module(self, tower: Tower) -> Callable[[], nn.Module]:
        """Return a loader of a torch tower, for this process or another."""
        return partial(_tower, self.towers, tower)


class Judge:
    """Builds missing artefacts, embeds the evaluation with them, and asks the gate.

    Attributes:
        reference: torch's embeddings of the evaluation by tower, float32 [N, D].
    """

    def __init__(self, artifacts: Artifacts, evaluation: Evaluation, calibration: Calibration, allowed: Allowed) -> None:
        self._artifacts = artifacts
        self._evaluation = evaluation
        self._calibration = calibration
        reference: dict[Tower, Embeddings] = {}
        for tower in TOWERS:
            folder = artifacts.folder / REFERENCE.name / tower
            if json_record.read(folder / BUILD_RECORD).get("build") != self._build_key(REFERENCE, tower):
                _replace(folder, self._build(REFERENCE, tower, None))
            reference[tower], _ = self._embedded(REFERENCE, tower, folder)
        self.reference = reference
        self._gate = Gate(evaluation, reference, allowed)

    def judged(self, variant: Variant, tower: Tower) -> Judged | Missing:
        """Judge one tower of a variant; an artefact of the same build isn't made again."""
        if reason := variant.obstacle():
            return Missing(tower, variant.name, reason)
        try:
            row = self._first_good(variant, tower)
            return dataclasses.replace(row, failures=[*row.failures, *self._gate.refusal(variant.approximates)])
        except UnfitError as problem:
            return Missing(tower, variant.name, str(problem))
        except (ClipError, OSError):
            raise
        except Exception as problem:  # of five engines, on a model that none of them may ever have seen
            return Missing(tower, variant.name, f"can't be built: {one_line(problem)}")

    def as_served(self, row: Judged) -> Judged:
        """Judge an image tower again behind the server's preprocessing, where that isn't exact."""
        evaluation = self._evaluation
        if row.tower == "text" or evaluation.served_pixels is evaluation.pixels:
            return row
        self._artifacts.progress(f"embedding with {row.variant}, as served")
        embeddings = gate.embed(named(row.variant).load(row.artefact), evaluation.served_pixels)
        scores = self._gate.scores("image", embeddings, row.scores.invariance)
        return dataclasses.replace(
            row, embeddings=embeddings, scores=scores, failures=[*row.failures, *self._gate.losses(scores)]
        )

    def retrieval(self, image: Judged, text: Judged) -> dict[str, float]:
        """Return recalls and accuracy of two towers together, 0 to 1 by name."""
        return self._gate.retrieval({"image": image.embeddings, "text": text.embeddings})

    def _first_good(self, variant: Variant, tower: Tower) -> Judged:
        """Go through the recipes until one passes, of an approximation through all; keep the first, else the nearest."""
        folder = self._artifacts.folder / variant.name / tower
        best = self._kept(variant, tower, folder)
        tries = list(best.tries) if best else []
        for recipe in variant.recipes or (None,):
            name = recipe.name if recipe else ""
            enough = best and not best.failures and not variant.approximates
            if enough or (best and name in [attempt.recipe for attempt in tries]):
                continue
            built = self._build(variant, tower, recipe)
            result = self._judge(variant, tower, built)
            tries.append(Try(name, result.failures, self._cost(variant, result)))
            if best is None or (best.failures and _better(result, best)):
                _replace(folder, built)
                best = dataclasses.replace(result, artefact=self._artefact(tower, folder))
            else:
                shutil.rmtree(built)
        if best is None:
            raise ValueError(f"{variant.name} has no recipe")
        json_record.update(folder / BUILD_RECORD, tries=[dataclasses.asdict(attempt) for attempt in tries])
        return dataclasses.replace(best, tries=tries)

    def _kept(self, variant: Variant, tower: Tower, folder: Path) -> Judged | None:
        """Judge the artefact of an earlier run; return None if weights or tools have changed."""
        record = json_record.read(folder / BUILD_RECORD)
        if record.get("build") != self._build_key(variant, tower):
            return None
        same = record.get("evaluation") == self._evaluation_key(tower)
        result = self._judge(variant, tower, folder)
        tries = [_try(fields) for fields in record["tries"]] if same and "tries" in record else []
        return dataclasses.replace(result, tries=tries or [Try(result.recipe, result.failures, self._cost(variant, result))])

    def _cost(self, variant: Variant, row: Judged) -> Cost | None:
        """Return the cost of an approximation; None for other variants."""
        if not variant.approximates:
            return None
        exact = named(variant.approximates)
        return approximations.cost(row, self._artefact(row.tower, self._folder_of(exact, row.tower)), self._evaluation)

    def _judge(self, variant: Variant, tower: Tower, folder: Path) -> Judged:
        embeddings, invariance = self._embedded(variant, tower, folder)
        scores, record = self._gate.scores(tower, embeddings, invariance), json_record.read(folder / BUILD_RECORD)
        return Judged(
            tower=tower,
            variant=variant.name,
            artefact=self._artefact(tower, folder),
            key=record["build"],
            size_bytes=sum(file.stat().st_size for file in folder.iterdir() if file.name not in NOT_WEIGHTS),
            embeddings=embeddings,
            scores=scores,
            failures=self._gate.failures(scores, variant.limits, bool(variant.recipes) and not variant.approximates),
            tries=[],
            recipe=record["recipe"],
        )

    def _embedded(self, variant: Variant, tower: Tower, folder: Path) -> tuple[Embeddings, Invariance]:
        """Embed the evaluation with an artefact, or read the embeddings of an earlier run from its folder."""
        record, key = json_record.read(folder / BUILD_RECORD), self._evaluation_key(tower)
        if record.get("evaluation") == key:
            return np.load(folder / EMBEDDINGS), Invariance(**record["invariance"])
        self._artifacts.progress(f"embedding with {variant.name}, {tower} tower")
        encode = variant.load(self._artefact(tower, folder))
        embeddings = gate.embed(encode, self._evaluation.inputs(tower))
        invariance = gate.invariance(encode, tower, self._evaluation, embeddings, self._artifacts.spec)
        del encode
        memory.give_back()
        np.save(folder / EMBEDDINGS, embeddings)
        json_record.update(folder / BUILD_RECORD, evaluation=key, invariance=dataclasses.asdict(invariance))
        return embeddings, invariance

    def _build(self, variant: Variant, tower: Tower, recipe: Recipe | None) -> Path:
        """Build beside the artefact's place, so that half of one is never taken for a whole."""
        scratch = self._artifacts.folder / variant.name / f".{tower}.building"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        with_recipe = f" ({recipe.name})" if recipe else ""
        self._artifacts.progress(f"building {variant.name}{with_recipe}, {tower} tower")
        variant.build(self._source(tower, recipe), scratch)
        memory.give_back()
        self._artifacts.spec.save(scratch / SPEC_FILE)
        build, name = self._build_key(variant, tower), recipe.name if recipe else ""
        json_record.update(scratch / BUILD_RECORD, variant=variant.name, build=build, recipe=name)
        return scratch

    def _source(self, tower: Tower, recipe: Recipe | None) -> Source:
        return Source(
            tower=tower,
            spec=self._artifacts.spec,
            module=self._artifacts.module(tower),
            artefact=lambda name: self._folder_of(named(name), tower),
            calibration=lambda: self._calibration.items(tower),
            recipe=recipe,
        )

    def _folder_of(self, variant: Variant, tower: Tower) -> Path:
        """Return a variant's folder for others to be made from; one without recipes needn't be judged for that."""
        folder = self._artifacts.folder / variant.name / tower
        if variant.recipes:
            row = self.judged(variant, tower)
            problem = row.reason if isinstance(row, Missing) else ""
        else:
            problem = variant.obstacle() or self._made(variant, tower, folder)
        if problem:
            raise Unavailable(f"{variant.name} of the {tower} tower, which others are made from, {problem}")
        return folder

    def _made(self, variant: Variant, tower: Tower, folder: Path) -> str:
        """Build an artefact unless it is there; return the reason if that fails."""
        if json_record.read(folder / BUILD_RECORD).get("build") == self._build_key(variant, tower):
            return ""
        try:
            _replace(folder, self._build(variant, tower, None))
        except (ClipError, OSError):
            raise
        except Exception as problem:
            return f"can't be built: {one_line(problem)}"
        return ""

    def _artefact(self, tower: Tower, folder: Path) -> Artefact:
        return Artefact(folder, tower, self._artifacts.module(tower))

    def _build_key(self, variant: Variant, tower: Tower) -> str:
        tools = {"builders": build_key.builders_digest()} | {tool: version(tool) for tool in ("clipserve", *variant.tools)}
        seen = self._calibration.digest(tower) if variant.recipes else ""
        return hashlib.sha256(json.dumps([self._artifacts.spec.fingerprint, tools, seen]).encode()).hexdigest()

    def _evaluation_key(self, tower: Tower) -> str:
        return f"{self._evaluation.digest(tower)}/{version('clipserve')}"


def _tower(load: Callable[[], Towers], tower: Tower) -> nn.Module:
    return load()[tower]


def _better(row: Judged, other: Judged) -> bool:
    return not row.failures or row.scores.cosine_mean > other.scores.cosine_mean


def _try(fields: Mapping[str, Any]) -> Try:
    """Restore a try from a record; those of earlier versions have no cost."""
    return Try(**{**fields, "cost": Cost(**fields["cost"]) if fields.get("cost") else None})


def _replace(folder: Path, built: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    built.rename(folder)
