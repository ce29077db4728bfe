"""Post-training static quantisation to int8 with NNCF, by recipes from bold to careful."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, TypeVar


@dataclass(frozen=True)
class Recipe:
    """One way to quantise.

    Attributes:
        name: in the report.
        smooth_quant_alpha: share of the activations' range that moves into the weights, 0 to 1; -1 moves nothing.
        edges: quantise the first and the last layers too.
        attention: quantise attention too, not only the MLPs.
        joined: share of an image tower's patches that its layers join with others, 0 to 1.
    """

    name: str
    smooth_quant_alpha: float
    edges: bool = True
    attention: bool = True
    joined: float = 0.0


RECIPES = (
    Recipe("SmoothQuant 0.95", 0.95),
    Recipe("SmoothQuant 0.6", 0.6),
    Recipe("SmoothQuant 0.3", 0.3),
    Recipe("first and last layers in float", 0.6, edges=False),
    Recipe("MLPs only", 0.6, edges=False, attention=False),
)
"""Tried in this order until one passes the gate; 0.95 is NNCF's own choice."""

_LAYER = re.compile(r"^(?P<stack>.+?)\.(?P<number>\d+)[./]")
_ATTENTION = re.compile(r"attn|attention")
_MERGING = re.compile(r"\.merging/")  # its cosines choose among tokens, its sums are of few

Model = TypeVar("Model")


def quantize(model: Model, node_names: Sequence[str], items: Sequence[Any], recipe: Recipe, preset: str) -> Model:
    """Quantise an ONNX or OpenVINO model.

    Args:
        model: its nodes have the names of their modules, ``encoder.layers.0.mlp.fc1/MatMul_7``.
        node_names: of all its nodes.
        items: calibration inputs of the model, of one picture or text each.
        recipe: extent and strength of the quantisation.
        preset: ``performance`` for symmetric ranges, ``mixed`` for asymmetric ones of activations.
    """
    import nncf  # slow to import, and only needed here
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

    nncf.set_log_level(logging.ERROR)
    alphas = AdvancedSmoothQuantParameters(matmul=recipe.smooth_quant_alpha)
    kept = kept_in_float(node_names, recipe)
    with redirect_stdout(io.StringIO()):  # where it draws progress bars of its own
        quantized: Model = nncf.quantize(
            model,
            nncf.Dataset(items),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset(preset),
            subset_size=len(items),
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False) if kept else None,
            advanced_parameters=AdvancedQuantizationParameters(smooth_quant_alphas=alphas),
        )
    return quantized


def kept_in_float(node_names: Sequence[str], recipe: Recipe) -> list[str]:
    """Return the names of the nodes that a recipe keeps in float."""
    stack, numbers = _stack(node_names)
    ends = (min(numbers, default=0), max(numbers, default=0))
    kept = []
    for name in node_names:
        layer = _LAYER.match(name)
        inner = bool(layer and layer["stack"] == stack and int(layer["number"]) not in ends)
        if (not recipe.edges and not inner) or (not recipe.attention and _ATTENTION.search(name)) or _MERGING.search(name):
            kept.append(name)
    return kept


def _stack(node_names: Sequence[str]) -> tuple[str, set[int]]:
    """Return the longest stack of numbered layers, such as ``model.encoder.layers``, and its numbers."""
    stacks: dict[str, set[int]] = {}
    for layer in filter(None, map(_LAYER.match, node_names)):
        stacks.setdefault(layer["stack"], set()).add(int(layer["number"]))
    return max(stacks.items(), key=lambda item: len(item[1]), default=("", set()))
