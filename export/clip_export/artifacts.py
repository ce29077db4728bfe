"""``artifacts/<checkpoint>/<variant>/<tower>/``: built once, judged once, kept until something changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client.spec import SPEC_FILE, TOWERS, ModelSpec, Tower
from clip_export import gate
from clip_export.evaluation import Evaluation
from clip_export.gate import Scores
from clip_export.towers import Towers
from clip_export.variants import ONNX
from clip_export.variants.base import Source, Variant
from clip_export.variants.onnx_fp32 import MODEL_FILE as ONNX_FILE

REPORT_FILE = "report.json"

Step = Callable[[str], None]
"""Told what is being done, for a progress line."""


@dataclass(frozen=True)
class Judged:
    """One tower of one variant, built and measured.

    Attributes:
        folder: the artefact's files.
        size_bytes: of all of them.
        scores: from the gate.
        failures: names of the scores below the variant's limit.
    """

    tower: Tower
    variant: str
    folder: Path
    size_bytes: int
    scores: Scores
    failures: list[str]


class Artifacts:
    """The artefacts of one checkpoint, and what is needed to make those that are missing."""

    def __init__(self, folder: Path, spec: ModelSpec, evaluation: Evaluation, load: Callable[[], Towers]) -> None:
        self.folder = folder
        self.spec = spec
        self._evaluation = evaluation
        self._load = load

    def judged(self, variant: Variant, step: Step) -> list[Judged]:
        """Both towers of a variant; what was built and judged before, from the same weights and tools, is taken as is."""
        return [self._tower(variant, tower, step) for tower in TOWERS]

    def _tower(self, variant: Variant, tower: Tower, step: Step) -> Judged:
        folder = self._built(variant, tower, step)
        report, key = _read(folder / REPORT_FILE), f"{self._evaluation.digest}/{version('clipserve')}"
        if report.get("evaluation") != key:
            step(f"checking {variant.name} of the {tower} tower against torch")
            expected = self._references[tower]
            scores = gate.judge(variant.load(folder), tower, self._evaluation, expected, self.spec)
            report |= {"evaluation": key, "source": self._evaluation.source, "scores": dataclasses.asdict(scores)}
            _write(folder / REPORT_FILE, report)
        scores = Scores(**report["scores"])
        return Judged(tower, variant.name, folder, _size_bytes(folder), scores, scores.failures(variant.limit))

    def _built(self, variant: Variant, tower: Tower, step: Step) -> Path:
        """The artefact's folder. It is built beside its place and moved there: half of one is never taken for a whole."""
        folder, key = self.folder / variant.name / tower, self._build_key(variant)
        if _read(folder / REPORT_FILE).get("build") == key:
            return folder
        scratch = folder.with_name(f".{tower}.building")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        source = Source(
            tower,
            self.spec,
            module=lambda: self._towers[tower],
            onnx=lambda: self._built(ONNX, tower, step) / ONNX_FILE,
        )
        step(f"building {variant.name} of the {tower} tower")
        variant.build(source, scratch)
        self.spec.save(scratch / SPEC_FILE)
        _write(scratch / REPORT_FILE, {"variant": variant.name, "build": key})
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
        return folder

    def _build_key(self, variant: Variant) -> str:
        tools = {tool: version(tool) for tool in ("clipserve", *variant.tools)}
        return hashlib.sha256(json.dumps([self.spec.fingerprint, tools]).encode()).hexdigest()

    @cached_property
    def _towers(self) -> Towers:
        return self._load()

    @cached_property
    def _references(self) -> dict[Tower, npt.NDArray[np.float32]]:
        return {
            "image": gate.reference(self._towers.image, self._evaluation.pixels),
            "text": gate.reference(self._towers.text, self._evaluation.tokens),
        }


def _read(path: Path) -> dict[str, Any]:
    """A report; empty where there is none, or half of one."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def _write(path: Path, report: dict[str, Any]) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)


def _size_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.name not in (SPEC_FILE, REPORT_FILE))
