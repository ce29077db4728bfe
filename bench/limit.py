"""Image tower beside the processor's limit: variants, and the bare matrix products of each.

python bench/limit.py
python bench/limit.py --model openai/clip-vit-base-patch32 --photos FOLDER
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import openvino
import torch
from openvino import opset13 as ov
from torch import nn

from clip_client.engines.openvino import plugin_properties
from clip_export.variants import REFERENCE, named
from clip_export.variants.openvino_fp16 import OpenVinoFp16
from lib.checkpoints import Loaded, checkpoint, encoder, exported, loaded
from lib.options import TURNS, parsed, setting
from lib.plotting import bars
from lib.results import Result, plot_path, publish
from lib.tables import Table
from lib.turns import Timings, Work, in_turns

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
VARIANTS = {"onnx-fp32": FLOAT32, "openvino-fp16": FLOAT32, "openvino-bf16": BFLOAT16, "openvino-int8": INT8}
"""Variant → type of the numbers that it multiplies."""

CLIPPED_AT = 4.0  # range of int8 in standard deviations

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Products:
    """Matrix products with as many multiplications as the linear layers of a tower, in matrices of its MLP's shape."""

    weights: tuple[Floats, ...]  # float32, each [out, in]; `in` is the previous matrix's `out`
    rows: int  # positions of a batch

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * sum(weight.size for weight in self.weights)

    def inputs(self) -> Floats:
        """Return float32 [rows, in]."""
        return np.random.default_rng(0).standard_normal((self.rows, self.weights[0].shape[1]), np.float32)


def main() -> None:
    """Export, take turns, compare."""
    options = parsed(__doc__, {"--rounds": (15, TURNS), "--batch": (32, "images in a batch")})
    model = checkpoint(options.model)
    variants = {name: numbers for name, numbers in VARIANTS.items() if not named(name).obstacle()}
    artifacts, _ = exported(model, options.photos, [*variants])
    tower, batch = loaded(model), pixels(loaded(model), options.batch)
    products = products_of(tower.towers["image"], batch)
    encoders = {REFERENCE.name: tower.encoder("image")} | {name: encoder(artifacts, name, "image") for name in variants}
    ways: dict[str, Work] = {name: partial(encode, batch) for name, encode in encoders.items()}
    ways |= {bare(FLOAT32, "torch"): in_torch(products)}
    ways |= {bare(numbers): in_openvino(products, numbers) for numbers in dict.fromkeys(variants.values())}
    publish(result(in_turns(ways, options.rounds, "limit"), variants, products, options))


def pixels(tower: Loaded, count: int) -> npt.NDArray[np.uint8]:
    """Return noise of the tower's size: uint8 [N, S, S, 3]."""
    size = tower.spec.image_size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def products_of(tower: nn.Module, batch: npt.NDArray[np.uint8]) -> Products:
    """Return a tower's products with weights, and nothing else of it."""
    linear = [module for module in tower.modules() if isinstance(module, nn.Linear)]
    widest = max(linear, key=lambda module: module.weight.numel())
    seen: list[int] = []
    hook = widest.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel() // widest.in_features))
    with torch.inference_mode():
        tower(torch.from_numpy(batch))
    hook.remove()
    draw, shape = np.random.default_rng(1), (widest.out_features, widest.in_features)
    count = round(sum(module.weight.numel() for module in linear) / widest.weight.numel() / 2)
    pairs = [matrix for _ in range(count) for matrix in (shape, shape[::-1])]
    return Products(tuple(draw.standard_normal(each, np.float32) / np.float32(each[1] ** 0.5) for each in pairs), seen[0])


def bare(numbers: str, engine: str = "OpenVINO") -> str:
    """Return the name of a way."""
    return f"products in {numbers}, {engine}"


def in_torch(products: Products) -> Work:
    """Return the products in float32, one after the other."""
    weights = [torch.from_numpy(weight) for weight in products.weights]
    inputs = torch.from_numpy(products.inputs())

    def work() -> object:
        hidden = inputs
        with torch.inference_mode():
            for weight in weights:
                hidden = nn.functional.linear(hidden, weight)
        return hidden

    return work


def in_openvino(products: Products, numbers: str) -> Work:
    """Return the products as one graph; in int8 with inputs and weights quantised as in a tower."""
    first = hidden = ov.parameter([products.rows, products.weights[0].shape[1]], np.float32)
    for weight in products.weights:
        kernel = ov.constant(weight)
        if numbers == INT8:
            step = np.abs(weight).max(axis=1, keepdims=True) / 127
            kernel = ov.convert(ov.constant(np.round(weight / step).astype(np.int8)), np.float32)
            kernel = ov.multiply(kernel, ov.constant(step))
            low, high = np.float32(-CLIPPED_AT), np.float32(CLIPPED_AT * 127 / 128)
            hidden = ov.fake_quantize(hidden, low, high, low, high, 256)
        hidden = ov.matmul(hidden, kernel, False, True)
    model = openvino.Model([ov.result(hidden)], [first])
    variant = next(named(name) for name, each in VARIANTS.items() if each == numbers and isinstance(named(name), OpenVinoFp16))
    request = openvino.Core().compile_model(model, "CPU", plugin_properties(variant.parameters)).create_infer_request()
    inputs = products.inputs()
    return lambda: request.infer([inputs])


def result(
    timings: Mapping[str, Timings], variants: Mapping[str, str], products: Products, options: argparse.Namespace
) -> Result:
    """Return the time of each variant beside that of its products alone."""
    ms = {name: 1000 * timing.median_s / options.batch for name, timing in timings.items()}
    limits = {numbers: min(ms[way] for way in ms if way.startswith(bare(numbers, ""))) for numbers in variants.values()}
    torch_ms, rows = ms[REFERENCE.name], []
    for name, numbers in {REFERENCE.name: FLOAT32, **variants}.items():
        limit = limits[numbers]
        rows.append((name, ms[name], limit, limit / ms[name], torch_ms / ms[name], torch_ms / limit))
    operations = products.operations / options.batch  # of one image
    rates = [(way, ms[way], operations / ms[way] / 1e6) for way in ms if way not in {REFERENCE.name, *variants}]
    conditions = setting(options)
    notes = (
        f"The image tower of {conditions['model']}, batches of {options.batch}, beside matrix products alone: as many "
        f"multiplications as its linear layers have ({operations / 2e9:.2f} billion an image), in matrices of its MLP's shape, "
        "each result the next one's input. No attention, no normalising, no activation: a yardstick for a tower.",
        "*Of the limit* may be above 1: the short cut in the last layer leaves out a fifteenth of a ViT-B/32, and bare "
        "products write each result out.",
    )
    tables = [
        Table(("variant", "ms an image", "products alone, ms", "of the limit", "times torch-fp32", "at most"), rows),
        Table(("products alone", "ms an image", "billion operations/s"), rates),
    ]
    shown = {"the tower": [row[1] for row in rows], "its products alone": [row[2] for row in rows]}
    plot = bars(plot_path("limit"), [row[0] for row in rows], shown, "milliseconds an image; less is better")
    return Result("limit", "How near it is to the processor's limit", notes, tables, conditions, [plot])


if __name__ == "__main__":
    main()
