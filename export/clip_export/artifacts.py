"""``artifacts/<checkpoint>/<variant>/<tower>/``: built once, embedded once, kept until something changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from clip_client.errors import ClipError, Unavailable
from clip_client.spec import SPEC_FILE, TOWERS, ModelSpec, Tower
from clip_export import gate
from clip_export.evaluation import Calibration, Evaluation
from clip_export.gate import Allowed, Gate, Invariance, Scores
from clip_export.quantization import Recipe
from clip_export.retrieval import Embeddings
from clip_export.towers import Towers
from clip_export.variants import REFERENCE, named
from clip_export.variants.base import Artefact, Source, Variant

REPORT_FILE, EMBEDDINGS_FILE = "report.json", "embeddings.npy"
BUILDERS = ("families/*.py", "variants/*.py", "quantization.py", "reading.py", "towers.py")
"""Our own modules that shape an artefact: an artefact of an older one is made again."""
NOT_WEIGHTS = (SPEC_FILE, REPORT_FILE, EMBEDDINGS_FILE)

Step = Callable[[str], None]
"""Told what is being done, for a progress line."""


@dataclass(frozen=True)
class Try:
    """One recipe and what the gate had against it; nothing if it passed."""

    recipe: str
    failures: list[str]


@dataclass(frozen=True)
class Judged:
    """One tower of one variant, built and measured.

    Attributes:
        artefact: its folder and how to open it.
        key: changes when it is built anew.
        size_bytes: of all its files.
        embeddings: of the evaluation, float32 [N, D].
        scores: from the gate.
        failures: what isn't good enough; empty if all is.
        tries: recipes that were tried, in order; the last one, or the best, is what was kept.
        recipe: its name; empty where nothing was quantised.
    """

    tower: Tower
    variant: str
    artefact: Artefact
    key: str
    size_bytes: int
    embeddings: Embeddings
    scores: Scores
    failures: list[str]
    tries: list[Try]
    recipe: str


@dataclass(frozen=True)
class Missing:
    """One tower of a variant that can't be had here, and why."""

    tower: Tower
    variant: str
    reason: str


class Artifacts:
    """The artefacts of one checkpoint, and what is needed to make those that are missing."""

    def __init__(self, folder: Path, spec: ModelSpec, load: Callable[[], Towers], step: Step) -> None:
        self.folder = folder
        self.spec = spec
        self._load = load
        self._step = step

    def judge(self, evaluation: Evaluation, calibration: Calibration, allowed: Allowed) -> Judge:
        """Start to judge on an evaluation: torch embeds it first, unless it did before."""
        return Judge(self, evaluation, calibration, allowed)

    def module(self, tower: Tower) -> Callable[[], nn.Module]:
        """Loads a torch tower, in this process or another."""
        return partial(_tower, self._load, tower)

    @cached_property
    def towers(self) -> Towers:
        """Both torch towers, loaded once."""
        self._step("loading the checkpoint")
        return self._load()

    def step(self, text: str) -> None:
        """Tell what is being done."""
        self._step(text)


class Judge:
    """Builds what is missing, embeds the evaluation with it, and asks the gate."""

    def __init__(self, artifacts: Artifacts, evaluation: Evaluation, calibration: Calibration, allowed: Allowed) -> None:
        self._artifacts = artifacts
        self._evaluation = evaluation
        self._calibration = calibration
        reference: dict[Tower, Embeddings] = {}
        for tower in TOWERS:
            folder = artifacts.folder / REFERENCE.name / tower
            if _read(folder / REPORT_FILE).get("build") != self._build_key(REFERENCE, tower):
                _replace(folder, self._build(REFERENCE, tower, None))
            reference[tower], _ = self._embedded(REFERENCE, tower, folder)
        self._gate = Gate(evaluation, reference, allowed)

    def judged(self, variant: Variant, tower: Tower) -> Judged | Missing:
        """One tower of a variant, or why there is none; what is there already isn't made again."""
        if reason := variant.obstacle():
            return Missing(tower, variant.name, reason)
        try:
            return self._first_good(variant, tower)
        except (ClipError, OSError):
            raise
        except Exception as problem:  # of five engines, on a model that none of them may ever have seen
            return Missing(tower, variant.name, f"can't be built: {_first_line(problem)}")

    def as_served(self, row: Judged) -> Judged:
        """An image tower judged behind the server's preprocessing, where that isn't exact."""
        evaluation = self._evaluation
        if row.tower == "text" or evaluation.served_pixels is evaluation.pixels:
            return row
        self._artifacts.step(f"embedding with {row.variant}, as served")
        embeddings = gate.embed(named(row.variant).load(row.artefact), evaluation.served_pixels)
        scores = self._gate.scores("image", embeddings, row.scores.invariance)
        return dataclasses.replace(
            row, embeddings=embeddings, scores=scores, failures=[*row.failures, *self._gate.losses(scores)]
        )

    def retrieval(self, image: Judged, text: Judged) -> dict[str, float]:
        """Recalls and accuracy of two towers together, 0 to 1 by name."""
        return self._gate.retrieval({"image": image.embeddings, "text": text.embeddings})

    def _first_good(self, variant: Variant, tower: Tower) -> Judged:
        """Go through the recipes until one passes; if none does, keep the one nearest to torch."""
        folder = self._artifacts.folder / variant.name / tower
        best = self._kept(variant, tower, folder)
        tries = list(best.tries) if best else []
        for recipe in variant.recipes or (None,):
            name = recipe.name if recipe else ""
            if best and (not best.failures or name in [one.recipe for one in tries]):
                continue
            built = self._build(variant, tower, recipe)
            result = self._judge(variant, tower, built)
            tries.append(Try(name, result.failures))
            if best is None or not result.failures or result.scores.cosine_mean > best.scores.cosine_mean:
                _replace(folder, built)
                best = dataclasses.replace(result, artefact=self._artefact(tower, folder))
            else:
                shutil.rmtree(built)
        if best is None:
            raise ValueError(f"{variant.name} has no recipe")
        _update(folder / REPORT_FILE, tries=[dataclasses.asdict(one) for one in tries])
        return dataclasses.replace(best, tries=tries)

    def _kept(self, variant: Variant, tower: Tower, folder: Path) -> Judged | None:
        """What an earlier run built from the same weights and tools."""
        report = _read(folder / REPORT_FILE)
        if report.get("build") != self._build_key(variant, tower):
            return None
        same = report.get("evaluation") == self._evaluation_key(tower)
        result = self._judge(variant, tower, folder)
        tries = [Try(**one) for one in report["tries"]] if same and "tries" in report else []
        return dataclasses.replace(result, tries=tries or [Try(result.recipe, result.failures)])

    def _judge(self, variant: Variant, tower: Tower, folder: Path) -> Judged:
        embeddings, invariance = self._embedded(variant, tower, folder)
        scores, report = self._gate.scores(tower, embeddings, invariance), _read(folder / REPORT_FILE)
        return Judged(
            tower=tower,
            variant=variant.name,
            artefact=self._artefact(tower, folder),
            key=report["build"],
            size_bytes=sum(file.stat().st_size for file in folder.iterdir() if file.name not in NOT_WEIGHTS),
            embeddings=embeddings,
            scores=scores,
            failures=self._gate.failures(scores, variant.limits, bool(variant.recipes)),
            tries=[],
            recipe=report["recipe"],
        )

    def _embedded(self, variant: Variant, tower: Tower, folder: Path) -> tuple[Embeddings, Invariance]:
        """The evaluation as this artefact embeds it, from its folder if it did before."""
        report, key = _read(folder / REPORT_FILE), self._evaluation_key(tower)
        if report.get("evaluation") != key:
            self._artifacts.step(f"embedding with {variant.name}, {tower} tower")
            encode = variant.load(self._artefact(tower, folder))
            embeddings = gate.embed(encode, self._evaluation.inputs(tower))
            invariance = gate.invariance(encode, tower, self._evaluation, embeddings, self._artifacts.spec)
            np.save(folder / EMBEDDINGS_FILE, embeddings)
            _update(folder / REPORT_FILE, evaluation=key, invariance=dataclasses.asdict(invariance))
            return embeddings, invariance
        return np.load(folder / EMBEDDINGS_FILE), Invariance(**report["invariance"])

    def _build(self, variant: Variant, tower: Tower, recipe: Recipe | None) -> Path:
        """Build beside the artefact's place, so that half of one is never taken for a whole."""
        scratch = self._artifacts.folder / variant.name / f".{tower}.building"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        how = f" ({recipe.name})" if recipe else ""
        self._artifacts.step(f"building {variant.name}{how}, {tower} tower")
        variant.build(self._source(tower, recipe), scratch)
        self._artifacts.spec.save(scratch / SPEC_FILE)
        build, name = self._build_key(variant, tower), recipe.name if recipe else ""
        _update(scratch / REPORT_FILE, variant=variant.name, build=build, recipe=name)
        return scratch

    def _source(self, tower: Tower, recipe: Recipe | None) -> Source:
        return Source(
            tower=tower,
            spec=self._artifacts.spec,
            module=lambda: self._artifacts.towers[tower],
            artefact=lambda name: self._folder_of(named(name), tower),
            calibration=lambda: self._calibration.items(tower),
            recipe=recipe,
        )

    def _folder_of(self, variant: Variant, tower: Tower) -> Path:
        found = self.judged(variant, tower)
        if isinstance(found, Missing):
            raise Unavailable(f"{found.variant} of the {tower} tower, which others are made from, {found.reason}")
        return found.artefact.folder

    def _artefact(self, tower: Tower, folder: Path) -> Artefact:
        return Artefact(folder, tower, self._artifacts.module(tower))

    def _build_key(self, variant: Variant, tower: Tower) -> str:
        tools = {"builders": builders_digest()} | {tool: version(tool) for tool in ("clipserve", *variant.tools)}
        seen = self._calibration.digest(tower) if variant.recipes else ""
        return hashlib.sha256(json.dumps([self._artifacts.spec.fingerprint, tools, seen]).encode()).hexdigest()

    def _evaluation_key(self, tower: Tower) -> str:
        return f"{self._evaluation.digest(tower)}/{version('clipserve')}"


@cache
def builders_digest() -> str:
    """Of the text of :data:`BUILDERS`."""
    here = Path(__file__).parent
    files = sorted(file for pattern in BUILDERS for file in here.glob(pattern))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _tower(load: Callable[[], Towers], tower: Tower) -> nn.Module:
    return load()[tower]


def _first_line(problem: Exception) -> str:
    """An engine's complaint, without its stack of C++ frames."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0][:200] if lines else 'no reason given'}"


def _replace(folder: Path, built: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    built.rename(folder)


def _read(path: Path) -> dict[str, Any]:
    """A report; empty where there is none, or half of one."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def _update(path: Path, **fields: Any) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(_read(path) | fields, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
