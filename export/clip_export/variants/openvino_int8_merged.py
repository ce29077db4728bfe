"""OpenVINO's IR in int8 with fewer tokens from layer to layer: an approximation of openvino-int8."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import ClassVar

import openvino
from torch import nn

from clip_export import json_record
from clip_export.artifact_files import BUILD_RECORD
from clip_export.towers.merged_image_tower import CannotMergeError, merge_tokens
from clip_export.variants.base import Limits, Source, UnfitError
from clip_export.variants.onnx_fp32 import MODEL_FILE as ONNX_FILE
from clip_export.variants.onnx_fp32 import OnnxFp32
from clip_export.variants.openvino_fp16 import MODEL_FILE
from clip_export.variants.openvino_int8 import OpenVinoInt8
from clip_export.variants.quantization import RECIPES, Recipe, quantize

_SHARES = (0.9, 0.7, 0.5, 0.3)


class OpenVinoInt8Merged(OpenVinoInt8):
    """Image tower whose layers join similar tokens, quantised with the recipe of openvino-int8.

    Its recipes are shares of the patches; all are tried, and the largest that passes the gate is kept.
    """

    name: ClassVar[str] = "openvino-int8-merged"
    approximates: ClassVar[str] = OpenVinoInt8.name
    limits: ClassVar[Limits] = Limits(cosine_min=0.8, cosine_mean=0.95, invariance=0.95)
    recipes: ClassVar[tuple[Recipe, ...]] = tuple(
        Recipe(f"{100 * share:.0f} % of the patches joined", RECIPES[0].smooth_quant_alpha, joined=share) for share in _SHARES
    )

    def caution(self) -> str:
        return f"approximate, its embeddings differ from {self.approximates}'s; {super().caution()}".removesuffix("; ")

    def build(self, source: Source, folder: Path) -> None:
        assert source.recipe  # noqa: S101  (of the recipes above)
        if source.tower != "image":
            raise UnfitError("tokens are joined in image towers only")
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            try:
                OnnxFp32().build(
                    dataclasses.replace(source, module=partial(_merged, source.module, source.recipe.joined)), Path(scratch)
                )
            except CannotMergeError as problem:
                raise UnfitError(str(problem)) from problem
            model = openvino.convert_model(Path(scratch) / ONNX_FILE)
            names = [node.get_friendly_name() for node in model.get_ordered_ops()]
            recipe = _recipe(source.artefact(OpenVinoInt8.name))
            openvino.save_model(quantize(model, names, source.calibration(), recipe, "mixed"), folder / MODEL_FILE)


def _merged(load: Callable[[], nn.Module], share: float) -> nn.Module:
    tower = load()
    merge_tokens(tower, share)
    return tower


def _recipe(artefact: Path) -> Recipe:
    """Return the recipe that an artefact of openvino-int8 was quantised with."""
    name = json_record.read(artefact / BUILD_RECORD)["recipe"]
    return next(recipe for recipe in RECIPES if recipe.name == name)
